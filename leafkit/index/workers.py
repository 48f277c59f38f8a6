"""Work on many rows in blocks that stay in a core's cache, on as many threads as faiss uses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import faiss

T = TypeVar("T")
# read from a store at a time: enough to make its book-keeping small, few enough to reuse freed
# memory
SLAB_ROWS = 8192
_BLOCK_NUMBERS = 2**16  # 256 KiB of float32: several of them fit into a core's second-level cache


def small_blocks(num_rows: int, width: int) -> Iterator[slice]:
    """Consecutive rows of ``width`` numbers, as many as a core's cache takes."""
    rows = max(1, _BLOCK_NUMBERS // width)
    for start in range(0, num_rows, rows):
        yield slice(start, min(start + rows, num_rows))


def slabs(num_rows: int) -> Iterator[slice]:
    """Consecutive rows, ``SLAB_ROWS`` at a time."""
    for start in range(0, num_rows, SLAB_ROWS):
        yield slice(start, min(start + SLAB_ROWS, num_rows))


class Workers:
    """Runs a function on slabs of rows. numpy lets other threads run while it computes, so that
    this scales with cores.
    """

    def __init__(self) -> None:
        num_threads = faiss.omp_get_max_threads()
        self._pool = ThreadPoolExecutor(num_threads) if num_threads > 1 else None

    def run(self, work: Callable[[slice], T], num_rows: int) -> list[T]:
        """``work`` on every slab of ``num_rows`` rows; its results in the slabs' order, its first
        error raised.
        """
        if self._pool is None:
            return [work(slab) for slab in slabs(num_rows)]
        return list(self._pool.map(work, slabs(num_rows)))
