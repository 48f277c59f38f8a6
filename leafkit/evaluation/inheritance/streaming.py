"""Exact search through stored vectors, a chunk of documents at a time: every query against every
precision in one pass.

Shapes: Q queries, N documents, D dimensions kept, K candidates per query.

Chunks are multiples of the 1,024 documents that faiss multiplies at once, so that every product is
computed in the same block of the same shape however large the chunk: scores, and with them
rankings, do not depend on the chunks. Scores that differ by no more than float32 rounding, sqrt(D)
eps |q| |d|, are ties: they get one score, and are ordered by position.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import faiss
import numpy as np

from leafkit.core.truncate import truncate_then_normalize
from leafkit.index.blocks import Workers, slabs, small_blocks
from leafkit.index.candidates import Vectors
from leafkit.index.codecs import Codec
from leafkit.index.exact import Ranking

FAISS_BLOCK = 1024  # faiss.cvar.distance_compute_blas_database_bs
# candidates beyond those wanted: a tie of no more than these is settled without another look at the
# documents
SPARE = 8
_CHUNK_NUMBERS = 2**25  # 128 MiB of float32 per buffer; three of them are held
_TIED_SCORES = 2**22  # scores computed at a time while ties are completed

Name = tuple[str, str, str]  # system, precision, "float" or "quantized" queries


@dataclass(slots=True)
class _Search:
    """Queries of one or more systems that are compared with the same stored vectors in the same
    way.
    """

    codec: Codec
    hamming: bool
    names: list[Name]
    queries: np.ndarray  # (rows, D) float32, or (rows, D / 8) uint8
    depth: int
    scores: np.ndarray = field(init=False)
    positions: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.scores = np.full((len(self.queries), self.depth), -np.inf, dtype=np.float32)
        self.positions = np.full((len(self.queries), self.depth), -1, dtype=np.int64)

    def tolerance(self, dim: int) -> np.ndarray:
        """(rows,) scores no further apart are equal; distances of bits are exact."""
        if self.hamming:
            return np.zeros(len(self.queries), dtype=np.float32)
        rounding = math.sqrt(dim) * float(np.finfo(np.float32).eps) * self.codec.length
        return (rounding * np.linalg.norm(self.queries, axis=1)).astype(np.float32)

    def add(self, stored: np.ndarray, start: int) -> None:
        """Take in a chunk: its best replace what is worse; among equals the earlier document stays."""
        count = min(self.depth, len(stored))
        if self.hamming:
            distances, positions = faiss.knn_hamming(self.queries, stored, count)
            scores = -distances.astype(np.float32)
        else:
            scores, positions = faiss.knn(
                self.queries, stored, count, metric=faiss.METRIC_INNER_PRODUCT
            )
        rows = np.flatnonzero(scores[:, 0] > self.scores[:, -1])
        both = np.concatenate([self.scores[rows], scores[rows]], axis=1)
        where = np.concatenate([self.positions[rows], positions[rows] + start], axis=1)
        order = np.argsort(-both, axis=1, kind="stable")[:, : self.depth]
        self.scores[rows] = np.take_along_axis(both, order, axis=1)
        self.positions[rows] = np.take_along_axis(where, order, axis=1)


def chunk_size(dim: int) -> int:
    """Documents read at a time where vectors have ``dim`` dimensions."""
    return max(1, _CHUNK_NUMBERS // dim // FAISS_BLOCK) * FAISS_BLOCK


def search_stored(
    documents: Vectors,
    dim: int,
    codecs: Mapping[str, Codec],
    queries: Mapping[str, np.ndarray],
    forms: Sequence[str],
    depths: Mapping[str, int],
    chunk_rows: int = 0,
    advance: Callable[[int], None] = lambda rows: None,
) -> dict[Name, Ranking]:
    """Search documents, cut to ``dim`` and stored by each codec, with the queries of several
    systems.

    float queries are compared with what the codec restores, by inner product. quantized ones go
    through the codec first; with binary both sides are bits and the score is minus their Hamming
    distance. For float32 that is the same thing, so only "float" is searched.

    Args:
        documents: (N, full D), read once, in chunks.
        dim: D.
        codecs: by precision, fitted for ``dim``.
        queries: by system (Q, full D), the same Q.
        forms: "float", "quantized" or both.
        depths: K by precision, N where that is less.
        chunk_rows: documents at a time, a multiple of 1,024; 0 takes ``chunk_size``. Memory and
            speed only.
        advance: called with the number of documents done.

    Returns:
        By (system, precision, form).
    """
    shortened = {
        system: truncate_then_normalize(np.asarray(q, dtype=np.float32), dim)
        for system, q in queries.items()
    }
    searches = [
        search
        for precision, codec in codecs.items()
        for search in _plan(
            precision, codec, shortened, forms, min(depths[precision], len(documents))
        )
    ]
    workers = Workers()
    restored = _Restored(workers)
    for start, unit in _unit_chunks(
        documents, dim, chunk_rows or chunk_size(documents[0:1].shape[1]), workers
    ):
        for codec in codecs.values():
            mine = [search for search in searches if search.codec is codec]
            for is_hamming in {search.hamming for search in mine}:
                stored = restored.through(
                    codec.encode if is_hamming else codec.round_trip, codec, unit
                )
                for search in mine:
                    if search.hamming == is_hamming:
                        search.add(stored, start)
        advance(len(unit))
    _settle(searches, documents, dim, chunk_rows or chunk_size(documents[0:1].shape[1]), restored)
    num_queries = len(next(iter(shortened.values())))
    found = {}
    for search in searches:
        for i, name in enumerate(search.names):
            rows = slice(i * num_queries, (i + 1) * num_queries)
            found[name] = Ranking(search.positions[rows], search.scores[rows])
    return found


def _plan(
    precision: str,
    codec: Codec,
    queries: Mapping[str, np.ndarray],
    forms: Sequence[str],
    depth: int,
) -> Iterator[_Search]:
    """The searches of one precision: all systems and forms stacked into one, Hamming apart."""
    plain = [((system, precision, "float"), q) for system, q in queries.items()]
    coded: list[tuple[Name, np.ndarray]] = []
    if precision == "float32":
        forms = ["float"]
    if "quantized" in forms:
        through = codec.encode if precision == "binary" else codec.round_trip
        coded = [((system, precision, "quantized"), through(q)) for system, q in queries.items()]
    wanted = plain if "float" in forms else []
    if precision == "binary" and coded:
        yield _Search(
            codec, True, [name for name, _ in coded], np.concatenate([q for _, q in coded]), depth
        )
    elif coded:
        wanted = wanted + coded
    if wanted:
        yield _Search(
            codec,
            False,
            [name for name, _ in wanted],
            np.concatenate([q for _, q in wanted]),
            depth,
        )


def _unit_chunks(
    documents: Vectors, dim: int, chunk_rows: int, workers: Workers
) -> Iterator[tuple[int, np.ndarray]]:
    """``(first row, (rows, dim) float32 of length one)`` over all documents; each chunk overwrites
    the one before.
    """
    if chunk_rows % FAISS_BLOCK:
        raise ValueError(f"chunk_rows={chunk_rows} is no multiple of {FAISS_BLOCK}")
    buffer = np.empty((min(chunk_rows, len(documents)), dim), dtype=np.float32)
    for start in range(0, len(documents), chunk_rows):
        unit = buffer[: min(chunk_rows, len(documents) - start)]

        def cut(rows: slice, start: int = start, unit: np.ndarray = unit) -> None:
            raw = np.asarray(documents[start + rows.start : start + rows.stop], dtype=np.float32)
            for block in small_blocks(len(raw), raw.shape[1]):
                unit[rows][block] = truncate_then_normalize(raw[block], dim)

        workers.run(cut, len(unit))
        yield start, unit


class _Restored:
    """Chunks as codecs store or restore them, in buffers that every chunk uses again: fresh memory
    costs more than the work.
    """

    def __init__(self, workers: Workers) -> None:
        self.workers = workers
        self._buffers: dict[tuple[str, int], np.ndarray] = {}

    def through(
        self, work: Callable[[np.ndarray], np.ndarray], codec: Codec, unit: np.ndarray
    ) -> np.ndarray:
        """``work(unit)``, valid until the next call; by rows on several threads where the codec has
        none of its own.
        """
        first = work(unit[:1])
        if np.may_share_memory(first, unit):  # float32: nothing to do
            return unit
        key = (first.dtype.str, first.shape[1])
        if key not in self._buffers or len(self._buffers[key]) < len(unit):
            self._buffers[key] = np.empty((len(unit), first.shape[1]), dtype=first.dtype)
        out = self._buffers[key][: len(unit)]

        def fill(rows: slice) -> None:
            for block in small_blocks(rows.stop - rows.start, unit.shape[1]):
                out[rows][block] = work(unit[rows][block])

        if codec.is_elementwise:
            self.workers.run(fill, len(unit))
        else:
            for rows in slabs(len(unit)):
                out[rows] = work(unit[rows])
        return out


def _settle(
    searches: Sequence[_Search], documents: Vectors, dim: int, chunk_rows: int, restored: _Restored
) -> None:
    """Order ties by position; where one reaches from the ranks wanted to the last candidate, find
    its first members.
    """
    cut: list[tuple[_Search, np.ndarray, np.ndarray]] = []
    for search in searches:
        tolerance = search.tolerance(dim)
        last_group = order_ties(search.scores, search.positions, tolerance)
        if not search.hamming and search.depth < len(documents):
            rows = np.flatnonzero(last_group < search.depth - SPARE)
            if len(rows):
                cut.append((search, rows, last_group[rows]))
    if not cut:
        return
    members: list[list[list[np.ndarray]]] = [[[] for _ in rows] for _, rows, _ in cut]
    for start, unit in _unit_chunks(documents, dim, chunk_rows, restored.workers):
        for (search, rows, firsts), lists in zip(cut, members, strict=True):
            stored = restored.through(search.codec.round_trip, search.codec, unit)
            tolerance, level = search.tolerance(dim)[rows], search.scores[rows, -1]
            for block in range(0, len(rows), max(1, _TIED_SCORES // len(unit))):
                part = slice(block, block + max(1, _TIED_SCORES // len(unit)))
                near = (
                    np.abs(search.queries[rows[part]] @ stored.T - level[part, None])
                    <= tolerance[part, None]
                )
                for i, is_near in enumerate(near, start=block):
                    better = search.positions[rows[i], : firsts[i]] - start
                    is_near[better[(better >= 0) & (better < len(unit))]] = (
                        False  # rounding may put it on either side
                    )
                    lists[i].append(np.flatnonzero(is_near)[: search.depth - firsts[i]] + start)
    for (search, rows, firsts), lists in zip(cut, members, strict=True):
        for row, first, parts in zip(rows, firsts, lists, strict=True):
            equals = np.union1d(np.concatenate(parts), search.positions[row, first:])
            search.positions[row, first:] = equals[: search.depth - first]


def order_ties(scores: np.ndarray, positions: np.ndarray, tolerance: np.ndarray) -> np.ndarray:
    """Give equals one score and order them by position, in place; returns where each row's last
    group of them starts, (rows,).

    Args:
        scores: (rows, K) float32, best first.
        positions: (rows, K).
        tolerance: (rows,) neighbours no further apart are equal.
    """
    with np.errstate(invalid="ignore"):  # -inf minus -inf where there are fewer than K documents
        is_tie = scores[:, :-1] - scores[:, 1:] <= tolerance[:, None]
    rows = np.flatnonzero(is_tie.any(axis=1))
    if len(rows):
        group = np.zeros((len(rows), scores.shape[1]), dtype=np.int64)
        np.cumsum(~is_tie[rows], axis=1, out=group[:, 1:])
        order = np.argsort(group * (positions.max() + 1) + positions[rows], axis=1)
        starts = np.maximum.accumulate(
            np.where(np.diff(group, axis=1, prepend=-1) > 0, np.arange(scores.shape[1]), 0), axis=1
        )
        scores[rows] = np.take_along_axis(scores[rows], starts, axis=1)
        positions[rows] = np.take_along_axis(positions[rows], order, axis=1)
    return scores.shape[1] - 1 - np.cumprod(is_tie[:, ::-1], axis=1).sum(axis=1)
