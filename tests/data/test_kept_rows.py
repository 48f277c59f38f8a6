"""Rows of other vector stores: found by text, verified before they are taken, else left alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from leafkit.data.stored.kept_rows import KeptRows
from leafkit.data.vector_store import Space, VectorStore, hash_texts

SPACE = Space("f00d", dim=4, prompt="", max_tokens=64, pooling="mean", normalized=True)
RANDOM = np.random.default_rng(0)
VECTOR_OF = {f"text {i}": RANDOM.normal(size=4).astype(np.float32) for i in range(30)}


def fill(folder: Path, numbers: list[int], dtype: str = "float32", space: Space = SPACE) -> Path:
    """A store of some of the texts in shards of four rows."""
    texts = [f"text {i}" for i in numbers]
    store = VectorStore(folder, space, texts, dtype, rows_per_shard=4)
    for shard in store.missing():
        store.write(shard, np.stack([VECTOR_OF[t] for t in texts[shard.start : shard.stop]]))
    return folder


def kept_of(folders: list[Path], numbers: list[int], dtype: str = "float32") -> KeptRows:
    wanted = hash_texts([f"text {i}" for i in numbers])
    return KeptRows(folders, SPACE, np.dtype(dtype), wanted)


def taken(kept: KeptRows, numbers: list[int]) -> dict[int, np.ndarray]:
    is_there, vectors = kept.take(hash_texts([f"text {i}" for i in numbers]))
    return {n: v for n, v, found in zip(numbers, vectors, is_there, strict=True) if found}


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_every_known_text_gets_its_own_vector_to_the_bit(tmp_path: Path, dtype: str) -> None:
    stores = [
        fill(tmp_path / "a", [3, 1, 4, 15, 9, 2], dtype),
        fill(tmp_path / "b", [*range(20, 30)], dtype),
        fill(tmp_path / "c", [9, 9, 0], dtype),
    ]
    wanted = [9, 0, 28, 5, 1, 9, 21]
    kept = kept_of(stores, wanted, dtype)
    assert (kept.num_found, kept.num_stores) == (6, 3)
    found = taken(kept, wanted)
    assert sorted(found) == [0, 1, 9, 21, 28]
    for number, vector in found.items():
        expected = VECTOR_OF[f"text {number}"].astype(dtype)
        assert np.array_equal(vector.astype(dtype), expected)
    assert kept.has(hash_texts(["text 9", "text 5", "unheard of"])).tolist() == [True, False, False]


def test_the_first_store_that_knows_a_text_gives_it(tmp_path: Path) -> None:
    a, b = fill(tmp_path / "a", [1, 2]), fill(tmp_path / "b", [1, 2])
    path = b / "00000.vectors"
    path.write_bytes(b"\0" * path.stat().st_size)  # it is not even looked at
    kept = kept_of([a, b], [2, 1])
    assert kept.num_stores == 1
    assert len(taken(kept, [1, 2])) == 2


def test_nothing_is_found_where_nothing_is(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert kept_of([], [1]).num_found == 0
    assert kept_of([tmp_path / "empty", tmp_path / "nowhere"], [1]).num_found == 0
    assert taken(kept_of([fill(tmp_path / "a", [2])], [1]), [1]) == {}


@pytest.mark.parametrize(
    "other",
    [
        {"teacher": "beef"},
        {"prompt": "find : "},
        {"max_tokens": 32},
        {"pooling": "cls"},
        {"normalized": False},
    ],
)
def test_vectors_of_another_space_are_no_vectors(tmp_path: Path, other: dict[str, object]) -> None:
    folder = fill(tmp_path / "a", [1, 2], space=replace(SPACE, **other))
    assert kept_of([folder], [1]).num_found == 0


def test_numbers_of_another_kind_are_no_vectors(tmp_path: Path) -> None:
    assert kept_of([fill(tmp_path / "a", [1, 2], "float16")], [1], "float32").num_found == 0


@pytest.mark.parametrize("name", ["vectors", "hashes", "json"])
@pytest.mark.parametrize("damage", ["cut", "flip", "remove"])
def test_a_damaged_shard_is_left_alone_and_named(
    tmp_path: Path, name: str, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = fill(tmp_path / "a", [0, 1, 2, 3, 4, 5, 6, 7])
    path = folder / f"00000.{name}"
    content = bytearray(path.read_bytes())
    if damage == "remove":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(content[:-5])
    else:
        content[1] ^= 0x80
        path.write_bytes(content)
    assert sorted(taken(kept_of([folder], [1, 5]), [1, 5])) == [5]
    shown = "".join(capsys.readouterr()).replace("\n", "")
    uncommitted = (name, damage) == ("json", "remove")
    assert ("is left alone" in shown) is not uncommitted
    # another store that knows the text is asked instead
    assert sorted(taken(kept_of([folder, fill(tmp_path / "b", [1])], [1, 5]), [1, 5])) == [1, 5]


@pytest.mark.parametrize("record", [[], {}, {"space": 1}, {"sha256": 3}])
def test_a_record_of_another_form_is_left_alone(tmp_path: Path, record: object) -> None:
    folder = fill(tmp_path / "a", [1, 2])
    (folder / "00000.json").write_text(json.dumps(record))
    assert kept_of([folder], [1]).num_found == 0
