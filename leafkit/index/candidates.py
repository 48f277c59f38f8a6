"""Rankings without the documents that are known to be relevant, a block of queries at a time,
through exact search.

Shapes: Q distinct queries, b of them in a block, N documents, D dimensions, K ranks looked at.

Two scores count as equal when they differ by less than a float32 sum of D products may be off,
sqrt(D) eps |q| max|d|: faiss adds in an order that depends on the block a document lies in, so that
equal vectors score an ulp apart. Ties are ordered by position.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

import faiss
import numpy as np

from leafkit.core.errors import LeafkitError

BLOCK_ROWS = (
    4096  # queries per search: faiss itself multiplies 4096 at a time, so smaller blocks only cost
)
_BLOCK_ENTRIES = (
    2**22
    # of a block's ranking: 50 MB of scores and positions, however many relevant documents queries have
)
# documents searched beyond those wanted: only a tie of so many makes a query's scores be computed
# again
_SPARE = 8
_MAX_DEPTH_GPU = 2048  # faiss refuses more results per query on a GPU

T = TypeVar("T")
R = TypeVar("R")
Search = Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]]


class Vectors(Protocol):
    """What can be sliced into float blocks: an array, a memory map, a vector store."""

    def __len__(self) -> int: ...
    def __getitem__(self, rows: slice | np.ndarray, /) -> np.ndarray: ...


@dataclass(frozen=True, slots=True)
class Block:
    """Some queries and their rankings without relevant documents.

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


def rank_others(
    queries: Vectors,
    numbers: np.ndarray,
    vectors: np.ndarray,
    known: Sequence[AbstractSet[int]],
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
    search, longest = (
        _searcher(vectors),
        float(np.sqrt(np.einsum("nd,nd->n", vectors, vectors).max())),
    )

    def find(
        block: tuple[np.ndarray, int],
    ) -> tuple[np.ndarray, int, np.ndarray, tuple[np.ndarray, np.ndarray]]:
        members, depth = block
        query_vectors = as_floats(queries, numbers[members], "query")
        return members, depth, query_vectors, search(query_vectors, depth)

    blocks = _plan([len(k) for k in known], num_ranks, len(vectors), block_rows)
    for members, depth, query_vectors, (scores, positions) in _one_ahead(find, blocks):
        tolerance = (
            np.sqrt(vectors.shape[1])
            * np.finfo(np.float32).eps
            * longest
            * np.linalg.norm(query_vectors, axis=1)
        )
        last_group = _settle_ties(scores, positions, tolerance)
        is_other = _is_other(positions, [known[i] for i in members])
        before = np.where(np.arange(depth) < last_group[:, None], is_other, False).sum(axis=1)
        if depth < len(vectors) and len(cut := np.flatnonzero(before < num_ranks)):
            _complete_ties(scores, positions, cut, last_group, query_vectors, vectors, tolerance)
            is_other = _is_other(positions, [known[i] for i in members])
        scores, positions = _take(scores, positions, is_other, num_ranks)
        yield Block(members, query_vectors, positions, scores, tolerance)


def _one_ahead(work: Callable[[T], R], items: Iterator[T]) -> Iterator[R]:
    """``map`` whose next result is computed while the caller uses this one."""
    with ThreadPoolExecutor(1) as pool:
        pending = [pool.submit(work, item) for item in itertools.islice(items, 1)]
        while pending:
            result = pending.pop().result()
            pending = [pool.submit(work, item) for item in itertools.islice(items, 1)]
            yield result


def as_floats(
    source: Vectors, wanted: slice | np.ndarray, what: str, block: int = 16384
) -> np.ndarray:
    """Rows of ``source`` as one float32 array, read block by block; the source itself where it
    already is that.

    Args:
        source: (n, D).
        wanted: a slice or row numbers.
        what: what a row is, for the error.
        block: rows read and checked at a time.

    Raises:
        LeafkitError: a number is not finite.
    """
    rows = np.arange(len(source))[wanted]
    if isinstance(source, np.ndarray) and source.dtype == np.float32 and source.flags.c_contiguous:
        out = source[wanted]
    else:
        blocks = (rows[start : start + block] for start in range(0, len(rows), block))
        parts = (source[slice(p[0], p[-1] + 1) if isinstance(wanted, slice) else p] for p in blocks)
        out = np.empty((len(rows), source[0:1].shape[1]), dtype=np.float32)
        start = 0
        for part in parts:
            out[start : start + len(part)] = part
            start += len(part)
    for start in range(0, len(out), block):
        finite = np.isfinite(out[start : start + block]).all(axis=1)
        if not finite.all():
            row = int(rows[start + int(np.flatnonzero(~finite)[0])])
            raise LeafkitError(
                f"the vector of {what} {row} is not finite",
                "compute in float32 with precision=float32",
            )
    return out


def _plan(
    num_known: list[int], num_ranks: int, num_documents: int, block_rows: int
) -> Iterator[tuple[np.ndarray, int]]:
    """Queries to search together and how deep, so that ``num_ranks`` documents remain beside each
    one's relevant ones.

    Queries with few relevant documents come first: one with thousands must not deepen the search of
    all.
    """
    order, sizes = np.argsort(num_known, kind="stable"), np.sort(num_known)
    start = 0
    while start < len(order):
        deepest = num_ranks + _SPARE + int(sizes[min(start + block_rows, len(order)) - 1])
        stop = min(start + min(block_rows, max(1, _BLOCK_ENTRIES // deepest)), len(order))
        yield order[start:stop], min(num_documents, num_ranks + _SPARE + int(sizes[stop - 1]))
        start = stop


def _settle_ties(scores: np.ndarray, positions: np.ndarray, tolerance: np.ndarray) -> np.ndarray:
    """Order documents of equal score by position, in place; returns where each query's last group
    of equals starts, (b,).
    """
    is_tie = scores[:, :-1] - scores[:, 1:] <= tolerance[:, None]
    rows = np.flatnonzero(is_tie.any(axis=1))
    if len(rows):
        group = np.zeros((len(rows), scores.shape[1]), dtype=np.int64)
        np.cumsum(~is_tie[rows], axis=1, out=group[:, 1:])
        order = np.argsort(group * (positions.max() + 1) + positions[rows], axis=1)
        scores[rows] = np.take_along_axis(scores[rows], order, axis=1)
        positions[rows] = np.take_along_axis(positions[rows], order, axis=1)
    ends = np.cumprod(is_tie[:, ::-1], axis=1).sum(axis=1)
    return scores.shape[1] - 1 - ends


def _complete_ties(
    scores: np.ndarray,
    positions: np.ndarray,
    rows: np.ndarray,
    last_group: np.ndarray,
    queries: np.ndarray,
    vectors: np.ndarray,
    tolerance: np.ndarray,
) -> None:
    """Where the ranks wanted reach into a group of equals that faiss cut off, take its first
    members by position, in place.
    """
    per_chunk = max(1, _BLOCK_ENTRIES // len(vectors))
    for start in range(0, len(rows), per_chunk):
        chunk = rows[start : start + per_chunk]
        for row, all_scores in zip(chunk.tolist(), queries[chunk] @ vectors.T, strict=True):
            first = last_group[row]
            equals = np.flatnonzero(np.abs(all_scores - scores[row, -1]) <= tolerance[row])
            equals = np.union1d(equals, positions[row, first:])[: scores.shape[1] - first]
            positions[row, first:], scores[row, first:] = equals, all_scores[equals]


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

    def on_cpu(queries: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
        return faiss.knn(queries, vectors, depth, metric=faiss.METRIC_INNER_PRODUCT)

    if not faiss.get_num_gpus():
        return on_cpu
    flat = faiss.IndexFlatIP(vectors.shape[1])
    flat.add(vectors)
    index = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, flat)

    def on_gpu(queries: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
        return index.search(queries, depth) if depth <= _MAX_DEPTH_GPU else on_cpu(queries, depth)

    return on_gpu
