"""Rows in many files, read as one array.

Files of whole pages are mapped one behind the other into one range of addresses, so that random rows out of hundreds of them
are one gather of numpy's, as fast as out of one memory-mapped file. Where that cannot be, rows are copied file by file.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import mmap
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow  # type: ignore[import-untyped]

_MAP_FIXED = 0x10  # of mmap(2), on Linux and macOS alike; Python's mmap module has no name for it


class MappedRows:
    """Fixed-width rows, the same number in every file but the last; a file is opened when one of its rows is asked for.

    Files are open no longer than it takes to map them: a process may have fewer files open than a large store has.

    Args:
        paths: of the files, in order.
        rows_per_file: in all but the last.
        num_rows: of all files together.
        dim: numbers in a row.
        dtype: of the numbers.
    """

    def __init__(self, paths: Sequence[Path], rows_per_file: int, num_rows: int, dim: int, dtype: np.dtype) -> None:
        self._paths, self._rows_per_file, self._shape, self._dtype = paths, rows_per_file, (num_rows, dim), dtype
        self._width = dim * dtype.itemsize
        self._is_mapped = np.zeros(len(paths), dtype=bool)
        self._parts: dict[int, memoryview] = {}
        self._range = self._reserve()

    def _reserve(self) -> np.ndarray | None:
        """All rows as one array, (num_rows, dim), where files can be put in it; pages without a file are zeros."""
        is_whole = self._rows_per_file * self._width % mmap.PAGESIZE == 0 or len(self._paths) == 1
        if not (is_whole and self._shape[0] and _mmap() is not None):
            return None
        try:
            private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
            reserved = mmap.mmap(-1, self._shape[0] * self._width, flags=private, prot=mmap.PROT_READ)
        except OSError:  # addresses are rationed here
            return None
        return np.frombuffer(reserved, dtype=self._dtype).reshape(self._shape)

    def __getitem__(self, wanted: np.ndarray) -> np.ndarray:
        """Some rows as stored, (number of rows, dim); consecutive ones may be a view of the files.

        Args:
            wanted: row numbers, all of them there.

        Raises:
            OSError: a file cannot be read or has another size; ``filename`` names it.
        """
        numbers = wanted // self._rows_per_file
        for number in np.unique(numbers[~self._is_mapped[numbers]]).tolist():
            self._map(number)
        is_run = len(wanted) > 0 and wanted[-1] - wanted[0] == len(wanted) - 1 and bool((np.diff(wanted) == 1).all())
        if self._range is not None:
            return self._range[wanted[0] : wanted[-1] + 1] if is_run else self._range[wanted]
        starts = ((wanted - numbers * self._rows_per_file) * self._width).tolist()
        parts = [self._parts[n][start : start + self._width] for n, start in zip(numbers.tolist(), starts, strict=True)]
        return np.frombuffer(b"".join(parts), dtype=self._dtype).reshape(len(wanted), self._shape[1])

    def _map(self, number: int) -> None:
        path, start = self._paths[number], number * self._rows_per_file
        size = (min(start + self._rows_per_file, self._shape[0]) - start) * self._width
        if path.stat().st_size != size:
            raise OSError(errno.EIO, f"it has {path.stat().st_size} bytes instead of {size}", str(path))
        if self._range is not None:
            _place(path, self._range.ctypes.data + start * self._width, size)
        else:
            try:
                with pyarrow.memory_map(str(path)) as file:  # Arrow's map outlives its file, numpy's keeps a descriptor
                    self._parts[number] = memoryview(file.read_buffer())
            except OSError as err:  # Arrow's say what, but not where
                raise OSError(err.errno or errno.EIO, str(err), str(path)) from err
        self._is_mapped[number] = True


@functools.cache
def _mmap() -> Callable[..., int | None] | None:
    """The system's mmap, where it is known to take 64-bit addresses and offsets."""
    if sys.platform not in ("linux", "darwin") or ctypes.sizeof(ctypes.c_void_p) != 8:
        return None
    function = ctypes.CDLL(None, use_errno=True).mmap
    function.restype = ctypes.c_void_p
    function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64]
    return function


def _place(path: Path, address: int, size: int) -> None:
    """Map a file over ``size`` bytes of a range that is ours."""
    function = _mmap()
    assert function is not None
    with path.open("rb") as stream:
        placed = function(address, size, mmap.PROT_READ, mmap.MAP_SHARED | _MAP_FIXED, stream.fileno(), 0)
    if placed != address:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(path))
