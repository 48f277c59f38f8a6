"""One batch without padding, its tokens in one row, or with little: as groups of texts of similar
length.

Shapes: N tokens of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from leafkit.core.devices import send

TokenIds = Sequence[Sequence[int] | np.ndarray]  # by text: a list, or a view of a flat array


def group_by_length(
    lengths: Sequence[int], max_waste: float = 0.1, max_tokens: int = 16384
) -> list[np.ndarray]:
    """Groups of one batch with little padding: the share of padding in each group stays under
    ``max_waste``.

    Args:
        lengths: tokens per text.
        max_waste: largest share of padded positions in a group.
        max_tokens: limit of rows x longest row in a group.

    Returns:
        Index arrays that cover every text exactly once, longest group first.
    """
    size = np.asarray(lengths)
    order = np.argsort(-size, kind="stable")
    groups: list[np.ndarray] = []
    first, used = 0, 0
    for position, row in enumerate(order):
        width = size[order[first]]
        padded = (position + 1 - first) * width
        if position > first and (
            padded > max_tokens or padded - (used + size[row]) > max_waste * padded
        ):
            groups.append(order[first:position])
            first, used = position, 0
        used += size[row]
    if len(order):
        groups.append(order[first:])
    return groups


@dataclass(frozen=True, slots=True)
class Packed:
    """A batch as one row of tokens, texts sorted by length.

    Attributes:
        ids_N: token ids.
        positions_N: position of each token in its text.
        groups: ``(number of texts, length)`` of each run of equally long texts, in order.
        starts: where each text begins and the last one ends, (texts + 1,) int32, as variable-length
            kernels want it.
        order: row i of the packed batch is text ``order[i]``.
    """

    ids_N: torch.Tensor
    positions_N: torch.Tensor
    groups: list[tuple[int, int]]
    starts: torch.Tensor
    order: np.ndarray


def pack(token_ids: TokenIds, device: torch.device) -> Packed:
    """Concatenate texts, longest first."""
    lengths = np.array([len(ids) for ids in token_ids])
    order = np.argsort(-lengths, kind="stable")
    sizes, counts = np.unique(lengths, return_counts=True)
    ids = np.concatenate([np.asarray(token_ids[i], dtype=np.int64) for i in order])
    groups = [(int(r), int(t)) for t, r in zip(sizes[::-1], counts[::-1], strict=True)]
    starts = np.concatenate([[0], np.cumsum(lengths[order])])
    positions = np.arange(len(ids)) - np.repeat(starts[:-1], lengths[order])
    ids_N, positions_N, starts_of_texts = (
        send(torch.from_numpy(x), device) for x in (ids, positions, starts.astype(np.int32))
    )
    return Packed(ids_N, positions_N, groups, starts_of_texts, order)
