"""Rankings, and how documents of equal score are ordered: the one policy of every exact search.

Two scores are equal where they differ by no more than they may be off. A float32 inner product of D
products is off by up to about sqrt(D) eps |q| |d| (``rounding``), because faiss adds in an order
that depends on the block a document lies in, so that equal vectors score an ulp apart; Hamming
distances and scores computed again in float64 are exact. Equals stand in the order of their places:
of ``tie_order`` where results are compared with judgments, else of their positions.

Shapes: Q queries, K results of each, N documents, D dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Ranking:
    """The best documents of each query.

    Attributes:
        positions: (Q, K) int64, best first; -1 fills where there are fewer.
        scores: (Q, K) float32.
    """

    positions: np.ndarray
    scores: np.ndarray

    @classmethod
    def empty(cls, num_queries: int, k: int) -> Ranking:
        """(Q, K) unfilled places: -1 and -inf."""
        shape = num_queries, k
        return cls(np.full(shape, -1, dtype=np.int64), np.full(shape, -np.inf, dtype=np.float32))


def tie_order(document_ids: Sequence[str]) -> np.ndarray:
    """(N,) int64: where each document stands among equals, as trec_eval has it: the greater id
    first.
    """
    order = sorted(range(len(document_ids)), key=document_ids.__getitem__, reverse=True)
    places = np.empty(len(order), dtype=np.int64)
    places[order] = np.arange(len(order))
    return places


def rounding(queries: np.ndarray, longest: float) -> np.ndarray:
    """(Q,) how far a float32 inner product with a document may be off.

    Args:
        queries: (Q, D) float32.
        longest: length of the longest document vector.
    """
    eps = np.finfo(np.float32).eps
    tolerance: np.ndarray = (
        np.sqrt(queries.shape[1]) * eps * longest * np.linalg.norm(queries, axis=1)
    )
    return tolerance


def longest_length(documents: np.ndarray) -> float:
    """Length of the longest of (N, D) vectors, N > 0."""
    return float(np.sqrt(np.einsum("nd,nd->n", documents, documents).max()))


def break_ties(ranking: Ranking, ties: np.ndarray, k: int | None = None) -> Ranking:
    """The first k results, best first, exact equals in the order of ``ties``, unfilled places last;
    a copy.

    Args:
        ranking: in any order.
        ties: (N,) place of each document among equals.
        k: results kept; None keeps all.
    """
    is_filled = ranking.positions >= 0
    falling = np.where(is_filled, -ranking.scores, np.inf)
    places = np.where(is_filled, ties[ranking.positions], len(ties))
    return _take(ranking, np.lexsort((places, falling), axis=-1)[:, :k])


def best_first(ranking: Ranking, k: int) -> Ranking:
    """The k results of the highest scores; equals stay in the order in which they stand."""
    return _take(ranking, np.argsort(-ranking.scores, axis=1, kind="stable")[:, :k])


def order_ties(
    scores: np.ndarray, positions: np.ndarray, tolerance: np.ndarray, level: bool = False
) -> np.ndarray:
    """Order equals by position, in place; each reaches as far as neighbours are equal.

    Args:
        scores: (Q, K) float32, best first.
        positions: (Q, K).
        tolerance: (Q,) neighbours no further apart are equal.
        level: give equals one score, that of the first; else each keeps its own.

    Returns:
        (Q,) where each query's last group of equals starts.
    """
    with np.errstate(invalid="ignore"):  # -inf minus -inf where there are fewer than K documents
        is_tie = scores[:, :-1] - scores[:, 1:] <= tolerance[:, None]
    rows = np.flatnonzero(is_tie.any(axis=1))
    if len(rows):
        group = np.zeros((len(rows), scores.shape[1]), dtype=np.int64)
        np.cumsum(~is_tie[rows], axis=1, out=group[:, 1:])
        order = np.argsort(group * (positions.max() + 1) + positions[rows], axis=1)
        if level:
            is_first = np.diff(group, axis=1, prepend=-1) > 0
            starts = np.maximum.accumulate(
                np.where(is_first, np.arange(scores.shape[1]), 0), axis=1
            )
        scores[rows] = np.take_along_axis(scores[rows], starts if level else order, axis=1)
        positions[rows] = np.take_along_axis(positions[rows], order, axis=1)
    num_equal_to_last = np.cumprod(is_tie[:, ::-1], axis=1).sum(axis=1)
    start_of_last: np.ndarray = scores.shape[1] - 1 - num_equal_to_last
    return start_of_last


def exclude_self(ranking: Ranking, own: Sequence[int] | np.ndarray, k: int) -> Ranking:
    """The first k results other than each query's own document.

    Args:
        ranking: of Q queries, at least k + 1 deep where there are so many documents.
        own: (Q,) position of the document to leave out; -1 for none.
        k: results kept.
    """
    at = np.asarray(own, dtype=np.int64)
    if not (at >= 0).any():
        return Ranking(ranking.positions[:, :k], ranking.scores[:, :k])
    is_own = (ranking.positions == at[:, None]) & (at[:, None] >= 0)
    order = np.argsort(is_own, axis=1, kind="stable")[:, :k]
    rest = Ranking(
        np.where(is_own, -1, ranking.positions), np.where(is_own, -np.inf, ranking.scores)
    )
    found = _take(rest, order)
    return Ranking(found.positions, found.scores.astype(ranking.scores.dtype))


def _take(ranking: Ranking, order: np.ndarray) -> Ranking:
    return Ranking(
        np.take_along_axis(ranking.positions, order, axis=1),
        np.take_along_axis(ranking.scores, order, axis=1),
    )
