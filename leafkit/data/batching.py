"""Batches as pure functions of (lengths, seed, epoch): every process computes the same ones and
takes its share.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def token_budget_batches(
    lengths: Sequence[int] | np.ndarray,
    max_tokens: int,
    max_rows: int,
    seed: int,
    *,
    epoch: int,
    window: int = 4096,
) -> list[np.ndarray]:
    """Batches of texts of similar length whose padded size stays within ``max_tokens``, in random
    order.

    Texts are shuffled, then sorted by length inside windows, so that padding is small and batches
    still mix.

    Args:
        lengths: tokens per text.
        max_tokens: limit of rows x longest row; a single text above it gets a batch of its own.
        max_rows: limit of rows.
        seed: of the order.
        epoch: counts passes; every pass has another order.
        window: texts sorted together.

    Returns:
        Index arrays that cover every text exactly once.
    """
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(len(lengths))
    size = np.asarray(lengths)
    batches: list[np.ndarray] = []
    for start in range(0, len(order), window):
        part = order[start : start + window]
        part = part[np.argsort(size[part], kind="stable")]
        first = 0
        for last in range(1, len(part) + 1):
            is_end = last == len(part)
            if (
                is_end
                or (last + 1 - first) * size[part[last]] > max_tokens
                or last - first >= max_rows
            ):
                batches.append(part[first:last])
                first = last
    return [batches[i] for i in generator.permutation(len(batches))]


def share_of_rank(batch: np.ndarray, rank: int, world_size: int) -> np.ndarray:
    """The rows of a global batch that one process takes; shares differ by at most one row."""
    return batch[rank::world_size]


def neighbor_batches(
    neighbors: np.ndarray, batch_size: int, seed: int, num_batches: int
) -> list[np.ndarray]:
    """Batches whose rows are near one another, so that in-batch negatives are hard (ANCE-style,
    without mined lists).

    Each batch grows from a random unused row through its nearest unused neighbours, and theirs,
    until it is full.

    Args:
        neighbours: (n, k) for each row the nearest other rows, nearest first.
        batch_size: rows per batch.
        seed: of the starting rows.
        num_batches: batches wanted; rows are used again, in another grouping, when all have been
            used once.
    """
    generator = np.random.default_rng(seed)
    batches: list[np.ndarray] = []
    while len(batches) < num_batches:
        unused = np.ones(len(neighbors), dtype=bool)
        before = len(batches)
        for start in generator.permutation(len(neighbors)):
            if len(batches) == num_batches:
                break
            if not unused[start]:
                continue
            batch = _grow(neighbors, unused, int(start), batch_size)
            if len(batch) == batch_size:
                batches.append(np.asarray(batch))
        if len(batches) == before:
            raise ValueError(f"{len(neighbors)} rows do not fill one batch of {batch_size}")
    return batches


def _grow(neighbors: np.ndarray, unused: np.ndarray, start: int, batch_size: int) -> list[int]:
    batch = [start]
    unused[start] = False
    for row in batch:  # grows while it is walked: neighbours first, then neighbours of neighbours
        for near in neighbors[row]:
            if len(batch) == batch_size:
                return batch
            if unused[near]:
                unused[near] = False
                batch.append(int(near))
    rest = np.flatnonzero(unused)[: batch_size - len(batch)]
    unused[rest] = False
    return batch + rest.tolist()


def random_batches(num_rows: int, batch_size: int, seed: int, num_batches: int) -> list[np.ndarray]:
    """Batches of different rows in random order; rows are used again when all were used once."""
    generator = np.random.default_rng(seed)
    batches: list[np.ndarray] = []
    if num_rows < batch_size:
        raise ValueError(f"{num_rows} rows do not fill one batch of {batch_size}")
    while len(batches) < num_batches:
        order = generator.permutation(num_rows)
        batches += [
            order[i : i + batch_size] for i in range(0, num_rows - batch_size + 1, batch_size)
        ]
    return batches[:num_batches]
