"""Texts with their vectors out of files and databases: nothing is dropped without a word, and a
fetch that was stopped goes on.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from leafkit.core.errors import LeafkitError, UsageError
from leafkit.data.sources.bad_rows import BadRows
from leafkit.embedders.pairs import parquet_pairs, qdrant_pairs
from leafkit.embedders.pairs.columns import PairColumns
from leafkit.embedders.pairs.pair_files import PairFiles, PairRow
from leafkit.embedders.pairs.parquet_pairs import fetch_parquet
from leafkit.embedders.precomputed import PrecomputedVectors


def vectors(count: int, dim: int = 4, seed: int = 0) -> np.ndarray:
    found = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def rows(count: int, first: int = 0) -> list[PairRow]:
    return [PairRow(f"d{i}", "", f"text number {i}") for i in range(first, first + count)]


def bad_rows(policy: str = "stop") -> BadRows:
    return BadRows(policy, 100, Counter())


def moved(files: PairFiles, folder: Path) -> PrecomputedVectors:
    folder.mkdir()
    files.move_to(folder, {"name": "old"})
    return PrecomputedVectors(folder)


def embed_all(found: PrecomputedVectors, texts: list[str]) -> np.ndarray:
    return found.embed(texts, "document", 0)


# --- the files


def test_blocks_become_a_folder_that_teaches(tmp_path):
    files, made = PairFiles(tmp_path / "work", "source"), vectors(5)
    files.append(rows(3), made[:3], 3)
    files.append([PairRow("x", "Title", "body"), *rows(1, 4)], made[3:], None, is_done=True)
    found = moved(files, tmp_path / "pairs")
    texts = ["text number 0", "text number 2", "Title body", "text number 4"]
    np.testing.assert_allclose(embed_all(found, texts), made[[0, 2, 3, 4]], atol=1e-6)
    assert (found.name, found.dim, found.roles) == ("old", 4, ("document",))
    assert not (tmp_path / "work").exists()


def test_what_was_not_committed_is_cut_off_and_written_again(tmp_path):
    files, made = PairFiles(tmp_path / "work", "source"), vectors(4)
    files.append(rows(2), made[:2], 2)
    # killed while the second block was written
    with (tmp_path / "work" / "rows.jsonl").open("ab") as file:
        file.write(b'{"id": "d2", "ti')
    with (tmp_path / "work" / "vectors.f32").open("ab") as file:
        file.write(made[2:].tobytes()[:7])
    again = PairFiles(tmp_path / "work", "source")
    assert (again.progress.rows, again.progress.next) == (2, 2)
    again.append(rows(2, 2), made[2:], None, is_done=True)
    found = moved(again, tmp_path / "pairs")
    texts = [row.text for row in rows(4)]
    np.testing.assert_allclose(embed_all(found, texts), made, atol=1e-6)


@pytest.mark.parametrize("damage", ["source", "short", "record"])
def test_what_is_of_another_source_or_damaged_begins_anew(tmp_path, damage):
    PairFiles(tmp_path, "source").append(rows(2), vectors(2), 2)
    if damage == "short":
        (tmp_path / "vectors.f32").write_bytes(b"1234")
    if damage == "record":
        (tmp_path / "progress.json").write_text("{")
    again = PairFiles(tmp_path, "other" if damage == "source" else "source")
    assert (again.progress.rows, again.progress.next) == (0, None)
    assert (tmp_path / "rows.jsonl").read_bytes() == b""


def test_numbers_that_are_none_and_other_dimensions_are_refused_by_name(tmp_path):
    files = PairFiles(tmp_path, "source")
    wrong = vectors(2).astype(np.float64)
    wrong[1, 0] = 1e300
    with pytest.raises(LeafkitError, match="vector of 'd1' holds a number"):
        files.append(rows(2), wrong, 2)
    files.append(rows(2), vectors(2), 2)
    with pytest.raises(LeafkitError, match="'d2' has 5 dimensions, those before 4"):
        files.append(rows(1, 2), vectors(1, dim=5), 3)


def test_a_source_without_a_row_is_no_index(tmp_path):
    files = PairFiles(tmp_path / "work", "qdrant:there/empty")
    files.append([], np.empty((0, 0)), None, is_done=True)
    (tmp_path / "pairs").mkdir()
    with pytest.raises(LeafkitError, match="there/empty holds no text with a vector"):
        files.move_to(tmp_path / "pairs", {"name": "x"})


# --- parquet


def write_parquet(path: Path, kind: Any = None, **columns: Any) -> Path:
    if kind is not None:
        columns["vector"] = pa.array(columns["vector"], type=kind)
    pq.write_table(pa.table(columns), path)
    return path


def fetched(
    path: Path,
    tmp_path: Path,
    columns: PairColumns | None = None,
    policy: str = "stop",
    similarity: str = "",
):
    bad, files = bad_rows(policy), PairFiles(tmp_path / "work", "source")
    fetch_parquet(path, columns or PairColumns(), files, bad, similarity=similarity)
    return files, bad


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.float32()),
        pa.large_list(pa.float64()),
        pa.list_(pa.float32(), 4),
        pa.list_(pa.float16()),
    ],
    ids=str,
)
def test_lists_of_every_kind_are_read(tmp_path, kind):
    made = vectors(3)
    numbers = list(made.astype(np.float16)) if "half" in str(kind) else made.tolist()
    path = write_parquet(
        tmp_path / "a.parquet", kind, text=["one", "two", "three"], vector=numbers, id=[7, 8, 9]
    )
    files, _ = fetched(path, tmp_path)
    lines = (tmp_path / "work" / "rows.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["7", "8", "9"]
    found = moved(files, tmp_path / "pairs")
    np.testing.assert_allclose(embed_all(found, ["three", "one"]), made[[2, 0]], atol=1e-3)


def test_columns_have_the_names_that_are_said_and_rows_without_ids_their_numbers(tmp_path):
    path = write_parquet(
        tmp_path / "a.parquet",
        body=["one", "two"],
        head=["First", None],
        embedding=vectors(2).tolist(),
        other=[1, 2],
    )
    columns = PairColumns(text="body", title="head", vector="embedding")
    fetched(path, tmp_path, columns)
    lines = (tmp_path / "work" / "rows.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"id": "0", "title": "First", "text": "one"},
        {"id": "1", "title": "", "text": "two"},
    ]


@pytest.mark.parametrize(
    ("columns", "says", "hint"),
    [
        (PairColumns(text="body"), "no column 'body'; it has text, vector, note", "text=NAME"),
        (PairColumns(vector="v"), "no column 'v'", "vector=NAME"),
        (PairColumns(id="key"), "no column 'key'", "id=NAME"),
        (PairColumns(vector="note"), "'note' holds int64, not lists of floats", "vector=NAME"),
    ],
)
def test_a_column_that_is_not_there_is_named_with_those_that_are(tmp_path, columns, says, hint):
    path = write_parquet(tmp_path / "a.parquet", text=["one"], vector=vectors(1).tolist(), note=[1])
    with pytest.raises(UsageError, match=says) as refused:
        fetched(path, tmp_path, columns)
    assert hint in refused.value.hint


@pytest.mark.parametrize(
    ("text", "vector", "says"),
    [
        (["one", None], vectors(2).tolist(), "row 1: 'text' is missing"),
        (["one", " "], vectors(2).tolist(), "row 1: 'text' is empty"),
        (["one", "two"], [vectors(1)[0].tolist(), None], "row 1: 'vector' is missing or empty"),
        (["one", "two"], [vectors(1)[0].tolist(), [1.0, None]], "'vector' is missing or empty"),
    ],
)
def test_a_row_that_cannot_be_used_stops_the_fetch_or_is_counted(tmp_path, text, vector, says):
    path = write_parquet(tmp_path / "a.parquet", text=text, vector=vector)
    with pytest.raises(LeafkitError, match=says) as refused:
        fetched(path, tmp_path)
    assert "on_bad_row=skip" in refused.value.hint
    files, bad = fetched(path, tmp_path, policy="skip")
    assert (files.progress.rows, files.progress.skipped) == (1, 1)
    assert bad.counts["bad rows skipped"] == 1


def test_vectors_of_two_lengths_are_two_models(tmp_path):
    path = write_parquet(
        tmp_path / "a.parquet", text=["one", "two"], vector=[[1.0, 0.0], [1.0, 0.0, 0.0]]
    )
    with pytest.raises(LeafkitError, match="'1' has 3 dimensions, that of '0' 2"):
        fetched(path, tmp_path)


@pytest.mark.parametrize(
    ("ids", "says"),
    [
        (["book", "page", "book"], "row 2: the 'id' 'book' is used twice"),
        (["book", "page", " book"], "row 2: the 'id' 'book' is used twice"),
        (["book", None, "page"], "row 1: 'id' is None, which is no id"),
        ([0.5, 1.5, 2.5], "row 0: 'id' is 0.5, which is no id"),
    ],
)
def test_ids_that_are_none_can_be_left_aside(tmp_path, monkeypatch, ids, says):
    monkeypatch.setattr(parquet_pairs, "_ROWS_AT_ONCE", 2)
    texts, made = ["one", "two", "three"], vectors(3)
    path = write_parquet(tmp_path / "a.parquet", text=texts, vector=made.tolist(), id=ids)
    with pytest.raises(LeafkitError, match=says) as refused:
        fetched(path, tmp_path)
    assert "id=NAME names another column, id=- takes the rows' numbers" in refused.value.hint
    # what went on behind a stop knows the ids before it, and no policy drops chunks of a book
    if "twice" in says:
        with pytest.raises(UsageError, match=says):
            fetched(path, tmp_path, policy="skip")
    files = PairFiles(tmp_path / "anew", "source")
    fetch_parquet(path, PairColumns(id="-"), files, bad_rows())
    lines = (tmp_path / "anew" / "rows.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["0", "1", "2"]


def test_lengths_that_are_not_one_need_a_similarity(tmp_path):
    numbers = [[0.6, 0.8], [3.0, 4.0]]
    path = write_parquet(tmp_path / "a.parquet", text=["one", "two"], vector=numbers)
    with pytest.raises(UsageError, match=r"'1' has length 5\.000, and nothing says") as refused:
        fetched(path, tmp_path)
    assert "similarity=dot" in refused.value.hint
    files, _ = fetched(path, tmp_path, similarity="dot")
    assert files.progress.rows == 2


def test_a_file_that_is_none_and_one_that_is_missing(tmp_path):
    path = tmp_path / "a.parquet"
    with pytest.raises(UsageError, match="no such file"):
        fetched(path, tmp_path)
    path.write_bytes(b"PAR1 and nothing else")
    with pytest.raises(LeafkitError, match="no Parquet file, or damaged"):
        fetched(path, tmp_path)


def test_a_stopped_fetch_of_a_file_goes_on_behind_the_last_block(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_pairs, "_ROWS_AT_ONCE", 2)
    made = vectors(5)
    path = write_parquet(
        tmp_path / "a.parquet", text=[row.text for row in rows(5)], vector=made.tolist()
    )
    files, append = PairFiles(tmp_path / "work", "source"), PairFiles.append
    calls: list[int] = []

    def stop_at_the_second(self, block, *rest, **kinds):
        calls.append(len(block))
        if len(calls) == 2:
            raise KeyboardInterrupt
        append(self, block, *rest, **kinds)

    monkeypatch.setattr(PairFiles, "append", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        fetch_parquet(path, PairColumns(), files, bad_rows())
    again = PairFiles(tmp_path / "work", "source")
    assert again.progress.rows == 2
    fetch_parquet(path, PairColumns(), again, bad_rows())
    assert calls[2:] == [2, 1, 0]  # the first block is not written again
    found = moved(again, tmp_path / "pairs")
    np.testing.assert_allclose(embed_all(found, [r.text for r in rows(5)]), made, atol=1e-6)


# --- Qdrant's local mode


@pytest.fixture
def qdrant(tmp_path):
    client_of = pytest.importorskip(
        "qdrant_client", reason="qdrant-client is not installed: extra qdrant"
    ).QdrantClient
    client = client_of(path=str(tmp_path / "qdrant"))
    yield client
    client.close()


def fill(client, name: str, made: np.ndarray, distance: str = "Cosine", **payload: Any) -> None:
    from qdrant_client.models import PointStruct, VectorParams

    client.create_collection(
        name, vectors_config=VectorParams(size=made.shape[1], distance=distance)
    )
    points = [
        PointStruct(id=i + 1, vector=vector.tolist(), payload={"text": row.text, **payload})
        for i, (row, vector) in enumerate(zip(rows(len(made)), made, strict=True))
    ]
    client.upsert(name, points)


def fetch_points(
    client, name: str, files: PairFiles, columns: PairColumns | None = None, similarity: str = ""
):
    return qdrant_pairs.fetch_qdrant(
        client,
        "place",
        name,
        columns or PairColumns(),
        total=qdrant_pairs.count_points(client, "place", name),
        files=files,
        bad=bad_rows(),
        similarity=similarity,
    )


def test_a_collection_is_read_page_by_page_and_gone_on_with(tmp_path, qdrant, monkeypatch):
    monkeypatch.setattr(qdrant_pairs, "_POINTS_AT_ONCE", 2)
    made = vectors(5)
    fill(qdrant, "books", made)
    files, scroll = PairFiles(tmp_path / "work", "source"), qdrant.scroll
    asked: list[Any] = []

    def stop_at_the_second(*words, **kinds):
        asked.append(kinds["offset"])
        if len(asked) == 2:
            raise ConnectionError("reset by peer")
        return scroll(*words, **kinds)

    monkeypatch.setattr(qdrant, "scroll", stop_at_the_second)
    with pytest.raises(LeafkitError, match="reset by peer") as failed:
        fetch_points(qdrant, "books", files)
    assert "goes on where it stopped" in failed.value.hint
    again = PairFiles(tmp_path / "work", "source")
    assert again.progress.rows == 2
    assert fetch_points(qdrant, "books", again) == "cosine"
    assert asked[2] == again_offset(asked)
    found = moved(again, tmp_path / "pairs")
    np.testing.assert_allclose(embed_all(found, [r.text for r in rows(5)]), made, atol=1e-5)


def again_offset(asked: list[Any]) -> Any:
    """Where the second page begins is where the fetch goes on."""
    assert asked[0] is None
    assert asked[1] is not None
    return asked[1]


def test_a_key_that_is_not_in_the_payload_is_named_with_those_that_are(tmp_path, qdrant):
    fill(qdrant, "books", vectors(2), page=3)
    columns = PairColumns(text="page_content")
    with pytest.raises(
        LeafkitError, match="no 'page_content' in its payload, which has page, text"
    ):
        fetch_points(qdrant, "books", PairFiles(tmp_path / "work", "source"), columns)


def test_a_collection_that_is_not_there_is_named_with_those_that_are(qdrant):
    fill(qdrant, "books", vectors(2))
    with pytest.raises(UsageError, match="no collection 'films'; it has books"):
        qdrant_pairs.count_points(qdrant, "place", "films")


def test_several_vectors_need_a_name(tmp_path, qdrant):
    from qdrant_client.models import PointStruct, VectorParams

    sizes = {"small": 2, "large": 3}
    qdrant.create_collection(
        "books",
        vectors_config={n: VectorParams(size=s, distance="Dot") for n, s in sizes.items()},
    )
    vector = {"small": [1.0, 0.0], "large": [0.0, 2.0, 0.0]}
    qdrant.upsert("books", [PointStruct(id=1, vector=vector, payload={"text": "one"})])
    files = PairFiles(tmp_path / "work", "source")
    with pytest.raises(UsageError, match="several vectors: small, large") as refused:
        fetch_points(qdrant, "books", files)
    assert "vector=NAME" in refused.value.hint
    with pytest.raises(UsageError, match="no vector 'huge'; it has small, large"):
        fetch_points(qdrant, "books", files, PairColumns(vector="huge"))
    assert fetch_points(qdrant, "books", files, PairColumns(vector="large")) == ""
    found = moved(files, tmp_path / "pairs")
    assert embed_all(found, ["one"]).tolist() == [[0.0, 2.0, 0.0]]


def test_distances_that_inner_products_do_not_order_are_refused(tmp_path, qdrant):
    fill(qdrant, "long", 3 * vectors(3), distance="Euclid")
    with pytest.raises(LeafkitError, match=r"compares by Euclid.*'1' has length 3\.000"):
        fetch_points(qdrant, "long", PairFiles(tmp_path / "a", "source"))
    fill(qdrant, "blocks", vectors(3), distance="Manhattan")
    with pytest.raises(LeafkitError, match="compares by Manhattan"):
        fetch_points(qdrant, "blocks", PairFiles(tmp_path / "b", "source"))
    fill(qdrant, "unit", vectors(3), distance="Euclid")
    assert fetch_points(qdrant, "unit", PairFiles(tmp_path / "c", "source")) == ""


def test_a_similarity_that_is_said_is_that_of_a_collection(tmp_path, qdrant):
    fill(qdrant, "long", 3 * vectors(3), distance="Dot")
    found = fetch_points(qdrant, "long", PairFiles(tmp_path / "a", "source"), similarity="cosine")
    assert found == "cosine"
    fill(qdrant, "unit", 3 * vectors(3))
    with pytest.raises(UsageError, match="compares by Cosine, and keeps its vectors without"):
        fetch_points(qdrant, "unit", PairFiles(tmp_path / "b", "source"), similarity="dot")


def test_a_folder_that_is_none_of_qdrants(tmp_path):
    pytest.importorskip("qdrant_client", reason="qdrant-client is not installed: extra qdrant")
    with (
        pytest.raises(UsageError, match="no folder of Qdrant's local mode"),
        qdrant_pairs.open_qdrant(str(tmp_path / "nowhere")),
    ):
        pass
    assert not (tmp_path / "nowhere").exists()


def test_a_key_is_not_sent_in_the_clear(monkeypatch):
    pytest.importorskip("qdrant_client", reason="qdrant-client is not installed: extra qdrant")
    monkeypatch.setenv("QDRANT_API_KEY", "secret")
    with (
        pytest.raises(UsageError, match="would get it unencrypted") as refused,
        qdrant_pairs.open_qdrant("http://db.example.org:6333"),
    ):
        pass
    assert "secret" not in str(refused.value)
