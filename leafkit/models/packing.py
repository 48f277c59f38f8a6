"""Little padding: one batch as groups of texts of similar length."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def group_by_length(lengths: Sequence[int], max_waste: float = 0.1, max_tokens: int = 16384) -> list[np.ndarray]:
    """Groups of one batch with little padding: the share of padding in each group stays under ``max_waste``.

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
        if position > first and (padded > max_tokens or padded - (used + size[row]) > max_waste * padded):
            groups.append(order[first:position])
            first, used = position, 0
        used += size[row]
    if len(order):
        groups.append(order[first:])
    return groups
