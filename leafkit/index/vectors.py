"""Vectors that may not fit into memory, read in blocks of float32 and checked as they are read.

Shapes: n vectors of D dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from leafkit.core.errors import LeafkitError

# read at a time: 100 MB at 384 dimensions; a multiple of the 1,024 that faiss multiplies at once,
# so that scores do not depend on where a block begins
BLOCK_ROWS = 65_536
_CHECKED_ROWS = 16_384  # converted and checked at a time


class Vectors(Protocol):
    """What can be sliced into float blocks: an array, a memory map, a vector store."""

    def __len__(self) -> int: ...
    def __getitem__(self, rows: slice | np.ndarray, /) -> np.ndarray: ...


class ChosenRows:
    """Some rows of a source, in the order given, read where they are asked for.

    Args:
        source: (N, D).
        rows: (n,) numbers of its rows.
    """

    def __init__(self, source: Vectors, rows: np.ndarray) -> None:
        self._source, self._rows = source, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: slice | np.ndarray, /) -> np.ndarray:
        return self._source[self._rows[rows]]


class SideBySide:
    """Two models' vectors of the same texts as one, so that inner products are the sum of both.

    Args:
        first: (n, D).
        second: (n, E).
    """

    def __init__(self, first: Vectors, second: Vectors) -> None:
        self._parts = first, second

    def __len__(self) -> int:
        return len(self._parts[0])

    def __getitem__(self, rows: slice | np.ndarray, /) -> np.ndarray:
        return np.concatenate([part[rows].astype(np.float32) for part in self._parts], axis=1)


def dimension(source: Vectors) -> int:
    """D, of any source that is not empty."""
    return int(source[0:1].shape[1])


def as_floats(
    source: Vectors, wanted: slice | np.ndarray, what: str, block: int = _CHECKED_ROWS
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
        out = np.empty((len(rows), dimension(source)), dtype=np.float32)
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


def read_blocks(documents: Vectors, what: str = "document") -> Iterator[tuple[int, np.ndarray]]:
    """``(first row, (rows, D) float32)`` over all documents, in order.

    Raises:
        LeafkitError: a number is not finite; the row is named.
    """
    for start in range(0, len(documents), BLOCK_ROWS):
        yield start, as_floats(documents, slice(start, start + BLOCK_ROWS), what)


def read_chunks(vectors: Vectors) -> Iterator[tuple[int, np.ndarray]]:
    """``(first row, vectors)`` over all rows, in order, in bounded memory."""
    for start in range(0, len(vectors), _CHECKED_ROWS):
        yield start, vectors[start : start + _CHECKED_ROWS]
