"""Orders of the texts of a pool, the first ones to be embedded first. None needs the teacher.

Shapes: N texts, H hidden width of the start; an order is the (n,) numbers of the first n texts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from leafkit.core.truncate import truncate_then_normalize
from leafkit.evaluation.leverage import order_by_leverage
from text_choice_parts.words import order_by_words

SEED = 0
_NUM_CLUSTERS, _ROUNDS = 256, 8
_RIDGE = 1e-2  # of the head that an order prepares for, relative to the mean eigenvalue


@dataclass(frozen=True)
class Pool:
    """Texts to choose from.

    Attributes:
        texts: N texts.
        states: (N, H) of the start, pooled.
        tokens: (N,) that the teacher reads of each.
    """

    texts: Sequence[str]
    states: np.ndarray
    tokens: np.ndarray

    def __len__(self) -> int:
        return len(self.texts)

    @cached_property
    def centered(self) -> np.ndarray:
        """(N, H) float32 states about their mean."""
        found: np.ndarray = (self.states - self.states.mean(axis=0)).astype(np.float32)
        return found


def at_random(pool: Pool, count: int, seed: int = SEED) -> np.ndarray:
    """By lot."""
    return np.random.default_rng(seed).permutation(len(pool))[:count]


def as_they_came(pool: Pool, count: int) -> np.ndarray:
    """The first ones."""
    return np.arange(len(pool))[:count]


def shortest_first(pool: Pool, count: int) -> np.ndarray:
    """Those that cost least."""
    return np.argsort(pool.tokens, kind="stable")[:count]


def longest_first(pool: Pool, count: int) -> np.ndarray:
    """Those that say most."""
    return np.argsort(-pool.tokens, kind="stable")[:count]


def balanced(pool: Pool, count: int, *, power: float = 0.0) -> np.ndarray:
    """Clusters of the start's vectors in turns, at random inside each.

    Args:
        pool: to choose from.
        count: texts.
        power: turns of a cluster grow with its size to this power: 0 gives all the same, 1 is by
            lot.
    """
    unit = truncate_then_normalize(pool.centered)
    cluster = _cluster(unit, min(_NUM_CLUSTERS, len(unit)))
    sizes, seen = np.bincount(cluster), Counter[int]()
    chooser, turns = np.random.default_rng(SEED), np.empty(len(pool))
    for i in chooser.permutation(len(pool)).tolist():
        turns[i] = (seen[cluster[i]] + chooser.random()) / sizes[cluster[i]] ** power
        seen[cluster[i]] += 1
    return np.argsort(turns, kind="stable")[:count]


def _cluster(unit: np.ndarray, count: int) -> np.ndarray:
    """(N,) clusters of unit vectors by spherical k-means."""
    centers = unit[np.random.default_rng(SEED).permutation(len(unit))[:count]]
    for _ in range(_ROUNDS):
        cluster = (unit @ centers.T).argmax(axis=1)
        sums = np.zeros_like(centers)
        np.add.at(sums, cluster, unit)
        is_used = np.linalg.norm(sums, axis=1) > 0
        centers[is_used] = truncate_then_normalize(sums[is_used])
    nearest: np.ndarray = (unit @ centers.T).argmax(axis=1)
    return nearest


def farthest_first(pool: Pool, count: int) -> np.ndarray:
    """Each the farthest from all before it, by the cosine of the start's vectors (k-center,
    Gonzalez 1985).
    """
    unit = truncate_then_normalize(pool.centered)
    order = [0]
    nearest = unit @ unit[0]
    for _ in range(count - 1):
        order.append(int(nearest.argmin()))
        np.maximum(nearest, unit @ unit[order[-1]], out=nearest)
    return np.array(order)


def by_leverage(pool: Pool, count: int) -> np.ndarray:
    """As ``choose=leverage`` does: what those before it say least of."""
    return np.array(order_by_leverage(pool.states, count))


def by_variance(pool: Pool, count: int, *, is_per_token: bool = False) -> np.ndarray:
    """Each the one that most lowers the mean variance of a ridge solution's predictions over the
    whole pool: transductive experimental design (Yu, Bi and Tresp 2006), so that what is common
    counts beside what is new.

    Args:
        pool: to choose from.
        count: texts.
        is_per_token: the gain over the tokens of a text.
    """
    x, penalty = pool.centered, _penalty(pool, count)
    inverse = np.eye(x.shape[1]) / penalty
    spread = inverse @ (x.T @ x).astype(np.float64) @ inverse / len(x)
    leverage = np.einsum("nh,nh->n", x, x).astype(np.float64) / penalty
    lowered = np.einsum("nh,nh->n", x @ spread.astype(np.float32), x).astype(np.float64)
    order: list[int] = []
    for _ in range(count):
        gain = lowered / (1 + leverage) / (pool.tokens if is_per_token else 1)
        gain[order] = -np.inf
        order.append(int(gain.argmax()))
        new = x[order[-1]]
        a, m = inverse @ new, spread @ new
        divisor, both = 1 + new @ a, float(new @ m)
        along, across = ((x @ v.astype(np.float32)).astype(np.float64) for v in (a, m))
        lowered += (along * both / divisor - 2 * across) * along / divisor
        leverage -= along**2 / divisor
        mixed = np.outer(a, m)
        spread += np.outer(a, a) * both / divisor**2 - (mixed + mixed.T) / divisor
        inverse -= np.outer(a, a) / divisor
    return np.array(order)


def _penalty(pool: Pool, count: int) -> float:
    """Of a ridge solution of ``count`` texts."""
    return _RIDGE * count * float(np.mean(pool.centered**2))


def by_words(pool: Pool, count: int) -> np.ndarray:
    """By the word, most rare words that those before it lack. Reads no vector."""
    return np.array(order_by_words(pool.texts, count))
