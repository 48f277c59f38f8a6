"""The vector store: what goes in comes out, and whatever is stale, misaligned or damaged is refused
by name.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from crash import kill_at_every_operation

from leafkit.core.errors import LeafkitError
from leafkit.core.file_hashes import read_sha256, remembered_hashes
from leafkit.data.vector_store import Shard, Space, VectorStore, hash_texts

SPACE = Space(
    teacher="f00d", dim=4, prompt="query: ", max_tokens=64, pooling="mean", normalized=True
)
TEXTS = [f"text {i}" for i in range(10)]
VECTORS = np.random.default_rng(0).normal(size=(10, 4)).astype(np.float32)


def _store(folder: Path, **changes: Any) -> VectorStore:
    return VectorStore(
        **{"folder": folder, "space": SPACE, "texts": TEXTS, "rows_per_shard": 4} | changes
    )


def _fill(store: VectorStore, vectors: np.ndarray = VECTORS) -> VectorStore:
    for shard in store.missing():
        store.write(shard, vectors[shard.start : shard.stop])
    return store


def _files(folder: Path) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A complete store of ten rows in shards of 4, 4 and 2."""
    _fill(_store(tmp_path / "store"))
    return tmp_path / "store"


# --- round trip


@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 1e-3), ("float32", 0.0)])
@pytest.mark.parametrize("given", [np.float16, np.float32, np.float64])
def test_round_trip(tmp_path: Path, dtype: str, tolerance: float, given: type) -> None:
    vectors = VECTORS.astype(given)
    store = _fill(_store(tmp_path, dtype=dtype), vectors)
    found = store[:]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, vectors.astype(dtype).astype(np.float32))
    np.testing.assert_allclose(found, vectors, rtol=tolerance)
    assert store.missing() == []
    assert (tmp_path / "00000.vectors").stat().st_size == 4 * 4 * np.dtype(dtype).itemsize


def test_a_new_reader_finds_everything(folder: Path) -> None:
    store = _store(folder)
    assert len(store) == 10
    assert store.dim == 4
    assert store.missing() == []
    np.testing.assert_allclose(store[:], VECTORS, rtol=1e-3)


def test_files_are_what_the_layout_says(folder: Path) -> None:
    assert sorted(_files(folder)) == [
        f"{n:05d}.{kind}" for n in range(3) for kind in ("hashes", "json", "vectors")
    ]
    np.testing.assert_array_equal(
        np.fromfile(folder / "00001.vectors", "<f2").reshape(4, 4), VECTORS[4:8].astype("<f2")
    )
    np.testing.assert_array_equal(
        np.fromfile(folder / "00002.hashes", "<u8"), hash_texts(TEXTS[8:])
    )


@pytest.mark.parametrize(
    "rows", [[0], [9, 0, 4], [3, 3, 3], [], np.array([7, 1]), list(range(10))], ids=str
)
def test_random_access_equals_slices(folder: Path, rows: list[int]) -> None:
    store = _store(folder)
    np.testing.assert_array_equal(store[rows], store[:][np.asarray(rows, dtype=int)])
    assert store[rows].shape == (len(rows), 4)


@pytest.mark.parametrize(
    "rows",
    [slice(2, 9), slice(None, None, 3), slice(8, 2, -2), slice(-3, None), slice(5, 5), slice(99)],
)
def test_slices_are_those_of_a_sequence(folder: Path, rows: slice) -> None:
    store = _store(folder)
    np.testing.assert_array_equal(store[rows], store[list(range(10))][rows])


@pytest.mark.parametrize("rows", [[10], [-1], [0, 5, 10]])
def test_rows_out_of_range(folder: Path, rows: list[int]) -> None:
    with pytest.raises(IndexError, match=r"of a store of 10"):
        _store(folder)[rows]


@pytest.mark.parametrize("num_rows", [1, 3, 4, 10, 99])
def test_chunks_cover_the_store_in_order(folder: Path, num_rows: int) -> None:
    store = _store(folder)
    starts, parts = zip(*store.chunks(num_rows), strict=True)
    assert list(starts) == list(range(0, 10, num_rows))
    np.testing.assert_array_equal(np.concatenate(parts), store[:])


def test_empty_store(tmp_path: Path) -> None:
    store = _store(tmp_path, texts=[])
    assert (len(store), store.missing(), store[:].shape, list(store.chunks())) == (
        0,
        [],
        (0, 4),
        [],
    )


def test_hashes_tell_texts_apart_and_take_any_text() -> None:
    hashes = hash_texts(["a", "b", "a ", "", "\ud800", "a"])
    assert len(set(hashes.tolist())) == 5
    assert hashes[0] == hashes[5]
    assert hash_texts(["a"])[0] == int.from_bytes(
        hashlib.blake2b(b"a", digest_size=8).digest(), "little"
    )


# --- resuming


def test_a_partial_store_names_what_is_missing_and_resumes(tmp_path: Path) -> None:
    store = _store(tmp_path)
    assert store.missing() == [Shard(0, 0, 4), Shard(1, 4, 8), Shard(2, 8, 10)]
    store.write(Shard(1, 4, 8), VECTORS[4:8])
    again = _store(tmp_path)
    assert again.missing() == [Shard(0, 0, 4), Shard(2, 8, 10)]
    with pytest.raises(LeafkitError, match=r"00000\.vectors cannot be read"):
        again[:]
    assert _fill(again).missing() == []


@pytest.mark.slow
def test_kill_at_every_operation_then_resume_gives_the_same_bytes(tmp_path: Path) -> None:
    def store() -> VectorStore:
        return _store(tmp_path / "resumed", rows_per_shard=5)

    expected = _files(_fill(_store(tmp_path / "whole", rows_per_shard=5)).folder)
    work_left = []
    for _ in kill_at_every_operation(
        lambda: shutil.rmtree(store().folder, ignore_errors=True), lambda: _fill(store())
    ):
        work_left.append(len(store().missing()))
        assert _fill(store()).missing() == []
        assert _files(store().folder) == expected
    assert work_left == sorted(work_left, reverse=True)
    assert set(work_left) == {0, 1, 2}
    assert len(work_left) > 20


# --- what is refused when shards are looked at


@pytest.mark.parametrize(
    ("field", "other"),
    [
        ("teacher", "beef"),
        ("dim", 2),
        ("prompt", ""),
        ("max_tokens", 32),
        ("pooling", "cls"),
        ("normalized", False),
    ],
)
def test_another_space_is_refused_field_by_field(folder: Path, field: str, other: object) -> None:
    with pytest.raises(LeafkitError, match="holds vectors of another space") as caught:
        _store(folder, space=replace(SPACE, **{field: other})).missing()
    assert f"{field} is {getattr(SPACE, field)!r} there and {other!r} here" in str(caught.value)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize(
    ("texts", "row", "count"),
    [
        ([*TEXTS[:5], "changed", *TEXTS[6:]], 5, 1),
        ([TEXTS[1], TEXTS[0], *TEXTS[2:]], 0, 2),
        ([*TEXTS[:9], "text 9 "], 9, 1),
        (["new first", *TEXTS[:9]], 0, 4),
    ],
    ids=["changed", "reordered", "one blank more", "shifted"],
)
def test_stale_or_reordered_texts_are_refused(
    folder: Path, texts: list[str], row: int, count: int
) -> None:
    with pytest.raises(
        LeafkitError,
        match=rf"row {row} belongs to another text \({count} such rows in shard {row // 4}\)",
    ):
        _store(folder, texts=texts).missing()


@pytest.mark.parametrize("texts", [[*TEXTS, "one more"], TEXTS[:9]], ids=["more", "fewer"])
def test_another_number_of_texts_is_refused(folder: Path, texts: list[str]) -> None:
    with pytest.raises(
        LeafkitError, match=rf"00002\.json has 2 float16 rows where {len(texts) - 8} are needed"
    ):
        _store(folder, texts=texts).missing()


def test_another_dtype_is_refused(folder: Path) -> None:
    with pytest.raises(LeafkitError, match=r"00000\.json has 4 float16 rows"):
        _store(folder, dtype="float32").missing()


@pytest.mark.parametrize("kind", ["vectors", "hashes"])
@pytest.mark.parametrize("damage", ["truncated", "longer", "gone"])
def test_a_file_of_the_wrong_size_is_refused_by_name(folder: Path, kind: str, damage: str) -> None:
    path = folder / f"00001.{kind}"
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(content[:-1] if damage == "truncated" else content + b"\0")
    with pytest.raises(
        LeafkitError, match=rf"00001\.{kind} is missing or has not the 32 bytes"
    ) as caught:
        _store(folder).missing()
    assert f"delete {folder}" in caught.value.hint


def test_a_shard_without_its_record_does_not_exist(folder: Path) -> None:
    (folder / "00001.json").unlink()
    store = _store(folder)
    assert store.missing() == [Shard(1, 4, 8)]
    expected = _files(folder)
    assert _fill(store).missing() == []
    assert {name: _files(folder)[name] for name in expected} == expected


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"\xff",
        b"{}",
        b'{"rows": 4, "space": "x", "sha256": {}, "dtype": "float16"}',
        b'{"rows": 4, "space": {}, "sha256": [], "dtype": "float16"}',
    ],
)
def test_a_corrupt_record_is_refused_by_name(folder: Path, content: bytes) -> None:
    (folder / "00001.json").write_bytes(content)
    with pytest.raises(LeafkitError, match=r"00001\.json is not a commit record"):
        _store(folder).missing()


def test_reading_a_file_that_was_cut_after_the_check(folder: Path) -> None:
    store = _store(folder)
    assert store.missing() == []
    (folder / "00002.vectors").write_bytes(b"")
    with pytest.raises(LeafkitError, match=r"00002\.vectors cannot be read"):
        store[[9]]


def test_a_file_that_was_cut_after_it_was_read_is_an_error_and_no_dead_process(
    folder: Path,
) -> None:
    store = _store(folder)
    store[:]  # all of it is mapped
    os.truncate(folder / "00001.vectors", 0)
    with pytest.raises(LeafkitError, match=r"00001\.vectors cannot be read: it has 0 bytes"):
        store[[5]]
    (folder / "00000.vectors").unlink()  # what is removed stays as long as it is mapped
    np.testing.assert_allclose(store[[1]], VECTORS[[1]], rtol=1e-3)


# --- every byte is read, when a store is opened and when it is verified


def _flip(content: np.ndarray) -> None:
    content[:] = -content


def _swap(content: np.ndarray) -> None:
    content[[0, 1]] = content[[1, 0]]


def _grow(content: np.ndarray) -> None:
    content[0, 0] = 60_000


def _empty(content: np.ndarray) -> None:
    content[2] = 0


def _nudge(content: np.ndarray) -> None:
    content.view(np.uint8)[1, 3] ^= 1


@pytest.mark.parametrize("damage", [_flip, _swap, _grow, _empty, _nudge])
def test_damaged_rows_are_found_by_file(folder: Path, damage: Any) -> None:
    path = folder / "00001.vectors"
    rows = np.fromfile(path, "<f2").reshape(4, 4)
    damage(rows)
    path.write_bytes(rows.tobytes())
    with pytest.raises(
        LeafkitError, match=r"00001\.vectors does not have the sha256 of its commit record"
    ) as caught:
        _store(folder).missing()
    assert f"delete {folder}" in caught.value.hint


@pytest.mark.parametrize("kind", ["vectors", "hashes"])
@pytest.mark.parametrize("byte", [0, 13, 31])
def test_a_flipped_byte_is_found(folder: Path, kind: str, byte: int) -> None:
    path = folder / f"00001.{kind}"
    content = bytearray(path.read_bytes())
    content[byte] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        LeafkitError, match=rf"00001\.{kind} does not have the sha256 of its commit record"
    ):
        _store(folder).missing()


def test_a_shard_is_read_once_while_it_does_not_change(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []

    def count(path: Path) -> str:
        read.append(path.name)
        return read_sha256(path)

    past_s = time.time() - 60
    for path in folder.iterdir():
        os.utime(path, (past_s, past_s))
    time.sleep(0.05)  # a change in the moment of reading would not be trusted
    monkeypatch.setattr("leafkit.core.file_hashes.read_sha256", count)
    for expected in (6, 0):
        read.clear()
        with remembered_hashes(tmp_path / "hashes.json"):
            assert _store(folder).missing() == []
        assert len(read) == expected


# --- what is refused when a shard is written


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_finite_is_named_and_nothing_is_written(
    tmp_path: Path, bad: float
) -> None:
    vectors = VECTORS[4:8].copy()
    vectors[2, 1] = vectors[3, 0] = bad
    store = _store(tmp_path / "store")
    with pytest.raises(
        LeafkitError, match=r"the vector of row 6 is not finite \(2 such rows among 4\)"
    ):
        store.write(Shard(1, 4, 8), vectors)
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("factor", "told"),
    [
        (1e6, r"holds a number above 65,504, the largest that float16 has"),
        (1e5, r"holds a number above 65,504"),
        (1e-9, r"is too short for float16"),
        (2e-7, r"is too short for float16"),
        (1e-30, r"is too short for float16"),
    ],
)
def test_a_vector_that_float16_cannot_hold_is_refused_and_fits_float32(
    tmp_path: Path, factor: float, told: str
) -> None:
    vectors = VECTORS[:4].copy()
    vectors[1] *= factor
    with pytest.raises(LeafkitError, match=f"the vector of row 1 {told}") as caught:
        _store(tmp_path / "half").write(Shard(0, 0, 4), vectors)
    assert "scale the vectors to length one" in caught.value.hint
    assert not (tmp_path / "half").exists()
    store = _store(tmp_path / "single", dtype="float32")
    store.write(Shard(0, 0, 4), vectors)
    np.testing.assert_array_equal(store[:4], vectors)


@pytest.mark.parametrize("factor", [1.0, 1e-3, 1e4])
def test_what_float16_keeps_within_a_hundredth_is_kept(tmp_path: Path, factor: float) -> None:
    unit = VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True) * np.float32(factor)
    found = _fill(_store(tmp_path), unit)[:]
    assert (np.linalg.norm(found - unit, axis=1) < 0.01 * factor).all()


@pytest.mark.parametrize(
    ("vector", "told"), [([0] * 4, "a vector of zeros"), ([1, 2, 3, 4], "one and the same vector")]
)
def test_one_vector_for_all_texts_is_refused(
    tmp_path: Path, vector: list[float], told: str
) -> None:
    texts = [f"text {i}" for i in range(40)]
    store = _store(tmp_path / "store", texts=texts, rows_per_shard=20)
    vectors = np.tile(np.float32(vector), (20, 1))
    with pytest.raises(LeafkitError, match=rf"20 different texts, from row 20 on, have {told}"):
        store.write(Shard(1, 20, 40), vectors)
    assert not (tmp_path / "store").exists()
    vectors[7, 2] += 1
    store.write(Shard(1, 20, 40), vectors)
    # one text again and again has one vector
    same = _store(tmp_path / "same", texts=["text"] * 20, rows_per_shard=20)
    same.write(Shard(0, 0, 20), np.ones((20, 4), np.float32))


@pytest.mark.parametrize("shape", [(3, 4), (4, 3), (4,), (5, 4), (0, 4), (1, 4, 4)])
def test_a_wrong_shape_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(LeafkitError, match=r"where shard 1 needs \(4, 4\)") as caught:
        _store(tmp_path).write(Shard(1, 4, 8), np.zeros(shape, np.float32))
    assert str(shape) in str(caught.value)


def test_full_disk_leaves_the_shards_that_are_there(tiny_disk: Path) -> None:
    space, texts = replace(SPACE, dim=1024), [f"text {i}" for i in range(40)]
    vectors = np.ones((40, 1024), np.float32)
    store = VectorStore(tiny_disk / "store", space, texts, rows_per_shard=10)
    with pytest.raises(LeafkitError, match=r"cannot write .*No space left on device") as caught:
        _fill(store, vectors)
    assert "free some space" in caught.value.hint
    again = VectorStore(tiny_disk / "store", space, texts, rows_per_shard=10)
    assert 0 < len(again.missing()) < 4
    np.testing.assert_array_equal(again[:10], vectors[:10])


@pytest.mark.parametrize(
    ("number", "hint"),
    [(errno.ENOSPC, "free some space"), (errno.EACCES, "give yourself write permission")],
)
@pytest.mark.parametrize("name", ["mkdir", "replace", "fsync"])
def test_a_refused_write_is_explained_and_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, number: int, hint: str
) -> None:
    def refuse(path: object, *args: Any, **kwargs: Any) -> None:
        raise OSError(number, os.strerror(number))

    def store() -> VectorStore:
        return _store(tmp_path / "store")

    with monkeypatch.context() as patch:
        patch.setattr(os, name, refuse)
        with pytest.raises(LeafkitError, match="cannot write") as caught:
            _fill(store())
    assert hint in caught.value.hint
    assert len(store().missing()) == 3
    assert _fill(store()).missing() == []
