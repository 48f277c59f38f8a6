"""Texts in the order of what each adds to those before it, by a model's vectors of them: where a
teacher can embed a few of many texts, a student learns most of these.

The leverage of a text, x' (S + c I)^-1 x with S the sum of x x' over the texts taken so far, is
how little a ridge solution of those can say of it; the largest is taken (greedy D-optimal design,
Fedorov 1972). benchmarks/text_choice.py compares this order with others.

Shapes: N texts, H dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from leafkit.index.vectors import BLOCK_ROWS, Vectors

_PENALTY = 10.0  # c in mean eigenvalues: a ridge of .01 for 1,000 texts
# texts taken before leverages are computed again for all: as many as an eighth of those before
_FEWEST, _PART, _MOST = 64, 8, 4096
_CANDIDATES = 4  # times as many have the largest leverages, and are compared one by one


def order_by_leverage(vectors: Vectors, limit: int = 0) -> list[int]:
    """Numbers of ``limit`` texts, the one with the largest leverage first; of all where it is 0.

    Every beginning is the order of a smaller limit. A round, of 64 texts at first and of an eighth
    of those before it later, up to 4,096, takes O(N H^2), .7 s of a core for 100,000 texts and 384
    dimensions: 43 rounds for 33,000 texts, one more for each 4,096 more. Holds some 30 bytes a text
    and a block of vectors.

    Args:
        vectors: (N, H) finite, N at least 1, as long as the model made them: of normalized ones
            only the direction is left.
        limit: texts taken.

    >>> order_by_leverage(np.array([[1.0, 0], [-9, 0], [8, 0], [0, 3], [0, -3]]), 3)
    [1, 2, 3]
    """
    num_texts = len(vectors)
    most = min(limit, num_texts) if limit else num_texts
    mean, scale = _measure(vectors)
    inverse = np.eye(len(mean)) / (_PENALTY * scale)
    is_left = np.ones(num_texts, dtype=bool)
    order: list[int] = []
    while len(order) < most:
        size = min(max(_FEWEST, len(order) // _PART), _MOST)
        leverage = np.concatenate([_leverages(x - mean, inverse) for x in _blocks(vectors)])
        leverage[~is_left] = -np.inf
        candidates = np.sort(_largest(leverage, min(_CANDIDATES * size, num_texts - len(order))))
        x, left = vectors[candidates].astype(np.float32) - mean, leverage[candidates]
        for _ in range(min(size, most - len(order), len(candidates))):
            best = int(left.argmax())
            order.append(int(candidates[best]))
            along = inverse @ x[best]
            divisor = 1 + x[best] @ along
            left -= (x @ along) ** 2 / divisor
            left[best] = -np.inf
            inverse -= np.outer(along, along) / divisor
        is_left[order] = False
    return order


def _blocks(vectors: Vectors) -> Iterator[np.ndarray]:
    for start in range(0, len(vectors), BLOCK_ROWS):
        yield vectors[start : start + BLOCK_ROWS].astype(np.float32)


def _measure(vectors: Vectors) -> tuple[np.ndarray, float]:
    """(H,) float32 mean, and the mean eigenvalue of the covariance; 1 where nothing varies."""
    mean = sum(x.sum(axis=0, dtype=np.float64) for x in _blocks(vectors)) / len(vectors)
    mean = np.asarray(mean, dtype=np.float32)
    squares = sum(float(np.square(x - mean, dtype=np.float64).sum()) for x in _blocks(vectors))
    return mean, squares / len(vectors) / len(mean) or 1.0


def _leverages(x: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    """(n,) float64 of centred vectors."""
    found: np.ndarray = np.einsum("nh,nh->n", x @ inverse.astype(np.float32), x)
    return found.astype(np.float64)


def _largest(values: np.ndarray, count: int) -> np.ndarray:
    """Positions of the largest values; of equal ones the first."""
    return np.argsort(-values, kind="stable")[:count]
