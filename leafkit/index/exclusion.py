"""Rankings without the documents that are known to be relevant, a block of queries at a time.

Ties are ordered by position (``leafkit.index.ranking``); a query with many known documents is
searched so much deeper.

Shapes: Q distinct queries, b of them in a block, N documents, D dimensions, K ranks looked at.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import faiss
import numpy as np

from leafkit.index.exact import SPARE, TieCompletion, TopK
from leafkit.index.ranking import longest_length, order_ties, rounding
from leafkit.index.vectors import Vectors, as_floats

# queries per search: faiss itself multiplies 4096 at a time, so smaller blocks only cost
BLOCK_ROWS = 4096
# of a block's ranking: 50 MB of scores and positions, however many known documents queries have
_BLOCK_ENTRIES = 2**22
_MAX_DEPTH_GPU = 2048  # faiss refuses more results per query on a GPU

T = TypeVar("T")
R = TypeVar("R")
Search = Callable[[np.ndarray, int], TopK]


@dataclass(frozen=True, slots=True)
class Block:
    """Some queries and their rankings without known documents.

    Attributes:
        members: (b,) which of the queries searched for.
        queries: (b, D) float32 their vectors.
        positions: (b, K) int64 documents, best first; -1 after the last.
        scores: (b, K) float32 inner products; -inf after the last.
        tolerance: (b,) scores no further apart than this are equal.
    """

    members: np.ndarray
    queries: np.ndarray
    positions: np.ndarray
    scores: np.ndarray
    tolerance: np.ndarray


def search_excluding(
    queries: Vectors,
    numbers: np.ndarray,
    vectors: np.ndarray,
    known: Sequence[AbstractSet[int]],
    *,
    num_ranks: int,
    block_rows: int = BLOCK_ROWS,
) -> Iterator[Block]:
    """The best documents of each query other than its known ones; memory is two blocks.

    faiss searches the next block in a thread of its own while the caller works on this one.

    Args:
        queries: (Q, D), read a block at a time.
        numbers: (n,) the queries to search for.
        vectors: (N, D) float32 of the documents, N > 0.
        known: (n,) for each of them the documents left out.
        num_ranks: K.
        block_rows: queries searched at a time, fewer where they must be searched deep; changes
            memory and speed only.

    Raises:
        LeafkitError: a query's vector is not finite.
        ValueError: a known document's position is below 0.
    """
    search, longest = _searcher(vectors), longest_length(vectors)

    def find(block: tuple[np.ndarray, int]) -> tuple[np.ndarray, TopK]:
        members, depth = block
        return members, search(as_floats(queries, numbers[members], "query"), depth)

    blocks = _plan_blocks([len(k) for k in known], num_ranks, len(vectors), block_rows)
    for members, best in _one_ahead(find, blocks):
        known_here = [known[i] for i in members]
        tolerance = rounding(best.queries, longest)
        last_group = order_ties(best.scores, best.positions, tolerance)
        is_other = _is_other(best.positions, known_here)
        before = np.where(np.arange(best.depth) < last_group[:, None], is_other, False).sum(axis=1)
        cut = np.flatnonzero(before < num_ranks)
        # the ranks wanted reach into a group of equals that faiss cut off
        if best.depth < len(vectors) and len(cut):
            completion = TieCompletion(best, cut, last_group, tolerance)
            completion.add(vectors, 0)
            completion.finish()
            is_other = _is_other(best.positions, known_here)
        scores, positions = _take(best.scores, best.positions, is_other, num_ranks)
        yield Block(members, best.queries, positions, scores, tolerance)


def _one_ahead(work: Callable[[T], R], items: Iterator[T]) -> Iterator[R]:
    """``map`` whose next result is computed while the caller uses this one."""
    with ThreadPoolExecutor(1) as pool:
        pending = [pool.submit(work, item) for item in itertools.islice(items, 1)]
        while pending:
            result = pending.pop().result()
            pending = [pool.submit(work, item) for item in itertools.islice(items, 1)]
            yield result


def _plan_blocks(
    num_known: list[int], num_ranks: int, num_documents: int, block_rows: int
) -> Iterator[tuple[np.ndarray, int]]:
    """Queries to search together and how deep, so that ``num_ranks`` documents remain beside each
    one's known ones.

    Queries with few known documents come first: one with thousands must not deepen the search of
    all.
    """
    order, sizes = np.argsort(num_known, kind="stable"), np.sort(num_known)
    start = 0
    while start < len(order):
        deepest = num_ranks + SPARE + int(sizes[min(start + block_rows, len(order)) - 1])
        stop = min(start + min(block_rows, max(1, _BLOCK_ENTRIES // deepest)), len(order))
        yield order[start:stop], min(num_documents, num_ranks + SPARE + int(sizes[stop - 1]))
        start = stop


def _is_other(positions: np.ndarray, known: Sequence[AbstractSet[int]]) -> np.ndarray:
    """(b, depth) bool: documents that are not known ones of their query."""
    lengths = [len(k) for k in known]
    flat = np.fromiter(itertools.chain.from_iterable(known), dtype=np.int64, count=sum(lengths))
    if not len(flat):
        return np.ones(positions.shape, dtype=bool)
    if flat.min() < 0:
        raise ValueError(f"a known document has the position {flat.min()}")
    stride = max(int(positions.max()), int(flat.max())) + 1
    flat = np.sort(flat + np.repeat(np.arange(len(known)) * stride, lengths))
    keys = positions + np.arange(len(known))[:, None] * stride
    return flat[np.minimum(np.searchsorted(flat, keys), len(flat) - 1)] != keys


def _take(
    scores: np.ndarray, positions: np.ndarray, wanted: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """The first ``count`` wanted entries of each row, -inf and -1 after the last."""
    place = np.cumsum(wanted, axis=1) - 1
    row, column = np.nonzero(wanted & (place < count))
    at = place[row, column]
    left_scores = np.full((len(scores), count), -np.inf, dtype=np.float32)
    left_positions = np.full((len(scores), count), -1, dtype=np.int64)
    left_scores[row, at], left_positions[row, at] = scores[row, column], positions[row, column]
    return left_scores, left_positions


def _searcher(vectors: np.ndarray) -> Search:
    """Exact inner product search over (N, D) float32: on the GPU where faiss sees one, else in
    place without a copy.
    """

    def on_cpu(queries: np.ndarray, depth: int) -> TopK:
        best = TopK(queries, depth)
        best.add(vectors, 0)
        return best

    if not faiss.get_num_gpus():
        return on_cpu
    flat = faiss.IndexFlatIP(vectors.shape[1])
    flat.add(vectors)
    index = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, flat)

    def on_gpu(queries: np.ndarray, depth: int) -> TopK:
        if depth > _MAX_DEPTH_GPU:
            return on_cpu(queries, depth)
        best = TopK(queries, depth)
        best.scores, best.positions = index.search(queries, depth)
        return best

    return on_gpu
