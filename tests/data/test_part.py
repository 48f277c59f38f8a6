"""A part of a source that is too large to hold."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from leafkit.config import DataConfig
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.data.sources import drawn_from, has_more_rows, read_collection, read_part

DATA = DataConfig()


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def texts_of(count: int) -> list[dict[str, Any]]:
    return [{"id": f"r{i}", "text": f"text number {i} of many"} for i in range(count)]


def write_beir(root: Path, documents: list[dict[str, Any]]) -> str:
    write(root / "corpus.jsonl", documents)
    write(root / "queries.jsonl", [{"_id": f"q{i}", "text": f"query {i}?"} for i in range(9)])
    (root / "qrels").mkdir()
    (root / "qrels" / "test.tsv").write_text("q1\td1\t1\n")
    return f"beir:{root}"


def test_more_rows_are_found_in_every_kind_of_file(tmp_path):
    lines = write(tmp_path / "rows.jsonl", texts_of(10))
    packed = tmp_path / "packed.jsonl.gz"
    packed.write_bytes(gzip.compress(lines.read_bytes()))
    for kind, mark in (("csv", ","), ("tsv", "\t")):
        cells = [f"r{i}{mark}text {i}" for i in range(10)]
        (tmp_path / f"rows.{kind}").write_text("\n".join([f"id{mark}text", *cells]) + "\n")
    sources = [f"{kind}:{tmp_path / 'rows'}.{kind}" for kind in ("jsonl", "csv", "tsv")]
    sources += [f"jsonl:{packed}", write_beir(tmp_path / "coll", beir_rows(10))]
    for uri in sources:
        assert has_more_rows(uri, 9), uri
        assert not has_more_rows(uri, 10), uri
    assert not has_more_rows("builtin:pydocs", 1)


def test_parquet_has_rows_too(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pa.Table.from_pylist(texts_of(10)), tmp_path / "rows.parquet")
    uri = f"parquet:{tmp_path / 'rows.parquet'}"
    assert has_more_rows(uri, 9)
    assert not has_more_rows(uri, 10)
    found = read_part(uri, DATA, 4)
    assert (len(found.documents), drawn_from(found.counts)) == (4, 10)


def beir_rows(count: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [
        {"_id": f"d{i}", "title": f"title {i}", "text": f"text number {i}"} for i in range(count)
    ]
    rows[0]["text"] = ""
    rows[1]["text"] = rows[1]["title"] = ""
    return rows


def test_a_part_is_what_a_whole_reading_gives(tmp_path):
    uri = f"jsonl:{write(tmp_path / 'rows.jsonl', texts_of(100))}"
    whole = {d.id: d for d in read_collection(uri, DATA).documents}
    part = read_part(uri, DATA, 30)
    assert len(part.documents) == 30
    assert all(whole[d.id] == d for d in part.documents)
    assert drawn_from(part.counts) == 100
    assert drawn_from(read_collection(uri, DATA).counts) == 0
    again = {d.id for d in read_part(uri, DATA, 40).documents}
    assert {d.id for d in part.documents} <= again


def test_a_part_of_beir_has_documents_with_a_text_and_queries(tmp_path):
    uri = write_beir(tmp_path / "coll", beir_rows(40))
    whole = {d.id: d.full_text for d in read_collection(uri, DATA).documents}
    part = read_part(uri, DATA, 40)
    assert part.name == "coll"
    assert {d.id: d.full_text for d in part.documents} == {
        k: text for k, text in whole.items() if text
    }
    assert part.counts["documents without text left out"] == 1
    assert {q.text for q in part.queries} == {f"query {i}?" for i in range(9)}
    assert part.qrels == {}
    few = read_part(uri, DATA, 10)
    assert len(few.documents) <= 10
    assert drawn_from(few.counts) == 40


def test_columns_of_a_recipe_are_not_those_of_beir(tmp_path):
    uri = write_beir(tmp_path / "coll", beir_rows(40))
    data = DataConfig(columns={"text": "title"})
    assert len(read_part(uri, data, 20).documents) == len(read_part(uri, DATA, 20).documents)


def test_a_bad_row_of_the_part_is_named(tmp_path):
    place = write_beir(tmp_path / "coll", [{"_id": "a", "text": 3}])
    with pytest.raises(LeafkitError, match=r"corpus\.jsonl:1"):
        read_part(place, DATA, 5)
    with pytest.raises(UsageError, match="unknown source"):
        has_more_rows("nothing:x", 1)


def test_memory_does_not_grow_with_the_file(tmp_path):
    rows = ({"id": f"r{i}", "text": f"{i} " * 200} for i in range(20_000))
    path = tmp_path / "rows.jsonl"
    with path.open("w") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in rows)
    tracemalloc.start()
    found = read_part(f"jsonl:{path}", DATA, 100)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found.documents) == 100
    assert path.stat().st_size > 20e6
    assert peak < 8e6
