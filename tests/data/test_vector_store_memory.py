"""Reading a large store: random batches are right, memory stays flat, and no file stays open."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import store_reader
from store_reader import make_store, make_vectors

from leafkit.data.stored.shard_plan import DEFAULT_ROWS_PER_SHARD
from leafkit.data.vector_store import VectorStore

linux_only = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
NUM_ROWS, DIM = 40_000, 512
FILE_MIB = NUM_ROWS * DIM * 2 / 2**20


def fill(folder: Path, num_rows: int, dim: int) -> VectorStore:
    store = make_store(folder, num_rows, dim)
    for shard in store.missing():
        store.write(shard, make_vectors(np.arange(shard.start, shard.stop), dim))
    return store


def grown_mib(folder: Path, num_rows: int, dim: int, how: str) -> float:
    """Memory that a process takes to read a store and compare what it reads."""
    words = [sys.executable, store_reader.__file__, str(folder), str(num_rows), str(dim), how]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)["grown_mib"]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VectorStore]:
    """A store of 20 shards and 39 MiB."""
    folder = tmp_path_factory.mktemp("store")
    yield fill(folder, NUM_ROWS, DIM)
    shutil.rmtree(folder)


@linux_only
def test_random_batches_are_right_and_take_no_memory(small: VectorStore) -> None:
    assert grown_mib(small.folder, NUM_ROWS, DIM, "random") < FILE_MIB / 3


@linux_only
def test_the_measure_sees_what_a_process_holds(small: VectorStore) -> None:
    assert grown_mib(small.folder, NUM_ROWS, DIM, "whole") > FILE_MIB


@linux_only
def test_no_file_stays_open(small: VectorStore) -> None:
    """A store of two million rows has about as many shards as a process may have files open."""
    before = len(os.listdir("/proc/self/fd"))
    small[np.arange(0, NUM_ROWS, DEFAULT_ROWS_PER_SHARD)]
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    "rows",
    [
        np.arange(2040, 2060),
        np.arange(0, NUM_ROWS, 7),
        np.arange(NUM_ROWS - 1, NUM_ROWS - 5000, -1),
        np.random.default_rng(0).integers(0, NUM_ROWS, 9000),
        np.array([0, 1, 3]),
        np.array([5, 5, 7]),
        np.arange(4095, 4097),
    ],
    ids=[
        "two shards",
        "every 7th",
        "backwards",
        "more than one gather",
        "gap",
        "ends of a run",
        "edge",
    ],
)
def test_any_rows_in_any_order(small: VectorStore, rows: np.ndarray) -> None:
    np.testing.assert_array_equal(small[rows], make_vectors(rows, DIM))


@pytest.mark.slow
@pytest.mark.timeout(900)
@linux_only
def test_a_million_rows_are_read_within_500_mib(tmp_path: Path) -> None:
    try:
        fill(tmp_path / "store", 1_000_000, 896)
        assert grown_mib(tmp_path / "store", 1_000_000, 896, "random") < 500
    finally:
        shutil.rmtree(tmp_path / "store")
