"""Parquet folders: what other readers see, damaged parts, shorter collections."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from leafkit.core.addresses.store import parse_store
from leafkit.core.errors import LeafkitError
from leafkit.data.records import Document
from leafkit.data.vector_store import Space
from leafkit.stores import parquet
from leafkit.stores.store import StoredSpace, make_rows

SPACE = Space("abc", 16, "", 64, "mean", normalized=True)
DOCUMENTS = [Document(f"d{i}", f"text {i}", f"title {i}") for i in range(50)]
VECTORS = np.random.default_rng(3).normal(size=(50, 16)).astype(np.float16)


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch):
    monkeypatch.setattr(parquet, "ROWS_PER_PART", 20)


def fill(folder, precision="float32", count=50):
    store = parquet.ParquetStore(parse_store(f"parquet:{folder}"))
    store.stored()
    store.create(StoredSpace(SPACE, precision), VECTORS[:count])
    written = 0
    for start in range(0, count, 20):
        stop = min(start + 20, count)
        written += store.send(make_rows(start, DOCUMENTS[start:stop], VECTORS[start:stop], "tiny"))
    return written, store.finish(count)


@pytest.mark.parametrize(
    ("precision", "dtype"), [("float32", "float32"), ("float16", "float16"), ("int8", "int8")]
)
def test_other_readers_see_one_table(tmp_path, precision, dtype):
    assert fill(tmp_path / "out", precision) == (50, [])
    table = pyarrow.dataset.dataset(tmp_path / "out", format="parquet").to_table()
    assert table.column_names == ["id", "title", "text", "source", "vector"]
    assert table["id"].to_pylist() == [d.id for d in DOCUMENTS]
    assert table["title"].to_pylist() == [d.title for d in DOCUMENTS]
    assert set(table["source"].to_pylist()) == {"tiny"}
    vectors = np.stack(table["vector"].combine_chunks().to_numpy(zero_copy_only=False))
    assert vectors.dtype == dtype
    if precision != "int8":
        np.testing.assert_array_equal(vectors, VECTORS.astype(dtype))
        return
    scale = json.loads(
        pq.read_schema(tmp_path / "out/part-00000.parquet").metadata[b"leafkit_scale"]
    )
    restored = np.array(scale["low"]) + (vectors.astype(float) + 128) * np.array(scale["step"])
    assert np.abs(restored - VECTORS).max() <= max(scale["step"]) / 2 + 1e-6


def test_bits_are_packed_with_the_first_highest(tmp_path):
    fill(tmp_path / "out", "binary")
    table = pyarrow.dataset.dataset(tmp_path / "out", format="parquet").to_table()
    packed = np.stack(table["vector"].combine_chunks().to_numpy(zero_copy_only=False))
    assert packed.shape == (50, 2)
    np.testing.assert_array_equal(np.unpackbits(packed, axis=1), VECTORS > 0)


def test_the_same_twice_touches_no_file(tmp_path):
    fill(tmp_path / "out")
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir()}
    assert sorted(before) == [f"part-0000{i}.parquet" for i in range(3)]
    assert fill(tmp_path / "out") == (0, [])
    assert {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir()} == before


@pytest.mark.parametrize("damage", ["cut", "empty", "gone"])
def test_a_damaged_part_is_written_anew(tmp_path, damage):
    fill(tmp_path / "out")
    path = tmp_path / "out" / "part-00001.parquet"
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(content[:200] if damage == "cut" else b"")
    assert fill(tmp_path / "out") == (20, [])
    assert path.read_bytes() == content


def test_a_shorter_collection_leaves_no_old_rows(tmp_path):
    fill(tmp_path / "out")
    assert fill(tmp_path / "out", count=20) == (
        0,
        ["2 part(s) of a longer collection were removed"],
    )
    table = pyarrow.dataset.dataset(tmp_path / "out", format="parquet").to_table()
    assert table["id"].to_pylist() == [f"d{i}" for i in range(20)]


def test_other_peoples_folders_are_left_alone(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.csv").write_text("a")
    with pytest.raises(LeafkitError, match=r"holds 'mine.csv', which leafkit embed did not write"):
        fill(tmp_path / "out")
    (tmp_path / "file").write_text("a")
    with pytest.raises(LeafkitError, match="is a file"):
        fill(tmp_path / "file")
    (tmp_path / "theirs").mkdir()
    pq.write_table(pyarrow.table({"id": ["a"]}), tmp_path / "theirs" / "part-00000.parquet")
    with pytest.raises(LeafkitError, match="was not made by leafkit embed"):
        fill(tmp_path / "theirs")


def test_parts_of_two_scales_are_each_restored_by_their_own(tmp_path):
    """What a stop leaves after the corpus changed: the first part has the new scale alone."""
    address = parse_store(f"parquet:{tmp_path / 'out'}")
    about = StoredSpace(SPACE, "int8")
    fill(tmp_path / "out", "int8")
    longer = VECTORS * np.float16(4)
    stopped = parquet.ParquetStore(address)
    stopped.stored()
    stopped.create(about, longer)
    assert stopped.send(make_rows(0, DOCUMENTS[:20], longer[:20], "tiny")) == 20
    asked = parquet.ParquetStore(address)
    assert asked.stored() == about
    query = np.ones(16, np.float32)
    found = {hit.id: hit.score for hit in asked.search(query, 50)}
    expected = np.concatenate([longer[:20], VECTORS[20:]]).astype(np.float32) @ query
    np.testing.assert_allclose([found[f"d{i}"] for i in range(50)], expected, atol=0.5)
