"""Rows as other toolkits write them, in the kinds of files that they write."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow
import pytest

from leafkit.config import DataConfig
from leafkit.core.errors import LeafkitError
from leafkit.data.sources import BadRows, read_collection, read_raw_rows

Row = dict[str, Any]


def _write(path: Path, *rows: Row) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return f"jsonl:{path}"


def _passages(*texts: str) -> list[Row]:
    return [{"docid": f"id-{text}", "title": "", "text": text} for text in texts]


@pytest.mark.parametrize(
    ("row", "negatives", "scores", "instruction"),
    [
        pytest.param({"anchor": "q", "positive": "a"}, [], [], "", id="pair"),
        pytest.param({"anchor": "q", "positive": "a", "negative": "b"}, ["b"], [], "", id="nli"),
        pytest.param(
            {"anchor": "q", "positive": "a", "negative_10": "c", "negative_2": "b"},
            ["b", "c"],
            [],
            "",
            id="n-tuple",
        ),
        pytest.param(
            {"query": "q", "positive": "a", "negative": "b", "negative_1": "c", "negative_2": None},
            ["b", "c"],
            [],
            "",
            id="shorter n-tuple",
        ),
        pytest.param(
            {
                "anchor": "q",
                "positive": "a",
                "negative": "b",
                "positive_score": 0.9,
                "negative_score": 0.2,
            },
            ["b"],
            [0.9, 0.2],
            "",
            id="scored triplet",
        ),
        pytest.param({"question": "q", "answer": "a"}, [], [], "", id="gooaq"),
        pytest.param({"query": "q", "answer": "a"}, [], [], "", id="answer"),
        pytest.param({"query": "q", "pos": "a", "neg": ["b"]}, ["b"], [], "", id="pos as text"),
        pytest.param(
            {
                "query": "q",
                "pos": ["a"],
                "neg": ["b", "c"],
                "pos_scores": [3.5],
                "neg_scores": [-1, 0.5],
                "prompt": "Find it",
            },
            ["b", "c"],
            [3.5, -1.0, 0.5],
            "Find it",
            id="FlagEmbedding",
        ),
        pytest.param(
            {"query_id": "7", "query": "q", "positive_passages": _passages("a")}
            | {"negative_passages": _passages("b", "c")},
            ["b", "c"],
            [],
            "",
            id="Tevatron",
        ),
        pytest.param(
            {"query": ["Find it: ", "q"], "pos": ["", "a"], "neg": ["", "b"]},
            ["b"],
            [],
            "Find it",
            id="MEDI",
        ),
        pytest.param({"query": "q", "pos": [["", "a"]]}, [], [], "", id="MEDI in lists"),
        pytest.param(
            {"query": "q", "positive": "a", "negatives": None}, [], [], "", id="no negatives"
        ),
    ],
)
def test_rows_of_other_toolkits(
    tmp_path: Path, row: Row, negatives: list[str], scores: list[float], instruction: str
) -> None:
    """All of a row arrives: query, positive, negatives in their order, scores, instruction."""
    uri = _write(tmp_path / "rows.jsonl", row)
    found = read_collection(uri, DataConfig(), default_split="train")
    texts = {d.id: d.text for d in found.documents}
    assert list(texts.values()) == ["a", *negatives]
    (query,) = found.judged("train")
    assert (query.text, query.instruction) == ("q", instruction)
    assert [texts[d] for d in found.qrels[query.id]] == ["a"]
    assert [texts[d] for d in found.negatives.get(query.id, [])] == negatives
    assert list(found.soft.get(query.id, {}).values()) == scores
    if "positive_passages" in row:
        assert list(texts) == ["id-a", "id-b", "id-c"]
        assert found.counts == {"column 'query_id' is not used": 1}


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"_id": "x", "title": "T", "text": "a"}, "BEIR"),
        ({"docid": "x", "title": "T", "text": "a"}, "Tevatron"),
        ({"id": "x", "title": "T", "contents": "a"}, "Pyserini"),
        ({"doc_id": "x", "title": "T", "content": "a"}, "content"),
    ],
)
def test_documents_keep_their_ids(tmp_path: Path, row: Row, name: str) -> None:
    (document,) = read_collection(_write(tmp_path / "c.jsonl", row), DataConfig()).documents
    assert (document.id, document.title, document.text) == ("x", "T", "a")


def test_ids_that_are_made_up_take_no_given_one(tmp_path: Path) -> None:
    rows = [{"id": "d1", "text": "given"}, {"text": "first"}, {"text": "second"}]
    found = read_collection(_write(tmp_path / "c.jsonl", *rows), DataConfig())
    assert {d.id: d.text for d in found.documents} == {
        "d1": "given",
        "d2": "first",
        "d3": "second",
    }


@pytest.mark.parametrize(
    "named",
    [
        {"positive": "heats water"},
        {"positive": "Kettle heats water"},
        {"positive_ids": ["k"]},
        {"positive_id": "k"},
        {"positive": "heats water", "positive_ids": ["k"]},
        {"pos": ["heats water"], "pos_id": ["k"]},
        {"positive_passages": [{"docid": "k", "title": "Kettle", "text": "heats water"}]},
    ],
)
@pytest.mark.parametrize("is_first", [True, False])
def test_a_positive_is_a_document_of_the_file(tmp_path: Path, named: Row, is_first: bool) -> None:
    """With and without its title, by text and by id, before and after the documents."""
    documents = [
        {"_id": "k", "title": "Kettle", "text": "heats water"},
        {"_id": "s", "title": "Ship", "text": "is warned"},
    ]
    pair = {"query": "what boils?", "negative_ids": ["s"], "split": "test"} | named
    rows = [pair, *documents] if is_first else [*documents, pair]
    found = read_collection(_write(tmp_path / "rows.jsonl", *rows), DataConfig())
    assert [d.id for d in found.documents] == ["k", "s"]
    assert list(found.qrels.values()) == [{"k": 1}]
    assert list(found.negatives.values()) == [["s"]]
    assert found.counts == {}


def test_positives_that_are_no_document_are_added_and_said(tmp_path: Path) -> None:
    rows = [
        {"_id": "k", "title": "Kettle", "text": "Heats water."},
        {"_id": "a", "title": "A", "text": "same"},
        {"_id": "b", "title": "B", "text": "same"},
        {"query": "q1", "positive": "kettle heats water", "split": "train"},
        {"query": "q2", "positive": "same", "split": "train"},
    ]
    found = read_collection(_write(tmp_path / "rows.jsonl", *rows), DataConfig())
    assert [d.id for d in found.documents] == ["k", "a", "b", "d3"]
    assert found.qrels["train:q2"] == {"a": 1}
    assert found.counts == {
        "texts of pairs that are none of the documents, added": 1,
        "texts of pairs that several documents have (the first is taken)": 1,
        "documents that differ from another in case, spaces and punctuation alone": 1,
    }


def test_columns_of_other_names_are_given_or_left_out(tmp_path: Path) -> None:
    row = {"frage": "q", "antwort": "a", "query": "no", "label": 1, "url": "u", "empty": None}
    uri = _write(tmp_path / "rows.jsonl", row)
    columns = {"query": "frage", "positive": "antwort"}
    with pytest.raises(LeafkitError, match="column 'label' has no use in a pair") as caught:
        read_collection(uri, DataConfig(columns=columns))
    assert "data.ignore_columns=[label]" in caught.value.hint
    data = DataConfig(columns=columns | {"title": "titel"}, ignore_columns=["label"])
    found = read_collection(uri, data, default_split="test")
    assert [q.text for q in found.judged("test")] == ["q"]
    assert [d.text for d in found.documents] == ["a"]
    assert found.counts == {
        "column 'url' is not used": 1,
        "data.columns.title: no row has a column 'titel'": 1,
    }
    with pytest.raises(LeafkitError, match=r"'text' is missing; its columns are frage") as caught:
        read_collection(_write(tmp_path / "rows.jsonl", {"frage": "q"}), DataConfig())
    assert "data.columns.query=NAME" in caught.value.hint


QUOTED = 'He said "hi", then\tleft'


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("r.csv", 'query,positive,id\nq,"He said ""hi"", then\tleft",\n'),
        ("r.csv", '\ufeffquery,positive\r\nq,"He said ""hi"", then\tleft"\r\n\r\n'),
        ("r.jsonl", json.dumps({"query": "q", "positive": QUOTED})),
    ],
)
@pytest.mark.parametrize("ending", ["", ".gz", ".bz2", ".xz", ".zst"])
def test_kinds_of_files(tmp_path: Path, name: str, content: str, ending: str) -> None:
    path = tmp_path / (name + ending)
    raw = content.encode()
    if ending == ".zst":
        with pyarrow.CompressedOutputStream(str(path), "zstd") as stream:
            stream.write(raw)
    else:
        packers = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
        path.write_bytes(packers.get(ending, bytes)(raw))
    kind = name.partition(".")[2]
    found = read_collection(f"{kind}:{path}", DataConfig(), default_split="test")
    assert [q.text for q in found.judged("test")] == ["q"]
    assert [d.text for d in found.documents] == [QUOTED]
    assert found.name == "r"


def test_quotes_of_tab_separated_values_are_text(tmp_path: Path) -> None:
    lines = ["id\ttext", 'a\t"unclosed', 'b\tsays "yes" and "no"', 'c\t"all of it"', 'd\t"a ""b"""']
    (tmp_path / "r.tsv").write_text("\n".join(lines))
    found = read_collection(f"tsv:{tmp_path / 'r.tsv'}", DataConfig())
    assert [d.text for d in found.documents] == [
        '"unclosed',
        'says "yes" and "no"',
        '"all of it"',
        'a "b"',
    ]


# no call of gzip.compress: it writes the time, and a test's name would differ between processes
GZIP_HEADER = b"\x1f\x8b\x08" + bytes(7)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("r.csv", b"query,positive\nq\n", "r.csv:2: 1 cells for 2 columns (query, positive)"),
        ("r.csv", b'query,positive\nq,"open\nq,a\n', "r.csv:2: no row of comma-separated values"),
        (
            "r.csv",
            b"query,query\nq,a\n",
            "r.csv:1: the first row has a column called 'query' twice",
        ),
        ("r.csv", b"query,\nq,a\n", "r.csv:1: the first row has no name"),
        ("r.csv", b"", "r.csv:1: the first row has no columns"),
        ("r.csv", b"query,positive\nq,caf\xe9\n", "r.csv:2: not UTF-8"),
        ("r.tsv", b"query,positive\nq,a\n", "'text' is missing; its columns are query,positive"),
        ("r.jsonl", "{}".encode("utf-16"), "r.jsonl is written in UTF-16"),
        ("r.jsonl.gz", b"not packed", "r.jsonl.gz cannot be read: Not a gzipped file"),
        ("r.jsonl.gz", GZIP_HEADER + b"a damaged stream", "r.jsonl.gz cannot be read"),
        ("r.jsonl.xz", b"not packed", "r.jsonl.xz cannot be read"),
        ("r.jsonl.zst", b"not packed", "r.jsonl.zst cannot be read"),
        ("r.parquet", b"PAR1 is not all of it", "no Parquet file, or damaged"),
    ],
)
def test_files_that_cannot_be_read_are_named(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    (tmp_path / name).write_bytes(content)
    kind = name.split(".")[1]
    with pytest.raises(LeafkitError) as caught:
        read_collection(f"{kind}:{tmp_path / name}", DataConfig())
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.hint


def test_rows_of_tasks_have_their_numbers_from_text(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("sentence1,sentence2,score,split\na,b,4.5,dev\n")
    rows = read_raw_rows(f"csv:{tmp_path / 'r.csv'}", BadRows("error", 0, Counter()))
    assert [row for _, row in rows] == [{"s1": "a", "s2": "b", "score": 4.5, "split": "validation"}]


def test_scores_of_a_pair_given_twice_are_counted(tmp_path: Path) -> None:
    rows = [
        {"query": "q", "positive": "a", "scores": [score], "split": "train"}
        for score in (0.5, 0.25, 0.5)
    ]
    found = read_collection(_write(tmp_path / "rows.jsonl", *rows), DataConfig())
    assert list(found.soft.values()) == [{"d0": 0.5}]
    assert found.counts == {"scores of a pair given twice (the first is taken)": 1}


def test_two_sentences_are_a_pair_of_a_symmetric_task(tmp_path: Path) -> None:
    row = {"sentence1": "q", "sentence2": "a", "split": "train"}
    found = read_collection(_write(tmp_path / "rows.jsonl", row), DataConfig())
    assert [(q.text, q.task) for q in found.queries] == [("q", "sts")]
    assert found.counts == {}
    with pytest.raises(LeafkitError, match="a scored pair of sentences"):
        read_collection(_write(tmp_path / "rows.jsonl", row | {"score": 4}), DataConfig())
