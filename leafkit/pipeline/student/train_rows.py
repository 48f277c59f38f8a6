"""Which texts a student's training reads, as arrays: a million rows as Python tuples take 100 MB.

Shapes: n rows, each (number of the target, number of its text).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet

import numpy as np

from leafkit.data.stored.flat_tokens import FlatTokens
from leafkit.pipeline.student.targets import Target


def train_rows(
    targets: Sequence[Target],
    is_wanted: Callable[[int, Target], bool] = lambda number, target: True,
    *,
    without: AbstractSet[str] = frozenset(),
) -> np.ndarray:
    """(n, 2) int32 rows of a pass, in order; a target's texts come as often as it repeats them.

    Args:
        targets: of the student.
        is_wanted: asked of the number of a target and of it.
        without: texts that train nothing.
    """
    parts = [np.empty((0, 2), dtype=np.int32)]
    for number, target in enumerate(targets):
        if is_wanted(number, target):
            kept = np.fromiter(
                (i for i, text in enumerate(target.texts) if text not in without), dtype=np.int32
            )
            rows = np.stack([np.full_like(kept, number), kept], axis=1)
            parts += [rows] * target.repeats
    return np.concatenate(parts)


def pairs_of(rows: np.ndarray) -> list[tuple[int, int]]:
    """Some rows as pairs of numbers."""
    return [(group, text) for group, text in rows.tolist()]


def lengths_of(token_ids: Sequence[FlatTokens], rows: np.ndarray) -> np.ndarray:
    """(n,) int64 tokens of rows.

    Args:
        token_ids: by target.
        rows: (n, 2).
    """
    starts = np.cumsum([0, *map(len, token_ids)])
    lengths = np.concatenate([of_target.lengths for of_target in token_ids])
    found: np.ndarray = lengths[starts[rows[:, 0]] + rows[:, 1]]
    return found
