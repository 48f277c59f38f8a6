"""Candidates scored again from the vectors themselves.

Each score comes from its two vectors alone, so that it depends neither on the block in which a
document lies nor on the other candidates.

Shapes: Q queries, N documents, D dimensions, c candidates of each query, P pairs.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from leafkit.index.ranking import Ranking, best_first
from leafkit.index.vectors import Vectors

_READ_PAIRS = 8192  # whose documents are read together, each once
_CACHED_NUMBERS = 2**17  # multiplied at a time: both sides stay in a core's cache


def score_pairs(
    queries: np.ndarray,
    documents: Vectors,
    query_rows: np.ndarray,
    positions: np.ndarray,
    *,
    dtype: type[np.floating] = np.float32,
    prepare: Callable[[np.ndarray], np.ndarray] | None = None,
) -> np.ndarray:
    """(P,) float32 inner products of one query and one document each.

    Args:
        queries: (Q, D) float32.
        documents: (N, ...); only the pairs' are read, forwards where positions ascend.
        query_rows: (P,) row in ``queries``.
        positions: (P,) row in ``documents``.
        dtype: computed in; float64 makes the rounding to float32 the only one.
        prepare: what becomes of (n, ...) documents before they are compared, (n, D); None leaves
            them.
    """
    out = np.empty(len(positions), dtype=np.float32)
    num_cached = max(1, _CACHED_NUMBERS // queries.shape[1])
    for start in range(0, len(positions), _READ_PAIRS):
        wanted, rows = (x[start : start + _READ_PAIRS] for x in (positions, query_rows))
        distinct, which = np.unique(wanted, return_inverse=True)
        vectors = np.asarray(documents[distinct], dtype=np.float32)
        if prepare is not None:
            vectors = prepare(vectors)
        scores = out[start : start + _READ_PAIRS]
        for first in range(0, len(wanted), num_cached):
            part = slice(first, first + num_cached)
            left = queries[rows[part]].astype(dtype, copy=False)
            right = vectors[which[part]].astype(dtype, copy=False)
            scores[part] = np.einsum("pd,pd->p", right, left)
    return out


def score_candidates(
    queries: np.ndarray,
    documents: Vectors,
    positions: np.ndarray,
    dtype: type[np.floating] = np.float32,
) -> np.ndarray:
    """(Q, c) float32 inner products of each query with its own documents, (Q, c) positions; -inf
    where the position is -1.
    """
    rows = np.repeat(np.arange(len(positions)), positions.shape[1])
    scores = score_pairs(
        queries, documents, rows, np.maximum(positions, 0).ravel(), dtype=dtype
    ).reshape(positions.shape)
    scores[positions < 0] = -np.inf
    return scores


def rescore(queries: np.ndarray, documents: Vectors, positions: np.ndarray, k: int) -> Ranking:
    """The best ``k`` of each query's candidates by their float32 inner product.

    Args:
        queries: (Q, D) float32.
        documents: (N, D).
        positions: (Q, c) candidates, c >= k; -1 where there is none.
        k: results per query.
    """
    return best_first(Ranking(positions, score_candidates(queries, documents, positions)), k)
