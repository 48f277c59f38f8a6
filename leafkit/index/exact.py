"""Exact search through faiss: documents in blocks, in bounded memory, with one policy for ties.

Every exact search of the package is made of three pieces. ``TopK`` keeps the best documents of each
query while blocks of documents pass by; ``leafkit.index.ranking`` orders equals; ``scan`` looks a
second time where equals straddle the last place kept, so that which of them are found does not
depend on how faiss happened to meet them.

faiss multiplies 1,024 documents at a time. Blocks that are multiples of it leave every product in a
block of the same shape, so that scores do not depend on the blocks.

Shapes: Q queries, N documents, n of them in a block, D dimensions, k results.
"""

from __future__ import annotations

from collections.abc import Iterator

import faiss
import numpy as np

from leafkit.index.ranking import (
    Ranking,
    best_first,
    break_ties,
    longest_length,
    rounding,
)
from leafkit.index.rescoring import score_candidates
from leafkit.index.vectors import Vectors, read_blocks

# results searched beyond k: only a tie of so many makes a query's scores be computed again
SPARE = 8
_SCAN_ENTRIES = 2**22  # scores computed at a time beside faiss's own search, 16 MB


class TopK:
    """The best documents of each query among the blocks seen so far.

    Attributes:
        queries: (Q, D) float32, or (Q, D / 8) uint8 packed bits.
        depth: documents kept for each query.
        hamming: scores are minus the number of different bits, else inner products.
        scores: (Q, depth) float32, best first; -inf after the last.
        positions: (Q, depth) int64; -1 after the last.
    """

    def __init__(self, queries: np.ndarray, depth: int, *, hamming: bool = False) -> None:
        self.queries, self.depth, self.hamming = queries, depth, hamming
        empty = Ranking.empty(len(queries), depth)
        self.scores, self.positions = empty.scores, empty.positions
        self._is_empty = True

    @property
    def ranking(self) -> Ranking:
        """What was found, equals in the order in which the blocks came."""
        return Ranking(self.positions, self.scores)

    def add(self, block: np.ndarray, start: int) -> None:
        """Take in documents; among equals the one that came first stays.

        Args:
            block: (n, D) float32, or (n, D / 8) uint8.
            start: position of its first document.
        """
        count = min(self.depth, len(block))
        if self.hamming:
            distances, found = faiss.knn_hamming(self.queries, block, count)
            scores, positions = -distances.astype(np.float32), found.astype(np.int64)
        else:
            scores, positions = faiss.knn(
                self.queries, block, count, metric=faiss.METRIC_INNER_PRODUCT
            )
        if self._is_empty and count == self.depth:
            self._is_empty, self.scores, self.positions = False, scores, positions + start
            return
        self._is_empty = False
        better = np.flatnonzero(scores[:, 0] > self.scores[:, -1])
        both = Ranking(
            np.concatenate([self.positions[better], positions[better] + start], axis=1),
            np.concatenate([self.scores[better], scores[better]], axis=1),
        )
        best = best_first(both, self.depth)
        self.positions[better], self.scores[better] = best.positions, best.scores


def search_exact(
    queries: np.ndarray, documents: Vectors, k: int, ties: np.ndarray | None = None
) -> Ranking:
    """Exact maximum inner product search.

    With ``ties`` the search looks a little deeper, computes the candidates' scores again in float64
    and rounds them to float32, and orders equals by ``ties``, also where they straddle the k-th
    place: the result does not depend on the order of the documents.

    Args:
        queries: (Q, D), finite.
        documents: (N, D). Contiguous float32 in memory is searched in place and must be finite;
            anything else is read, and checked, a block at a time.
        k: results per query; N where that is less.
        ties: (N,) place of each document among equals, see ``tie_order``; None leaves equals as
            faiss found them.

    Raises:
        LeafkitError: a number that was read in blocks is not finite.
    """
    q = np.ascontiguousarray(queries, dtype=np.float32)
    k = min(k, len(documents))
    if not len(q) or not k:
        return Ranking.empty(len(q), k)
    best = TopK(q, k if ties is None else min(len(documents), k + SPARE))
    longest = 0.0
    for start, block in _blocks(documents):
        best.add(block, start)
        longest = max(longest, longest_length(block)) if ties is not None else 0.0
    if ties is None:
        return best.ranking
    exact = score_candidates(q, documents, best.positions, np.float64)
    found = break_ties(Ranking(best.positions, exact), ties, k)
    if best.depth < len(documents):
        # two scores differ by twice their rounding, and twice that is safe
        lowest = best.scores[:, k - 1] - 4 * rounding(q, longest)
        # a document that was not kept may be as good as the k-th
        is_open = np.flatnonzero(best.scores[:, -1] >= lowest)
        if len(is_open):
            _search_again(found, is_open, q, documents, lowest=lowest, ties=ties)
    return found


def _search_again(
    found: Ranking,
    rows: np.ndarray,
    queries: np.ndarray,
    documents: Vectors,
    *,
    lowest: np.ndarray,
    ties: np.ndarray,
) -> None:
    """Replace rows of ``found`` by the best of all documents that score ``lowest`` or more."""
    k = found.positions.shape[1]
    found.positions[rows] = -1
    for start, block in _blocks(documents):
        for i, columns, _ in scan(queries[rows], block, lowest[rows]):
            row = rows[i]
            near = columns[None]
            exact = score_candidates(queries[row : row + 1], block, near, np.float64)
            both = Ranking(
                np.concatenate([found.positions[row : row + 1], near + start], axis=1),
                np.concatenate([found.scores[row : row + 1], exact], axis=1),
            )
            best = break_ties(both, ties, k)
            found.positions[row], found.scores[row] = best.positions[0], best.scores[0]


def _blocks(documents: Vectors) -> Iterator[tuple[int, np.ndarray]]:
    """All of them at once where they lie in memory as faiss wants them."""
    if (
        isinstance(documents, np.ndarray)
        and not isinstance(documents, np.memmap)
        and documents.dtype == np.float32
        and documents.flags.c_contiguous
    ):
        return iter([(0, documents)])
    return read_blocks(documents)


def scan(
    queries: np.ndarray, block: np.ndarray, low: np.ndarray, high: np.ndarray | None = None
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Each query's row, and the columns and float32 scores of all its documents within bounds.

    Args:
        queries: (Q, D) float32.
        block: (n, D) float32.
        low: (Q,) smallest score.
        high: (Q,) largest score; None is without bound.
    """
    rows = max(1, _SCAN_ENTRIES // len(block))
    for start in range(0, len(queries), rows):
        part = slice(start, start + rows)
        scores = queries[part] @ block.T
        is_within = scores >= low[part, None]
        if high is not None:
            is_within &= scores <= high[part, None]
        for i in range(len(scores)):
            columns = np.flatnonzero(is_within[i])
            yield start + i, columns, scores[i, columns]


class TieCompletion:
    """Members of groups of equals that the last place kept cuts through, the first by position.

    Blocks of all documents pass by once more; ``finish`` writes what was found into the scores and
    positions that were given.
    """

    def __init__(
        self,
        best: TopK,
        rows: np.ndarray,
        last_group: np.ndarray,
        tolerance: np.ndarray,
    ) -> None:
        """Begin.

        Args:
            best: inner products, ties ordered by ``order_ties``.
            rows: (r,) the queries whose last group is incomplete.
            last_group: (Q,) where that group starts.
            tolerance: (Q,) scores no further apart are equal.
        """
        self._best, self._rows, self._first = best, rows, last_group[rows]
        self._queries = best.queries[rows]
        level = best.scores[rows, -1]
        self._low, self._high = level - tolerance[rows], level + tolerance[rows]
        self._found: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in rows]

    def add(self, block: np.ndarray, start: int) -> None:
        """Look at (n, D) documents, the first of them at the position ``start``."""
        for i, columns, scores in scan(self._queries, block, self._low, self._high):
            # rounding may bring a document that stands before the group within reach of it
            before = self._best.positions[self._rows[i], : self._first[i]] - start
            is_new = ~np.isin(columns, before)
            count = self._best.depth - self._first[i]
            self._found[i].append((columns[is_new][:count] + start, scores[is_new][:count]))

    def finish(self, *, level: bool = False) -> None:
        """Fill the last places with the group's first members.

        Args:
            level: leave the scores, since equals have one score already.
        """
        best = self._best
        for row, first, parts in zip(self._rows, self._first, self._found, strict=True):
            group = best.positions[row, first:], best.scores[row, first:]
            positions, scores = (np.concatenate(x) for x in zip(*parts, group, strict=True))
            members, at = np.unique(positions, return_index=True)
            count = best.depth - first
            best.positions[row, first:] = members[:count]
            if not level:
                best.scores[row, first:] = scores[at[:count]]


def nearest_others(vectors: np.ndarray, k: int) -> np.ndarray:
    """(n, k) positions of the nearest other rows, nearest first."""
    found = search_exact(vectors, vectors, k + 1).positions
    is_self = found == np.arange(len(vectors))[:, None]
    # a duplicate pushed the row itself out: drop the last instead
    is_self[~is_self.any(axis=1), -1] = True
    return found[~is_self].reshape(len(vectors), -1)
