"""Sources of vectors read in blocks: an array, a memory map and a store give the same numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from leafkit.core.errors import LeafkitError
from leafkit.data.vector_store import Space, VectorStore
from leafkit.index import vectors
from leafkit.index.vectors import Vectors, as_floats, dimension, read_blocks

ROWS = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float16)
WANTED = [slice(None), slice(10, 31), np.array([3, 4, 40]), np.array([], dtype=np.int64)]


@pytest.fixture(params=["float16", "float32", "strided", "map", "store"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Vectors:
    """The same numbers in another form."""
    if request.param == "store":
        texts = [f"text {i}" for i in range(len(ROWS))]
        store = VectorStore(
            tmp_path / "store",
            Space(teacher="t", dim=8, prompt="", max_tokens=8, pooling="mean", normalized=True),
            texts,
            rows_per_shard=16,
        )
        for shard in store.missing():
            store.write(shard, ROWS[shard.start : shard.stop].astype(np.float32))
        return store
    if request.param == "map":
        mapped = np.memmap(tmp_path / "map", dtype=np.float16, mode="w+", shape=ROWS.shape)
        mapped[:] = ROWS
        return mapped
    if request.param == "strided":
        return np.repeat(ROWS.astype(np.float32), 2, axis=1)[:, ::2]
    return ROWS.astype(request.param)


@pytest.mark.parametrize("wanted", WANTED, ids=["all", "slice", "rows", "none"])
@pytest.mark.parametrize("block", [1, 7, 1000])
def test_every_source_gives_the_same_float32(source: Vectors, wanted, block: int) -> None:
    found = as_floats(source, wanted, "document", block)
    assert found.dtype == np.float32
    assert np.array_equal(found, ROWS[wanted].astype(np.float32))
    assert dimension(source) == 8


@pytest.mark.parametrize("rows", [1, 16, 49, 50, 51])
def test_blocks_are_the_whole_in_order(source: Vectors, rows: int, monkeypatch) -> None:
    monkeypatch.setattr(vectors, "BLOCK_ROWS", rows)
    starts, blocks = zip(*read_blocks(source), strict=True)
    assert list(starts) == list(range(0, 50, rows))
    assert np.array_equal(np.concatenate(blocks), ROWS.astype(np.float32))


def test_float32_in_memory_is_not_copied() -> None:
    whole = ROWS.astype(np.float32)
    assert np.shares_memory(as_floats(whole, slice(5, 9), "document"), whole)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("wanted", [slice(20, None), np.array([3, 30, 31])])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_names_the_row_of_the_source(dtype, wanted, bad) -> None:
    rows = ROWS.astype(dtype)
    rows[31, 2] = bad
    with pytest.raises(LeafkitError, match="the vector of question 31 is not finite"):
        as_floats(rows, wanted, "question", 4)
    as_floats(rows, slice(0, 31), "question")
