"""Many files as one array: numpy's own indexing over all rows, in one range of addresses or file by
file.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from leafkit.data import mapped_rows
from leafkit.data.mapped_rows import MappedRows

DIM, ROWS_PER_FILE = 16, mapped_rows.mmap.PAGESIZE // 32  # a file of float16 is one page
NUM_ROWS = 5 * ROWS_PER_FILE + 7


def write_rows(
    folder: Path, rows_per_file: int = ROWS_PER_FILE, num_rows: int = NUM_ROWS
) -> tuple[list[Path], np.ndarray]:
    rows = np.random.default_rng(0).standard_normal((num_rows, DIM)).astype(np.float16)
    paths = []
    for number, start in enumerate(range(0, num_rows, rows_per_file)):
        paths.append(folder / f"{number}.rows")
        paths[-1].write_bytes(rows[start : start + rows_per_file].tobytes())
    return paths, rows


def open_rows(
    paths: list[Path], rows_per_file: int = ROWS_PER_FILE, num_rows: int = NUM_ROWS
) -> MappedRows:
    return MappedRows(paths, rows_per_file, num_rows, DIM, dtype=np.dtype("<f2"))


@pytest.fixture(params=["whole pages", "parts of pages", "no mmap", "no addresses"])
def way(request, monkeypatch) -> int:
    """Rows per file; the last two ways copy file by file."""
    if request.param == "no mmap":
        monkeypatch.setattr(mapped_rows, "_libc", lambda: None)
    if request.param == "no addresses":

        def refuse(*args, **kwargs):
            raise OSError(12, "Cannot allocate memory")

        monkeypatch.setattr(mapped_rows.mmap, "mmap", refuse)
    rows_per_file = ROWS_PER_FILE - 1 if request.param == "parts of pages" else ROWS_PER_FILE
    found = MappedRows(
        [Path("a"), Path("b")], rows_per_file, 2 * rows_per_file, DIM, dtype=np.dtype("<f2")
    )
    assert (found._range is not None) == request.param.endswith("pages")
    return rows_per_file


def test_any_rows_are_those_of_one_array(way, tmp_path):
    paths, expected = write_rows(tmp_path, way)
    generator = np.random.default_rng(1)
    wanted = [
        np.arange(NUM_ROWS),
        np.arange(way - 2, 3 * way + 1),
        np.arange(NUM_ROWS)[::-1],
        np.array([], dtype=np.int64),
        np.array([NUM_ROWS - 1]),
        np.array([3, 3, 3]),
        np.array([1, 0, 2]),
        *generator.integers(0, NUM_ROWS, (20, 50)),
    ]
    rows = open_rows(paths, way)
    for some in wanted:
        assert np.array_equal(rows[some], expected[some])
        # the first thing asked for
        assert np.array_equal(open_rows(paths, way)[some], expected[some])


def test_files_are_opened_when_they_are_needed_and_closed_again(way, tmp_path):
    paths, expected = write_rows(tmp_path, way)
    for path in paths[1:]:
        path.rename(path.with_suffix(".away"))
    rows = open_rows(paths, way)
    before = len(os.listdir("/proc/self/fd"))
    assert np.array_equal(rows[np.array([4, 1])], expected[[4, 1]])
    for path in paths[1:]:
        path.with_suffix(".away").rename(path)
    assert np.array_equal(rows[np.arange(NUM_ROWS)], expected)
    assert len(os.listdir("/proc/self/fd")) == before
    for path in paths:
        path.unlink()
    assert np.array_equal(rows[np.arange(NUM_ROWS)], expected)


@pytest.mark.parametrize("damage", ["short", "long", "missing", "folder"])
def test_a_damaged_file_is_named_and_nothing_of_it_is_read(way, damage, tmp_path):
    paths, expected = write_rows(tmp_path, way)
    content = paths[2].read_bytes()
    paths[2].unlink()
    if damage == "folder":
        paths[2].mkdir()
    elif damage != "missing":
        paths[2].write_bytes(content[:-1] if damage == "short" else content + b"x")
    rows = open_rows(paths, way)
    for _ in range(2):
        with pytest.raises(OSError) as caught:  # noqa: PT011 - its text is looked at below
            rows[np.array([0, 2 * way, 1])]
        assert caught.value.filename == str(paths[2])
    assert np.array_equal(rows[np.array([0, 3 * way])], expected[[0, 3 * way]])


def test_a_map_that_the_system_refuses_is_an_error_not_zeros(tmp_path, monkeypatch):
    paths, _ = write_rows(tmp_path)
    rows = open_rows(paths)
    monkeypatch.setattr(mapped_rows, "_libc", lambda: SimpleNamespace(mmap=lambda *args: -1))
    for _ in range(2):
        with pytest.raises(OSError, match=r"0\.rows"):
            rows[np.array([1])]


def test_files_of_a_huge_page_and_more_begin_at_one(tmp_path):
    rows_per_file = mapped_rows._HUGE_PAGE // 32 + 1
    paths, expected = write_rows(tmp_path, rows_per_file, 2 * rows_per_file + 1)
    rows = open_rows(paths, rows_per_file, 2 * rows_per_file + 1)
    assert [rows._range[i].ctypes.data % mapped_rows._HUGE_PAGE for i in range(3)] == [0, 0, 0]
    wanted = np.array([0, 2 * rows_per_file, rows_per_file - 1, rows_per_file])
    assert np.array_equal(rows[wanted], expected[wanted])


def test_what_was_read_outlives_the_reader_and_its_files(tmp_path):
    paths, expected = write_rows(tmp_path)
    found = open_rows(paths)[np.arange(NUM_ROWS)]
    for path in paths:
        path.write_bytes(b"")
    assert np.array_equal(found, expected)


def test_no_rows_need_no_file(tmp_path):
    rows = MappedRows([], ROWS_PER_FILE, 0, DIM, dtype=np.dtype("<f2"))
    assert rows[np.array([], dtype=np.int64)].shape == (0, DIM)
