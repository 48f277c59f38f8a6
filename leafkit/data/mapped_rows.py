"""Rows in many files, read as one array.

Each file is mapped at an address of its own in one reserved range, so that random rows out of
hundreds of files are one gather of numpy's, about as fast as out of one memory-mapped file
(benchmarks/reports, store). Where the system's mmap cannot be called, rows are copied file by file.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import mmap
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow  # type: ignore[import-untyped]

_MAP_FIXED = 0x10  # of mmap(2), on Linux and macOS alike; Python's mmap module has no name for it
_MADV_POPULATE_READ = 22  # of madvise(2), Linux 5.14 on; others answer that they do not know it
# a file that begins at a multiple of it is mapped in huge pages: a gather looks up fewer of them
_HUGE_PAGE = 2**21


class MappedRows:
    """Fixed-width rows, the same number in every file but the last; a file is opened when one of
    its rows is asked for.

    Files are open no longer than it takes to map them: a process may have fewer files open than a
    large store has.

    Args:
        paths: of the files, in order.
        rows_per_file: in all but the last.
        num_rows: of all files together.
        dim: numbers in a row.
        dtype: of the numbers.
    """

    def __init__(
        self, paths: Sequence[Path], rows_per_file: int, num_rows: int, dim: int, *, dtype: np.dtype
    ) -> None:
        self._paths, self._rows_per_file, self._num_rows, self._dim, self._dtype = (
            paths,
            rows_per_file,
            num_rows,
            dim,
            dtype,
        )
        self._width = dim * dtype.itemsize
        self._is_mapped = np.zeros(len(paths), dtype=bool)
        self._parts: dict[int, memoryview] = {}
        self._range = self._reserve()

    def _reserve(self) -> np.ndarray | None:
        """(files, rows, dim): addresses for all files, pages of zeros as yet; None where files
        cannot be put there.
        """
        if not self._num_rows or _libc() is None:
            return None
        size = self._rows_per_file * self._width
        unit = _HUGE_PAGE if size >= _HUGE_PAGE else mmap.PAGESIZE
        stride = -(-size // unit) * unit
        try:
            private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
            reserved = mmap.mmap(
                -1, len(self._paths) * stride + unit, flags=private, prot=mmap.PROT_READ
            )
        except OSError:  # addresses are rationed here
            return None
        found = np.frombuffer(reserved, dtype=np.uint8)
        found = found[-found.ctypes.data % unit :][: len(self._paths) * stride].view(self._dtype)
        shape = (len(self._paths), self._rows_per_file, self._dim)
        return np.lib.stride_tricks.as_strided(
            found, shape, (stride, self._width, self._dtype.itemsize), writeable=False
        )

    def __getitem__(self, wanted: np.ndarray) -> np.ndarray:
        """Some rows as stored, (number of rows, dim).

        Args:
            wanted: row numbers, all of them there.

        Raises:
            OSError: a file cannot be read or has another size; ``filename`` names it.
        """
        numbers, offsets = np.divmod(wanted, self._rows_per_file)
        for number in sorted(set(numbers.tolist())):
            # a mapped file that somebody cuts short ends the process without a word when its rows
            # are read: looking at its size first leaves them microseconds to do so
            self._check_size(number)
            if not self._is_mapped[number]:
                self._map(number)
        if self._range is not None:
            found: np.ndarray = self._range[numbers, offsets]
            return found
        starts = (offsets * self._width).tolist()
        parts = [
            self._parts[n][start : start + self._width]
            for n, start in zip(numbers.tolist(), starts, strict=True)
        ]
        return np.frombuffer(b"".join(parts), dtype=self._dtype).reshape(len(wanted), self._dim)

    def _size(self, number: int) -> int:
        rows = min(self._rows_per_file, self._num_rows - number * self._rows_per_file)
        return rows * self._width

    def _check_size(self, number: int) -> None:
        path, size = self._paths[number], self._size(number)
        try:
            found = os.stat(path).st_size
        except FileNotFoundError:
            if self._is_mapped[number]:  # a removed file is there as long as it is mapped
                return
            raise
        if found != size:
            raise OSError(errno.EIO, f"it has {found} bytes instead of {size}", str(path))

    def _map(self, number: int) -> None:
        path, size = self._paths[number], self._size(number)
        if self._range is not None:
            _place(path, self._range[number].ctypes.data, size)
        else:
            self._parts[number] = map_numbers(path, np.dtype(np.uint8)).data
        self._is_mapped[number] = True


def map_numbers(path: Path, dtype: np.dtype) -> np.ndarray:
    """(n,) all numbers of a file, mapped from it; no descriptor stays open.

    Raises:
        OSError: it cannot be read; ``filename`` names it.
    """
    if not path.stat().st_size:  # nothing can be mapped
        return np.empty(0, dtype=dtype)
    try:
        # Arrow's map outlives its file, numpy's keeps a descriptor
        with pyarrow.memory_map(str(path)) as file:
            return np.frombuffer(file.read_buffer(), dtype=dtype)
    except OSError as err:  # Arrow's say what, but not where
        raise OSError(err.errno or errno.EIO, str(err), str(path)) from err


@functools.cache
def _libc() -> Any:
    """The system's library, where its mmap is known to take 64-bit addresses and offsets; else
    None.
    """
    if sys.platform not in ("linux", "darwin") or ctypes.sizeof(ctypes.c_void_p) != 8:
        return None
    library = ctypes.CDLL(None, use_errno=True)
    library.mmap.restype = ctypes.c_void_p
    library.mmap.argtypes = [
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_int64,
    ]
    library.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return library


def _place(path: Path, address: int, size: int) -> None:
    """Map a file over ``size`` bytes of a range that is ours; its pages are read at once, not at a
    fault each.
    """
    with path.open("rb") as stream:
        placed = _libc().mmap(
            address, size, mmap.PROT_READ, mmap.MAP_SHARED | _MAP_FIXED, stream.fileno(), 0
        )
    if placed != address:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(path))
    _libc().madvise(address, size, _MADV_POPULATE_READ)
