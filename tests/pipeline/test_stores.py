"""``leafkit embed ... to=STORE`` and ``leafkit search STORE`` on a finished tiny run."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path

import pyarrow.dataset
import pytest

from leafkit.cli import main
from leafkit.core.addresses.store import parse_store
from leafkit.core.artifact import read_manifest
from leafkit.pipeline.load_pair import load_pair
from leafkit.pipeline.stores import send
from leafkit.pipeline.stores.ask import open_store_search
from leafkit.stores import parquet

COUNT = 72  # documents of the tiny run
QUESTION = "how do i invert the matrix quickly"


@pytest.fixture
def shown(capsys):
    """What a command prints, and its status."""

    def run(*words: str) -> tuple[int, str]:
        capsys.readouterr()
        status = main.main(list(words))
        out, err = capsys.readouterr()
        return status, " ".join((out + err).split())

    return run


@pytest.fixture
def small_parts(monkeypatch) -> None:
    monkeypatch.setattr(send, "ROWS_PER_PART", 16)
    monkeypatch.setattr(parquet, "ROWS_PER_PART", 16)


def table_of(folder: Path):
    return pyarrow.dataset.dataset(folder, format="parquet").to_table()


def test_the_index_is_sent_once(done, shown, small_parts):
    target = done.parent / "out"
    status, said = shown("embed", f"recipe={done}", f"to=parquet:{target}")
    assert (status, f"{COUNT} rows written, 0 were there" in said) == (0, True), said
    pair = load_pair(done.parent / "ck" / "tiny")
    table = table_of(target)
    assert table["id"].to_pylist() == [d.id for d in pair.documents]
    assert table["vector"].to_pylist() == pair.vectors.astype("float32").tolist()
    status, said = shown("embed", f"recipe={done}", f"to=parquet:{target}")
    assert (status, f"0 rows written, {COUNT} were there" in said) == (0, True), said


def test_a_stop_midway_loses_nothing(done, shown, small_parts, monkeypatch):
    target = done.parent / "out"
    real, calls = parquet.ParquetStore.send, []

    def stopped(self, rows):
        calls.append(rows.start)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(self, rows)

    monkeypatch.setattr(parquet.ParquetStore, "send", stopped)
    assert shown("embed", f"recipe={done}", f"to=parquet:{target}")[0] == 130
    assert len(list(target.iterdir())) == 2
    monkeypatch.setattr(parquet.ParquetStore, "send", real)
    status, said = shown("embed", f"recipe={done}", f"to=parquet:{target}")
    assert (status, f"{COUNT - 32} rows written, 32 were there" in said) == (0, True), said
    assert len(table_of(target)) == COUNT


def test_another_space_is_refused_and_nothing_changes(done, shown):
    target = done.parent / "out"
    words = ["embed", f"recipe={done}", f"to=parquet:{target}"]
    assert shown(*words)[0] == 0
    before = {p.name: p.read_bytes() for p in target.iterdir()}
    status, said = shown(*words, "data.max_document_tokens=20")
    assert status == 1
    assert "holds vectors of another space (max_tokens is 48 there and 20 here)" in said
    status, said = shown(*words, "to_precision=float16")
    assert (status, "holds float32 vectors, not float16" in said) == (1, True)
    assert {p.name: p.read_bytes() for p in target.iterdir()} == before


@pytest.mark.parametrize("kind", ["parquet", "qdrant", "lance"])
def test_a_store_is_asked_with_the_student(done, shown, kind):
    needed = {"qdrant": "qdrant_client", "lance": "lancedb"}.get(kind, "pyarrow")
    pytest.importorskip(needed, reason=f"{needed}, the extra {kind}, is not installed")
    folder = done.parent / "ck" / "tiny"
    address = f"{kind}:{done.parent / 'out'}" + ("" if kind == "parquet" else "/papers")
    assert shown("embed", f"recipe={done}", f"to={address}")[0] == 0
    expected = load_pair(folder).search(QUESTION, 4)
    for student in (folder, folder / "student"):
        with closing(open_store_search(parse_store(address), student)) as search:
            found = search.search(QUESTION, 4)
        assert [hit.id for hit in found] == [hit.id for hit in expected]
        assert [h.score for h in found] == pytest.approx([h.score for h in expected], abs=1e-4)
        assert [hit.text for hit in found] == [hit.text for hit in expected]
        assert found.num_documents == COUNT
    status, said = shown("search", address, QUESTION, "k=2", f"student={folder}")
    assert (status, f"1. {expected[0].id}" in said, f"{COUNT} documents" in said) == (0, True, True)


def test_a_student_of_another_space_gets_no_answer(done, shown):
    address = f"parquet:{done.parent / 'out'}"
    assert shown("embed", f"recipe={done}", f"to={address}")[0] == 0
    student = done.parent / "stranger"
    shutil.copytree(done.parent / "ck" / "tiny" / "student", student)
    told = (student / "leafkit.json").read_text()
    teacher = load_pair(done.parent / "ck" / "tiny").space.teacher
    (student / "leafkit.json").write_text(told.replace(teacher, "f" * len(teacher)))
    status, said = shown("search", address, QUESTION, f"student={student}")
    assert (status, "rankings would be meaningless" in said) == (1, True), said


def test_a_store_that_cannot_be_used_is_noticed_before_the_work(done, shown, monkeypatch):
    (done.parent / "out").write_text("a file")
    monkeypatch.setattr("leafkit.pipeline.document_index.run_embed", None)
    status, said = shown("embed", f"recipe={done}", f"to=parquet:{done.parent / 'out'}")
    assert (status, "is a file" in said) == (1, True), said


SECRET = "hunter2-hunter2"


@pytest.mark.parametrize(
    "address",
    [
        f"qdrant:http://me:{SECRET}@localhost:6333/papers",
        f"qdrant:http://localhost:6333/papers?api-key={SECRET}",
        f"pgvector:postgresql://me:{SECRET}@localhost/db/papers",
        f"pgvector:postgresql://me@localhost/db/papers?password={SECRET}",
        f"opensearch:https://me:{SECRET}@search.example.org/papers",
        f"opensearch:https://{SECRET}@search.example.org/papers",
        f"qdrant:https://me:{SECRET}@[::1/papers",
    ],
)
def test_no_secret_gets_anywhere(done, shown, address):
    for words in (
        ("embed", f"recipe={done}", f"to={address}"),
        ("search", address, "how", f"student={done.parent}"),
        ("show", f"recipe={done}", f"embed.to={address}"),
    ):
        status, said = shown(*words)
        assert status in (1, 2)
        assert SECRET not in said
    files = [p for p in (done.parent / "ck").rglob("*") if p.is_file()]
    assert files
    assert not any(SECRET.encode() in p.read_bytes() for p in files)


def test_the_manifest_says_where_the_vectors_went(done, shown):
    target = f"parquet:{done.parent / 'out'}"
    assert shown("embed", f"recipe={done}", f"to={target}", "force=true")[0] == 0
    manifest = read_manifest(done.parent / "ck" / "tiny" / "index")
    assert manifest.recipe["embed"]["to"] == target


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["embed", "to=nowhere"], "'nowhere' names no store"),
        (["embed", "to=parquet:"], "parquet: takes a folder"),
        (["embed", "to=lance:papers"], "names the collection"),
        (["embed", "to=pgvector:papers/x"], "takes the URL of a server"),
        (["embed", "to=lance:x/y", "to_precision=int8"], "int8: lance has float32, float16"),
        (["embed", "to_precision=int8"], "embed.to_precision has no effect"),
        (["distill", "embed.to=parquet:out"], "embed.to has no effect in leafkit distill"),
        (["search", "parquet:out", "how"], "which student asks the store is not said"),
        (["search", "parquet:out", "how", "index=hnsw"], "index= is for a pair's folder"),
    ],
)
def test_wrong_use_is_status_2(done, shown, words, message):
    recipe = [] if words[0] == "search" else [f"recipe={done}"]
    status, said = shown(words[0], *recipe, *words[1:])
    assert (status, message in said) == (2, True), said
