"""How vectors are compared, as far as their lengths say it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from leafkit.core.errors import UsageError
from leafkit.embedders.pairs.pair_files import PairRow

SIMILARITIES = ("cosine", "dot")
ZERO = "its vector has length zero"  # said of a row
UNIT_TOLERANCE = 0.01  # as of vectors:FOLDER; float16 rounds


def find_odd(vectors: np.ndarray) -> tuple[int, float] | None:
    """Position and length of the first vector that is not of length one; None where all are.

    Args:
        vectors: (n, D), of any float type; what is not finite has no length and is left out.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.linalg.norm(vectors.astype(np.float32), axis=1)
        odd = np.flatnonzero(np.isfinite(lengths) & (abs(lengths - 1) > UNIT_TOLERANCE))
    return (int(odd[0]), float(lengths[odd[0]])) if len(odd) else None


def is_zero(vector: Sequence[float] | np.ndarray) -> bool:
    """Whether a vector has no direction in float32: no text is nearer to it than another.

    >>> is_zero([0.0, 1e-50]), is_zero([0.0, 1e-30])
    (True, False)
    """
    return not np.asarray(vector).astype(np.float32).any()


def check_lengths(vectors: np.ndarray, rows: Sequence[PairRow], where: str) -> None:
    """Refuse vectors whose cosines and inner products order in two ways, where nothing says which.

    Args:
        vectors: (n, D).
        rows: n, whose they are.
        where: the source, for the message.

    Raises:
        UsageError: one is not of length one.
    """
    odd = find_odd(vectors)
    if odd is not None:
        raise UsageError(
            f"{where}: the vector of {rows[odd[0]].id!r} has length {odd[1]:.3f}, and nothing says "
            "how vectors that are not of length one are compared",
            "similarity=cosine, as for most models, or similarity=dot for inner products of the "
            "vectors as they are",
        )
