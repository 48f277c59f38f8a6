"""Exact search through stored vectors, a chunk of documents at a time: every query against every
precision in one pass.

Shapes: Q queries, N documents, D dimensions kept, K candidates per query.

Chunks are multiples of the 1,024 documents that faiss multiplies at once, so that every product is
computed in the same block of the same shape however large the chunk: scores, and with them
rankings, do not depend on the chunks. Scores that differ by no more than float32 rounding, sqrt(D)
eps |q| |d|, are ties: they get one score, and are ordered by position.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from leafkit.core.truncate import truncate_then_normalize
from leafkit.index.codecs.codec import Codec
from leafkit.index.exact import SPARE, TieCompletion, TopK
from leafkit.index.ranking import Ranking, order_ties, rounding
from leafkit.index.vectors import Vectors, dimension
from leafkit.index.workers import Workers, slabs, small_blocks

FAISS_BLOCK = 1024  # faiss.cvar.distance_compute_blas_database_bs
_CHUNK_NUMBERS = 2**25  # 128 MiB of float32 per buffer; three of them are held

Name = tuple[str, str, str]  # system, precision, "float" or "quantized" queries


@dataclass(slots=True)
class _Search:
    """Queries of one or more systems that are compared with the same codes in the same way."""

    codec: Codec
    names: list[Name]
    best: TopK  # of all systems' queries, one below the other

    def tolerance(self) -> np.ndarray:
        """(rows,) scores no further apart are equal; distances of bits are exact."""
        if self.best.hamming:
            return np.zeros(len(self.best.queries))
        return rounding(self.best.queries, self.codec.length)


def chunk_size(dim: int) -> int:
    """Documents read at a time where vectors have ``dim`` dimensions."""
    return max(1, _CHUNK_NUMBERS // dim // FAISS_BLOCK) * FAISS_BLOCK


def search_codes(
    documents: Vectors,
    dim: int,
    codecs: Mapping[str, Codec],
    queries: Mapping[str, np.ndarray],
    *,
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
    num_documents = len(documents)
    searches = [
        search
        for precision, codec in codecs.items()
        for search in _plan(
            precision,
            codec,
            shortened,
            forms=forms,
            depth=min(depths[precision], num_documents),
        )
    ]
    workers = Workers()
    restored = _Restored(workers)
    chunk_rows = chunk_rows or chunk_size(dimension(documents))
    for start, unit in _unit_chunks(documents, dim, chunk_rows, workers):
        for codec in codecs.values():
            of_codec = [search.best for search in searches if search.codec is codec]
            for is_hamming in {best.hamming for best in of_codec}:
                work = codec.encode if is_hamming else codec.round_trip
                stored = restored.through(work, codec, unit)
                for best in of_codec:
                    if best.hamming == is_hamming:
                        best.add(stored, start)
        advance(len(unit))
    _order_ties(searches, documents, dim, chunk_rows=chunk_rows, restored=restored)
    num_queries = len(next(iter(shortened.values())))
    rankings = {}
    for search in searches:
        for i, name in enumerate(search.names):
            rows = slice(i * num_queries, (i + 1) * num_queries)
            rankings[name] = Ranking(search.best.positions[rows], search.best.scores[rows])
    return rankings


def _plan(
    precision: str,
    codec: Codec,
    queries: Mapping[str, np.ndarray],
    *,
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
        yield _search(codec, coded, depth, hamming=True)
    elif coded:
        wanted = wanted + coded
    if wanted:
        yield _search(codec, wanted, depth, hamming=False)


def _search(
    codec: Codec, named: Sequence[tuple[Name, np.ndarray]], depth: int, *, hamming: bool
) -> _Search:
    queries = np.concatenate([q for _, q in named])
    return _Search(codec, [name for name, _ in named], TopK(queries, depth, hamming=hamming))


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
        """``work(unit)``, valid until the next call; by rows on several threads where the codec
        runs on one.
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


def _order_ties(
    searches: Sequence[_Search],
    documents: Vectors,
    dim: int,
    *,
    chunk_rows: int,
    restored: _Restored,
) -> None:
    """Order ties by position; where one reaches from the ranks wanted to the last candidate, find
    its first members in one more pass over the documents.
    """
    cut: list[tuple[Codec, TieCompletion]] = []
    for search in searches:
        best, tolerance = search.best, search.tolerance()
        last_group = order_ties(best.scores, best.positions, tolerance, level=True)
        if not best.hamming and best.depth < len(documents):
            rows = np.flatnonzero(last_group < best.depth - SPARE)
            if len(rows):
                cut.append((search.codec, TieCompletion(best, rows, last_group, tolerance)))
    if not cut:
        return
    for start, unit in _unit_chunks(documents, dim, chunk_rows, restored.workers):
        for codec, completion in cut:
            completion.add(restored.through(codec.round_trip, codec, unit), start)
    for _, completion in cut:
        completion.finish(level=True)
