"""Vectors made elsewhere: found by their text, refused where they cannot be told apart or are no
vectors.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

from leafkit.core.errors import LeafkitError, UsageError
from leafkit.core.file_hashes import sha256_of_file
from leafkit.data.records import Document
from leafkit.data.vector_store import Space, VectorStore
from leafkit.embedders.fill_store import fill_store
from leafkit.embedders.precomputed import PrecomputedVectors

DOCUMENTS = [document for _, document in tiny.make_pairs(40)]
QUERIES = [query for query, _ in tiny.make_pairs(20)]


def unit(count: int, dim: int = 12, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def write_rows(path: Path, texts: list[Any]) -> None:
    rows = [text if isinstance(text, dict) else {"text": text} for text in texts]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write(folder: Path, about: dict[str, Any] | None = None, dtype: Any = np.float32) -> Path:
    """A good folder, in the three lines of numpy that the module's text promises."""
    folder.mkdir(exist_ok=True)
    for stem, texts, seed in (("documents", DOCUMENTS, 0), ("queries", QUERIES, 1)):
        write_rows(folder / f"{stem}.jsonl", texts)
        np.save(folder / f"{stem}.npy", unit(len(texts), seed=seed).astype(dtype))
    if about is not None:
        (folder / "about.json").write_text(json.dumps(about))
    return folder


@pytest.fixture
def folder(tmp_path) -> Path:
    return write(tmp_path / "theirs")


def refused(folder: Path, match: str) -> LeafkitError:
    with pytest.raises(LeafkitError, match=match) as caught:
        PrecomputedVectors(folder)
    assert caught.value.hint
    return caught.value


def test_vectors_are_found_by_text_in_any_order(folder):
    model = PrecomputedVectors(folder)
    assert (model.dim, model.mrl_dims, model.name, model.prompt("query")) == (12, (), "", "")
    order = np.random.default_rng(3).permutation(len(DOCUMENTS))
    found = model.embed([DOCUMENTS[i] for i in order], "document", 64)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, unit(len(DOCUMENTS))[order], atol=1e-6)
    np.testing.assert_allclose(
        model.embed(QUERIES, "query", 64), unit(len(QUERIES), seed=1), atol=1e-6
    )
    assert model.embed([], "query", 64).shape == (0, 12)
    assert model.space("query", 64) == Space(
        teacher=model.fingerprint, dim=12, prompt="", max_tokens=0, pooling="", normalized=True
    )


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4"])
def test_floats_of_any_width_are_read(tmp_path, dtype):
    model = PrecomputedVectors(write(tmp_path / "f", dtype=dtype))
    np.testing.assert_allclose(
        model.embed(DOCUMENTS, "document", 64), unit(len(DOCUMENTS)), atol=1e-3
    )
    assert np.allclose(np.linalg.norm(model.embed(DOCUMENTS, "document", 64), axis=1), 1, atol=1e-6)


def test_columns_first_is_read_too(folder):
    np.save(folder / "documents.npy", np.asfortranarray(unit(len(DOCUMENTS))))
    np.testing.assert_allclose(
        PrecomputedVectors(folder).embed(DOCUMENTS, "document", 64), unit(len(DOCUMENTS)), atol=1e-6
    )


def test_a_text_is_what_a_collection_makes_of_the_row(tmp_path):
    rows = [
        {"id": "a", "title": "Title", "text": "body"},
        {"_id": "b", "text": "  spaced\n"},
        {"text": "nul\u0000byte", "title": None},
        {"text": "only text", "title": ""},
    ]
    write_rows(tmp_path / "documents.jsonl", rows)
    np.save(tmp_path / "documents.npy", unit(4))
    model = PrecomputedVectors(tmp_path)
    texts = [Document("a", "body", "Title").full_text, "spaced", "nul byte", "only text"]
    np.testing.assert_allclose(model.embed(texts, "document", 64), unit(4), atol=1e-6)


def test_byte_order_marks_and_empty_lines_are_nothing(folder):
    content = (folder / "queries.jsonl").read_text()
    (folder / "queries.jsonl").write_bytes(b"\xef\xbb\xbf" + content.replace("\n", "\n\n").encode())
    np.testing.assert_allclose(
        PrecomputedVectors(folder).embed(QUERIES, "query", 64),
        unit(len(QUERIES), seed=1),
        atol=1e-6,
    )


def test_a_store_filled_from_it_holds_the_same(folder, tmp_path):
    model = PrecomputedVectors(folder)
    store = VectorStore(tmp_path / "s", model.space("document", 64), DOCUMENTS, rows_per_shard=16)
    assert fill_store(store, model, DOCUMENTS, "document", title="test") == len(DOCUMENTS)
    np.testing.assert_allclose(store[:], unit(len(DOCUMENTS)), atol=1e-3)


# --- what is missing


def test_missing_texts_are_counted_and_shown(folder):
    model = PrecomputedVectors(folder)
    with pytest.raises(
        LeafkitError,
        match=r"lacks the query vectors of 2 of 4 texts; the first is number 1, 'unheard of'$",
    ) as caught:
        model.embed([QUERIES[0], "unheard of", QUERIES[1], "x" * 500], "query", 64)
    assert "add them to the queries" in caught.value.hint
    with pytest.raises(LeafkitError, match=r"\(1 of them are among the documents\)"):
        model.embed([DOCUMENTS[0]], "query", 64)
    assert model.has([QUERIES[3], "unheard of", DOCUMENTS[0]], "query").tolist() == [
        True,
        False,
        False,
    ]


def test_a_role_without_files_is_named(folder):
    for suffix in ("jsonl", "npy"):
        (folder / f"queries.{suffix}").unlink()
    model = PrecomputedVectors(folder)
    assert not model.has(QUERIES, "query").any()
    for work in (lambda: model.embed(QUERIES, "query", 64), lambda: model.space("query", 64)):
        with pytest.raises(LeafkitError, match="holds no query vectors") as caught:
            work()
        assert "queries.jsonl and queries.npy" in caught.value.hint


def test_a_folder_that_is_none_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="no such folder"):
        PrecomputedVectors(tmp_path / "none")
    refused(tmp_path, "holds neither documents.jsonl and documents.npy nor a vector store")


@pytest.mark.parametrize(
    "name", ["documents.jsonl", "documents.npy", "queries.jsonl", "queries.npy"]
)
def test_half_a_pair_is_refused(folder, name):
    (folder / name).unlink()
    refused(folder, f"{name} is missing")


# --- what is wrong


def test_another_number_of_rows_is_refused(folder):
    np.save(folder / "documents.npy", unit(len(DOCUMENTS) - 1))
    refused(folder, r"documents\.jsonl has 40 rows and documents\.npy 39")


@pytest.mark.parametrize(
    ("matrix", "match"),
    [
        (np.array([None] * 40), "no matrix that numpy can map"),
        (np.ones((40, 12), np.int8), "holds int8"),
        (np.ones((40, 12), complex), "holds complex128"),
        (np.array(["a"] * 40), "holds <U1"),
        (np.ones(40, np.float32), r"shape \(40,\)"),
        (np.ones((40, 0), np.float32), r"shape \(40, 0\)"),
        (np.ones((40, 3, 4), np.float32), r"shape \(40, 3, 4\)"),
        (np.ones((0, 12), np.float32), r"shape \(0, 12\)"),
        (unit(len(DOCUMENTS), dim=8), "documents of 8 dimensions and queries of 12 dimensions"),
    ],
)
def test_what_is_no_matrix_of_vectors_is_refused(folder, matrix, match):
    np.save(folder / "documents.npy", matrix, allow_pickle=True)
    refused(folder, match)


@pytest.mark.parametrize("damage", ["truncate", "text", "empty", "npz"])
def test_a_damaged_matrix_is_refused(folder, damage):
    path = folder / "documents.npy"
    if damage == "npz":
        np.savez(folder / "other.npz", unit(3))
        (folder / "other.npz").rename(path)
    else:
        path.write_bytes(
            {"truncate": path.read_bytes()[:-100], "text": b"not numpy at all", "empty": b""}[
                damage
            ]
        )
    refused(folder, r"documents\.npy is no matrix that numpy can map")


@pytest.mark.parametrize(
    ("value", "dtype"), [(np.nan, np.float32), (np.inf, np.float16), (1e300, np.float64)]
)
def test_numbers_that_are_not_finite_are_refused_by_row(folder, value, dtype):
    vectors = unit(len(DOCUMENTS)).astype(dtype)
    vectors[7, 3] = vectors[9, 0] = value
    np.save(folder / "documents.npy", vectors)
    refused(folder, r"the vector of documents\.jsonl:8 is not finite \(2 such vectors among 40\)")


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ("{not json", "not JSON"),
        ('{"text": "\udcff"', "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('["text"]', "a row needs 'text'"),
        ('{"query": "a"}', "a row needs 'text'"),
        ('{"text": 5}', "a row needs 'text'"),
        ('{"text": "a", "title": 5}', "a row needs 'text'"),
    ],
)
def test_a_bad_row_is_named(folder, line, match):
    lines = (folder / "queries.jsonl").read_text().splitlines()
    lines[4] = line
    (folder / "queries.jsonl").write_bytes("\n".join(lines).encode("utf-8", "surrogateescape"))
    refused(folder, rf"queries\.jsonl:5: {match}")


def test_a_text_with_two_vectors_is_refused_and_with_one_twice_is_not(folder):
    write_rows(folder / "documents.jsonl", [*DOCUMENTS, DOCUMENTS[4], DOCUMENTS[4]])
    vectors = unit(len(DOCUMENTS) + 2)
    vectors[-2:] = vectors[4] * np.float32(1.001)  # another batch, another rounding
    np.save(folder / "documents.npy", vectors)
    np.testing.assert_allclose(
        PrecomputedVectors(folder).embed([DOCUMENTS[4]], "document", 64), vectors[4:5], atol=1e-6
    )
    vectors[-1] = vectors[5]
    np.save(folder / "documents.npy", vectors)
    refused(
        folder,
        r"the text of documents\.jsonl:5 stands again in documents\.jsonl:42, with another "
        r"vector \(1 such texts\)",
    )


# --- about.json


def test_about_says_name_prompts_and_dimensions(tmp_path):
    about = {
        "name": "their model",
        "prompts": {"query": "find : "},
        "mrl_dims": [12, 6],
        "normalized": True,
        "space": "theirs",
    }
    model = PrecomputedVectors(write(tmp_path / "f", about))
    assert (model.name, model.mrl_dims, model.prompt("query"), model.prompt("document")) == (
        "their model",
        (12, 6),
        "find : ",
        "",
    )
    assert model.space("query", 64) == Space(
        teacher="theirs", dim=12, prompt="find : ", max_tokens=0, pooling="", normalized=True
    )
    assert (model.space_id, model.is_named) == ("theirs", True)
    assert model.fingerprint != "theirs"
    assert PrecomputedVectors(tmp_path / "f", mrl_dims=[4, 8]).mrl_dims == (8, 4)


@pytest.mark.parametrize(
    ("about", "match"),
    [
        ([], "holds a list"),
        ({"dim": 3}, "'dim' is not known"),
        ({"name": 3}, "name is 3, not a str"),
        ({"prompts": {"queries": "a"}}, "not text by role"),
        ({"prompts": {"query": 1}}, "not text by role"),
        ({"mrl_dims": [6, 12]}, "not a falling list"),
        ({"mrl_dims": [6.5]}, "not a falling list"),
        ({"mrl_dims": [13]}, "are not between 1 and the vectors' 12"),
        ({"mrl_dims": [6, 0]}, "are not between 1 and"),
        ({"normalized": "yes"}, "not a bool"),
        ({"space": ["a"]}, "not a str"),
    ],
)
def test_an_about_that_cannot_be_is_refused(tmp_path, about, match):
    write(tmp_path / "f")
    (tmp_path / "f" / "about.json").write_text(json.dumps(about))
    refused(tmp_path / "f", match)


def test_an_about_that_is_not_json_is_refused(folder):
    (folder / "about.json").write_text("{")
    refused(folder, r"about\.json is not JSON")


def test_vectors_are_normalized_where_they_are_said_to_be_and_only_there(tmp_path):
    folder = write(tmp_path / "f")
    vectors = unit(len(DOCUMENTS)) * np.arange(1, len(DOCUMENTS) + 1, dtype=np.float32)[:, None]
    np.save(folder / "documents.npy", vectors)
    model = PrecomputedVectors(folder)
    assert not model.space("document", 64).normalized
    assert not model.space("query", 64).normalized  # one model, one space
    np.testing.assert_allclose(model.embed(DOCUMENTS, "document", 64), vectors, rtol=1e-6)
    (folder / "about.json").write_text('{"normalized": true}')
    model = PrecomputedVectors(folder)
    assert model.space("document", 64).normalized
    np.testing.assert_allclose(
        model.embed(DOCUMENTS, "document", 64), unit(len(DOCUMENTS)), atol=1e-6
    )


@pytest.mark.parametrize("normalized", ["true", "false"])
@pytest.mark.parametrize("stem", ["documents", "queries"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(
    ("rows", "value", "told"),
    [
        ([3], 0.0, r"jsonl:4 has length zero in float32 \(1 such vectors"),
        ([0, 3], -0.0, r"jsonl:1 has length zero in float32 \(2 such vectors"),
        (slice(None), 0.0, r"jsonl:1 has length zero"),
        (slice(None), 0.25, r"texts have one and the same vector"),
    ],
)
def test_vectors_that_find_nothing_are_refused(
    tmp_path, normalized, stem, dtype, rows, value, told
):
    folder = write(tmp_path / "f", dtype=dtype)
    (folder / "about.json").write_text(f'{{"normalized": {normalized}}}')
    vectors = np.load(folder / f"{stem}.npy")
    vectors[rows] = value
    np.save(folder / f"{stem}.npy", vectors)
    refused(folder, told)


def test_float64_vectors_that_float32_makes_zero_are_refused(tmp_path):
    folder = write(tmp_path / "f", dtype=np.float64)
    vectors = np.load(folder / "documents.npy")
    vectors[5] *= 1e-60
    np.save(folder / "documents.npy", vectors)
    refused(folder, r"documents\.jsonl:6 has length zero in float32")


def test_short_vectors_are_scaled_where_about_says_so_and_else_refused_with_that_remedy(tmp_path):
    folder = write(tmp_path / "f")
    for stem in ("documents", "queries"):
        np.save(folder / f"{stem}.npy", np.load(folder / f"{stem}.npy") * np.float32(1e-9))
    model = PrecomputedVectors(folder)
    store = VectorStore(tmp_path / "s", model.space("document", 64), DOCUMENTS)
    with pytest.raises(LeafkitError, match="is too short for float16") as caught:
        fill_store(store, model, DOCUMENTS, "document", title="")
    assert '"normalized": true in about.json' in caught.value.hint
    (folder / "about.json").write_text('{"normalized": true}')
    model = PrecomputedVectors(folder)
    store = VectorStore(tmp_path / "s", model.space("document", 64), DOCUMENTS)
    fill_store(store, model, DOCUMENTS, "document", title="")
    np.testing.assert_allclose(store[:], unit(len(DOCUMENTS)), atol=1e-3)


@pytest.mark.parametrize("kind", ["matrix", "store"])
def test_a_file_that_is_cut_while_it_is_open_is_an_error_and_no_dead_process(tmp_path, kind):
    if kind == "matrix":
        folder = write(tmp_path / "f")
        file = folder / "documents.npy"
    else:
        folder = tmp_path / "f"
        space = Space("a", 12, "", max_tokens=0, pooling="", normalized=True)
        VectorStore(folder, space, DOCUMENTS).write(
            VectorStore(folder, space, DOCUMENTS).missing()[0], unit(len(DOCUMENTS))
        )
        file = folder / "00000.vectors"
    model = PrecomputedVectors(folder)
    model.embed(DOCUMENTS, "document", 64)
    file.write_bytes(b"")  # in place, as a program that writes it anew begins
    with pytest.raises(LeafkitError, match=rf"{file.name} has 0 bytes where it had"):
        model.embed(DOCUMENTS, "document", 64)


def test_the_fingerprint_is_the_contents(folder, tmp_path):
    first = PrecomputedVectors(folder).fingerprint
    assert PrecomputedVectors(write(tmp_path / "copy")).fingerprint == first
    np.save(folder / "queries.npy", unit(len(QUERIES), seed=9))
    second = PrecomputedVectors(folder).fingerprint
    write_rows(folder / "queries.jsonl", [*QUERIES[:-1], "another text"])
    third = PrecomputedVectors(folder).fingerprint
    (folder / "about.json").write_text('{"prompts": {"query": "a"}}')
    assert len({first, second, third, PrecomputedVectors(folder).fingerprint}) == 4


def test_a_named_space_outlives_more_texts(tmp_path):
    folder = write(tmp_path / "f", {"space": "theirs"})
    before = PrecomputedVectors(folder)
    write_rows(folder / "queries.jsonl", [*QUERIES, "one more"])
    np.save(folder / "queries.npy", unit(len(QUERIES) + 1, seed=1))
    after = PrecomputedVectors(folder)
    assert before.space("query", 64) == after.space("query", 64)
    assert before.fingerprint != after.fingerprint


# --- leafkit's own stores


def make_store(
    folder: Path, texts: list[str], seed: int, prompt: str = "", teacher: str = "abc", dim: int = 12
) -> VectorStore:
    store = VectorStore(
        folder,
        Space(
            teacher=teacher, dim=dim, prompt=prompt, max_tokens=64, pooling="mean", normalized=True
        ),
        texts,
        rows_per_shard=16,
    )
    vectors = unit(len(texts), dim, seed)
    for shard in store.missing():
        store.write(shard, vectors[shard.start : shard.stop])
    return store


def test_a_store_serves_its_texts_in_its_own_space(tmp_path):
    store = make_store(tmp_path / "s", DOCUMENTS, 0)
    model = PrecomputedVectors(tmp_path / "s", mrl_dims=[6])
    assert np.array_equal(model.embed(DOCUMENTS[::-1], "document", 9), store[:][::-1])
    assert np.array_equal(model.embed(DOCUMENTS[:3], "query", 9), store[:3])
    assert model.space("document", 9) == store.space
    assert (model.fingerprint, model.space_id, model.is_named, model.mrl_dims) == (
        "abc",
        "abc",
        True,
        (6,),
    )


def test_two_stores_serve_a_role_each(tmp_path):
    documents = make_store(tmp_path / "documents", DOCUMENTS, 0)
    queries = make_store(tmp_path / "queries", QUERIES, 1, prompt="find : ")
    (tmp_path / "about.json").write_text('{"name": "ours", "mrl_dims": [12, 6]}')
    model = PrecomputedVectors(tmp_path)
    assert np.array_equal(model.embed(QUERIES, "query", 9), queries[:])
    assert np.array_equal(model.embed(DOCUMENTS, "document", 9), documents[:])
    assert (model.prompt("query"), model.prompt("document"), model.name) == ("find : ", "", "ours")
    assert asdict(model.space("query", 9)) == asdict(queries.space)
    with pytest.raises(LeafkitError, match="lacks the query vectors of 1 of 1"):
        model.embed([DOCUMENTS[0]], "query", 9)


@pytest.mark.parametrize("changes", [{"teacher": "def"}, {"dim": 8}])
def test_two_stores_of_two_models_are_refused(tmp_path, changes):
    make_store(tmp_path / "documents", DOCUMENTS, 0)
    make_store(tmp_path / "queries", QUERIES, 1, **changes)
    refused(tmp_path, "documents and queries are of two models")


def test_a_store_that_is_being_written_serves_its_finished_shards(tmp_path):
    make_store(tmp_path / "s", DOCUMENTS, 0)
    (tmp_path / "s" / "00001.json").unlink()
    model = PrecomputedVectors(tmp_path / "s")
    assert model.has(DOCUMENTS, "document").tolist() == [True] * 16 + [False] * 16 + [True] * 8
    for path in (tmp_path / "s").glob("*.json"):
        path.unlink()
    refused(tmp_path / "s", "holds no committed shard")


@pytest.mark.parametrize("name", ["00001.vectors", "00001.hashes"])
def test_a_damaged_store_is_refused_by_its_sha256(tmp_path, name):
    make_store(tmp_path / "s", DOCUMENTS, 0)
    path = tmp_path / "s" / name
    content = bytearray(path.read_bytes())
    content[5] ^= 1
    path.write_bytes(content)
    refused(tmp_path / "s", f"{name} is missing or has not the sha256 of its commit record")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"rows": 15}, "has not the 15 float16 rows"),
        ({"dtype": "float32"}, "has not the 16 float32 rows"),
        ({"space": {"teacher": "abc"}}, "is not a commit record"),
        ({"sha256": {}}, "is not a commit record"),
        ({"rows": "many"}, "is not a commit record"),
        ({"dtype": "float17"}, "is not a commit record"),
    ],
)
def test_a_commit_record_that_lies_is_refused(tmp_path, changes, match):
    make_store(tmp_path / "s", DOCUMENTS, 0)
    path = tmp_path / "s" / "00001.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    refused(tmp_path / "s", match)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("teacher", [1]),
        ("dim", None),
        ("dim", -1),
        ("prompt", None),
        ("max_tokens", "x"),
        ("normalized", 1),
        ("pooling", 0),
    ],
)
def test_a_record_of_a_space_that_cannot_be_is_refused(tmp_path, key, value):
    make_store(tmp_path / "store", DOCUMENTS, 0)
    path = tmp_path / "store" / "00000.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"space": record["space"] | {key: value}}))
    refused(tmp_path / "store", "is not a commit record")


def test_whole_numbers_of_the_width_of_floats_are_no_vectors(tmp_path):
    make_store(tmp_path / "store", DOCUMENTS, 0)
    path = tmp_path / "store" / "00000.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"dtype": "int16"}))
    refused(tmp_path / "store", r"is not a commit record: .* int16")


def test_shards_of_two_spaces_in_one_folder_are_refused(tmp_path):
    make_store(tmp_path / "s", DOCUMENTS, 0)
    path = tmp_path / "s" / "00002.json"
    record = json.loads(path.read_text())
    record["space"]["prompt"] = "another : "
    path.write_text(json.dumps(record))
    refused(tmp_path / "s", r"00002\.json is of another space")


def test_a_store_that_holds_nan_is_refused(tmp_path):
    make_store(tmp_path / "s", DOCUMENTS, 0)
    path = tmp_path / "s" / "00001.vectors"
    vectors = np.fromfile(path, dtype="<f2")
    vectors[0] = np.nan
    vectors.tofile(path)
    record = json.loads((tmp_path / "s" / "00001.json").read_text())
    record["sha256"]["00001.vectors"] = sha256_of_file(path)
    (tmp_path / "s" / "00001.json").write_text(json.dumps(record))
    refused(tmp_path / "s", "the vector of row 16 is not finite")


def test_a_store_says_itself_what_its_space_is(tmp_path):
    make_store(tmp_path / "s", DOCUMENTS, 0)
    (tmp_path / "s" / "about.json").write_text('{"space": "theirs"}')
    refused(tmp_path / "s", "a vector store says itself")


def test_a_store_beside_matrices_is_refused(folder):
    make_store(folder / "documents", DOCUMENTS, 0)
    refused(folder, r"holds a vector store and documents\.\w+ beside it")
