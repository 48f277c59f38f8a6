"""Exact search through faiss, and how documents of equal score are ordered.

Shapes: Q queries, N documents, D dimensions, k results.

faiss returns equals in no order of theirs, and adds an inner product in an order that depends on
the block a document lies in, so that equal vectors may score an ulp apart. A search that is given
``ties`` looks a little deeper, computes the candidates' scores once more in float64 from the two
vectors alone, rounds them to float32, and orders equals by ``ties``, also where they straddle the
k-th place: its result does not depend on the order of the documents in the matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import faiss
import numpy as np

_SPARE = (
    8  # results searched beyond k: only a tie of so many makes a query's scores be computed again
)
_SPARE_BINARY = 54  # Hamming distances are whole numbers, so ties are long
_BLOCK_ENTRIES = 2**22  # of what is computed at a time beside faiss's own search, 32 MB


@dataclass(frozen=True, slots=True)
class Ranking:
    """The best documents of each query: positions and scores, (queries, k), best first; -1 fills
    where there are fewer.
    """

    positions: np.ndarray
    scores: np.ndarray


def tie_order(document_ids: Sequence[str]) -> np.ndarray:
    """(N,) int64: where each document stands among equals, as trec_eval has it: the greater id
    first.
    """
    order = sorted(range(len(document_ids)), key=document_ids.__getitem__, reverse=True)
    places = np.empty(len(order), dtype=np.int64)
    places[order] = np.arange(len(order))
    return places


def search_flat(
    queries: np.ndarray, documents: np.ndarray, k: int, ties: np.ndarray | None = None
) -> Ranking:
    """Exact maximum inner product search.

    Args:
        queries: (Q, D), finite.
        documents: (N, D), finite; used in place where they are contiguous float32.
        k: results per query; N where that is less.
        ties: (N,) place of each document among equals, see ``tie_order``; None leaves equals as
            faiss found them.
    """
    q, d = (np.ascontiguousarray(x, dtype=np.float32) for x in (queries, documents))
    k = min(k, len(d))
    if not len(q) or not k:
        return Ranking(
            np.empty((len(q), k), dtype=np.int64), np.empty((len(q), k), dtype=np.float32)
        )
    depth = k if ties is None else min(len(d), k + _SPARE)
    scores, positions = faiss.knn(q, d, depth, metric=faiss.METRIC_INNER_PRODUCT)
    if ties is None:
        return Ranking(positions, scores)
    # float32 sums of D products are off by about sqrt(D) eps |q| |d|, two scores by twice that;
    # twice again for safety
    longest = float(np.sqrt(np.einsum("nd,nd->n", d, d).max()))
    slack = 4 * np.sqrt(d.shape[1]) * np.finfo(np.float32).eps * longest * np.linalg.norm(q, axis=1)
    found = break_ties(Ranking(positions, _exact_scores(q, d, positions)), ties, k)
    if depth < len(d):
        lowest = scores[:, k - 1] - slack
        # a document that was not found may be as good as the k-th
        is_open = np.flatnonzero(scores[:, -1] >= lowest)
        rows = max(1, _BLOCK_ENTRIES // len(d))
        for start in range(0, len(is_open), rows):
            block = is_open[start : start + rows]
            for row, all_scores in zip(block.tolist(), q[block] @ d.T, strict=True):
                candidates = np.flatnonzero(all_scores >= lowest[row])[None]
                best = break_ties(
                    Ranking(candidates, _exact_scores(q[row : row + 1], d, candidates)), ties, k
                )
                found.positions[row], found.scores[row] = best.positions[0], best.scores[0]
    return found


def search_binary(
    queries: np.ndarray, documents: np.ndarray, k: int, ties: np.ndarray | None = None
) -> Ranking:
    """Exact Hamming search; scores are minus the number of different bits.

    Args:
        queries: (Q, D / 8) uint8, packed bits.
        documents: (N, D / 8) uint8, packed bits.
        k: results per query; N where that is less.
        ties: (N,) place of each document among equals, see ``tie_order``; None leaves equals as
            faiss found them.
    """
    q, d = np.ascontiguousarray(queries), np.ascontiguousarray(documents)
    k = min(k, len(d))
    if not len(q) or not k:
        return Ranking(
            np.empty((len(q), k), dtype=np.int64), np.empty((len(q), k), dtype=np.float32)
        )
    index = faiss.IndexBinaryFlat(d.shape[1] * 8)
    index.add(d)
    depth = k if ties is None else min(len(d), k + _SPARE_BINARY)
    distances, positions = index.search(q, depth)
    ranking = Ranking(positions, -distances.astype(np.float32))
    if ties is None:
        return ranking
    found = break_ties(ranking, ties, k)
    if depth < len(d):
        is_open = np.flatnonzero(distances[:, -1] == distances[:, k - 1])
        rows = max(1, _BLOCK_ENTRIES // len(d))
        for radius in np.unique(distances[is_open, k - 1]).tolist():
            members = is_open[distances[is_open, k - 1] == radius]
            for start in range(0, len(members), rows):
                block = members[start : start + rows]
                # all that are nearer than that
                limits, near, candidates = index.range_search(q[block], radius + 1)
                for row, first, last in zip(
                    block.tolist(), limits[:-1].tolist(), limits[1:].tolist(), strict=True
                ):
                    equals = Ranking(
                        candidates[None, first:last], -near[None, first:last].astype(np.float32)
                    )
                    best = break_ties(equals, ties, k)
                    found.positions[row], found.scores[row] = best.positions[0], best.scores[0]
    return found


def break_ties(ranking: Ranking, ties: np.ndarray, k: int | None = None) -> Ranking:
    """The first k results, best first, equals in the order of ``ties``, unfilled places last; a
    copy.
    """
    is_filled = ranking.positions >= 0
    falling = np.where(is_filled, -ranking.scores, np.inf)
    order = np.lexsort((np.where(is_filled, ties[ranking.positions], len(ties)), falling), axis=-1)[
        :, :k
    ]
    return Ranking(
        np.take_along_axis(ranking.positions, order, axis=1),
        np.take_along_axis(ranking.scores, order, axis=1),
    )


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
    order = np.argsort(is_own, axis=1, kind="stable")
    positions = np.take_along_axis(np.where(is_own, -1, ranking.positions), order, axis=1)
    scores = np.take_along_axis(np.where(is_own, -np.inf, ranking.scores), order, axis=1)
    return Ranking(positions[:, :k], scores[:, :k].astype(ranking.scores.dtype))


def nearest_others(vectors: np.ndarray, k: int) -> np.ndarray:
    """(n, k) positions of the nearest other rows, nearest first."""
    found = search_flat(vectors, vectors, k + 1).positions
    rows = np.arange(len(vectors))[:, None]
    is_self = found == rows
    is_self[~is_self.any(axis=1), -1] = (
        True  # a duplicate pushed the row itself out: drop the last instead
    )
    return found[~is_self].reshape(len(vectors), -1)


def _exact_scores(q: np.ndarray, d: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """(Q, m) float32 inner products with the documents at ``positions`` (Q, m), each from its two
    vectors alone.
    """
    out = np.empty(positions.shape, dtype=np.float32)
    columns = min(positions.shape[1], max(1, _BLOCK_ENTRIES // q.shape[1]))
    rows = max(1, _BLOCK_ENTRIES // (columns * q.shape[1]))
    for top in range(0, len(q), rows):
        wide = q[top : top + rows].astype(np.float64)
        for left in range(0, positions.shape[1], columns):
            near = d[positions[top : top + rows, left : left + columns]].astype(np.float64)
            out[top : top + rows, left : left + columns] = np.einsum("qmd,qd->qm", near, wide)
    return out
