"""Sources: every layout that is read, and every bad row named by file and line."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pandas
import pytest

from leafkit.config import DataConfig
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.data.records import Document, split_of
from leafkit.data.sources import BadRows, read_collection, read_raw_rows, source_fingerprint

SKIP = DataConfig(on_bad_row="skip")
NUMBERS = {"ids that are numbers read as text": 2}  # those of the small collection
Write = Callable[..., str]


@pytest.fixture
def jsonl(tmp_path: Path) -> Write:
    """Write rows (objects, or lines as they are) and return the source's name."""

    def write(*rows: Any, name: str = "rows.jsonl") -> str:
        path = tmp_path / name
        path.write_bytes(
            b"".join((r if isinstance(r, bytes) else json.dumps(r).encode()) + b"\n" for r in rows)
        )
        return f"jsonl:{path}"

    return write


@pytest.fixture
def beir(tmp_path: Path) -> Write:
    """Write a small collection in BEIR's layout, with some files replaced, and return the source's
    name.
    """
    files = {
        "corpus.jsonl": '{"_id": "d1", "title": "One", "text": "first text"}\n'
        '{"_id": "d2", "text": "second text"}\n'
        '{"_id": 3, "title": "Only a title", "text": ""}\n',
        "queries.jsonl": '{"_id": "q1", "text": "which is first?"}\n'
        '{"_id": 2, "text": "which is second?"}\n',
        "qrels/test.tsv": "query-id\tcorpus-id\tscore\nq1\td1\t1\nq1\td2\t0\n",
        "qrels/train.tsv": "query-id\tcorpus-id\tscore\n2\td2\t2\n2\t3\t1\n",
    }

    def write(**changed: str) -> str:
        for name, content in (files | changed).items():
            path = tmp_path / "coll" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, newline="")
        return f"beir:{tmp_path / 'coll'}"

    return write


def _write_rows(folder: Path, kind: str, rows: list[dict[str, Any]]) -> str:
    """Rows in a file of a kind, or in a folder that the datasets library reads."""
    folder.mkdir()
    if kind == "hf":
        datasets.Dataset.from_list(rows).to_parquet(folder / "train.parquet")
        return f"hf:{folder}@train"
    path = folder / f"rows.{kind}"
    if kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif kind == "parquet":
        datasets.Dataset.from_list(rows).to_parquet(path)
    else:
        frame = pandas.DataFrame(rows)
        frame.to_csv(path, index=False, sep="," if kind == "csv" else "\t")
    return f"{kind}:{path}"


def _refused(uri: str, data: DataConfig | None = None) -> LeafkitError:
    with pytest.raises(LeafkitError) as caught:
        read_collection(uri, data or DataConfig())
    return caught.value


# --- jsonl


def test_documents(jsonl: Write) -> None:
    rows = [
        {"text": "plain"},
        {"text": " with id ", "id": 7, "title": "T"},
        b"",
        {"text": "x", "id": "a", "other": 1},
        b"  ",
    ]
    uri = jsonl(*rows)
    collection = read_collection(uri, DataConfig())
    assert collection.documents == [
        Document("d0", "plain"),
        Document("7", "with id", "T"),
        Document("a", "x"),
    ]
    assert (collection.name, collection.queries, collection.qrels) == ("rows", [], {})
    assert collection.counts == {
        "ids that are numbers read as text": 1,
        "column 'other' is not used": 1,
    }


def test_pairs(jsonl: Write) -> None:
    collection = read_collection(
        jsonl(
            {
                "query": "q one",
                "positive": "p one",
                "negatives": ["n one", "p two"],
                "split": "test",
            },
            {"query": "q two", "positives": ["p two", "p one"], "split": "train"},
            {"query": "q one", "positive": "p three", "split": "test"},
            {"query": "q three", "positive": "p one"},
        ),
        DataConfig(),
    )
    texts = {d.id: d.text for d in collection.documents}
    assert sorted(texts.values()) == ["n one", "p one", "p three", "p two"]
    found = {
        (q.text, q.split): {texts[d]: g for d, g in collection.qrels[q.id].items()}
        for q in collection.queries
    }
    assert found == {
        ("q one", "test"): {"p one": 1, "p three": 1},
        ("q two", "train"): {"p two": 1, "p one": 1},
        ("q three", split_of("q three")): {"p one": 1},
    }


def test_the_split_of_a_query_depends_on_its_text_alone(jsonl: Write) -> None:
    rows = [{"query": f"question number {i}", "positive": f"answer {i}"} for i in range(200)]
    first = {q.text: q.split for q in read_collection(jsonl(*rows[:150]), DataConfig()).queries}
    more = {
        q.text: q.split
        for q in read_collection(jsonl(*reversed(rows), name="more.jsonl"), DataConfig()).queries
    }
    assert set(first.values()) == {"train", "validation", "test"}
    assert {text: more[text] for text in first} == first


def test_duplicate_documents_become_one_and_judgments_follow(jsonl: Write) -> None:
    collection = read_collection(
        jsonl(
            {"text": "The text", "id": "a"},
            {"query": "q", "positive": "The text", "split": "test"},
            {"text": "other"},
            {"text": "other"},
            {"text": "The text", "id": "copy"},
            {"text": "the  TEXT", "id": "near"},
        ),
        DataConfig(),
    )
    assert [d.id for d in collection.documents] == ["a", "d1", "near"]
    assert list(collection.qrels.values()) == [{"a": 1}]
    assert collection.counts == {
        "duplicate documents dropped": 2,
        "documents that differ from another in case, spaces and punctuation alone": 1,
    }
    assert len(collection.judged("test")) == 1


def test_odd_text_is_repaired_and_counted(jsonl: Write, tmp_path: Path) -> None:
    uri = jsonl(
        b'\xef\xbb\xbf{"text": "after a mark", "id": "m"}',
        b'{"text": "lone \\ud800", "title": "\\udc00 title", "id": "\\ud801"}',
        b'{"text": "nul \\u0000 byte", "id": "\xc3\xbc"}',
        b'{"query": "\\ud800 asks", "positive": "x \\ud800", '
        b'"negatives": ["y \\udfff"], "split": "test"}',
    )
    collection = read_collection(uri, DataConfig())
    assert [(d.id, d.title, d.text) for d in collection.documents] == [
        ("m", "", "after a mark"),
        ("?", "? title", "lone ?"),
        ("ü", "", "nul   byte"),
        ("d3", "", "x ?"),
        ("d4", "", "y ?"),
    ]
    assert collection.queries[0].text == "? asks"
    assert collection.counts == {
        "texts with lone surrogates repaired": 6,
        "texts with NUL characters repaired": 1,
        "texts of pairs that are none of the documents, added": 2,
    }
    collection.save(tmp_path)  # all of it can be written
    assert collection.fingerprint()


BAD_ROWS: list[tuple[Any, str]] = [
    (b"{broken", "not JSON in UTF-8"),
    (b'{"text": "caf\xe9"}', "not JSON in UTF-8"),
    (b"[" * 100_000, "not JSON in UTF-8"),
    (["a"], "a row must be an object, this is list"),
    ("text", "a row must be an object, this is str"),
    ({"title": "t"}, "'text' is missing; its columns are title"),
    (b'{"text": "a", "text": "b"}', "'text' is given twice"),
    (b'{"text": ' + b"1" * 5000 + b"}", "not JSON in UTF-8"),
    ({"text": None}, "'text' is missing"),
    ({"text": 5}, "'text' is not text"),
    ({"text": "  "}, "'text' is empty"),
    ({"text": "\ufeff"}, "'text' is empty"),
    ({"text": "again", "id": "used"}, "id 'used' is used twice"),
    ({"query": ""}, "'query' is empty"),
    ({"query": 3, "positive": "p"}, "'query' is not text"),
    ({"query": "q"}, "a pair needs 'positive'"),
    ({"query": "q", "positives": []}, "a pair needs 'positive'"),
    ({"query": "q", "answer": None}, "a pair needs 'positive'"),
    ({"query": "q", "positive": None}, "a pair needs 'positive'"),
    ({"query": "q", "positive": ["p", None]}, "'positives' is missing"),
    ({"query": "q", "positive": "p", "negatives": ["n", None]}, "'negatives' is missing"),
    ({"query": "q", "positive": {"title": "t"}}, "'positives' has what is not text but an object"),
    ({"query": "q", "positive_ids": ["gone"]}, "it names document 'gone', which is in no row"),
    ({"query": "q", "positive_ids": [" "]}, "an id in 'positive_ids' is empty"),
    ({"query": "q", "positive": "p", "positive_ids": ["a", "b"]}, "there are 1 'positives' and 2"),
    ({"query": "q", "positive": "p", "positive_ids": ["used"]}, "id 'used' is that of another"),
    ({"query": "q", "positive_ids": ["used"], "negatives": ["good"]}, "a negative is equal to a"),
    ({"query": "q", "passage": "p", "label": 0}, "column 'label' has no use in a pair"),
    ({"query": "q", "positive": "p", "hard_neg": "n"}, "column 'hard_neg' has no use in a pair"),
    ({"query": "q", "positive": "p", "score": 0.4}, "column 'score' has no use in a pair"),
    ({"query": "q", "positive": "p", "neg": ["n"], "pos_scores": [1]}, "column 'pos_scores' has"),
    ({"query": "q", "positives": ["p", " "]}, "'positives' is empty"),
    ({"query": "q", "positive": "p", "negatives": ["n", "p"]}, "a negative is equal to a positive"),
    ({"query": "q", "positive": " p", "negatives": ["p "]}, "a negative is equal to a positive"),
    (
        {"query": "q", "positive": "p", "split": "held-out"},
        "split 'held-out' is not one of train, validation, test",
    ),
    ({"query": "q", "positive": "p", "split": ["test"]}, "'split' is not text but a list"),
]


@pytest.mark.parametrize(("row", "reason"), BAD_ROWS, ids=[f"{i}" for i in range(len(BAD_ROWS))])
def test_a_bad_row_is_named_or_skipped(jsonl: Write, row: Any, reason: str) -> None:
    uri = jsonl({"text": "good", "id": "used"}, b"", row, {"text": "also good"})
    error = _refused(uri)
    assert str(error).startswith(f"{uri.removeprefix('jsonl:')}:3: {reason}")
    assert "data.on_bad_row=skip" in error.hint
    collection = read_collection(uri, SKIP)
    assert [d.text for d in collection.documents] == ["good", "also good"]
    assert collection.queries == []
    assert collection.counts["bad rows skipped"] == 1


def test_the_cap_on_skipped_rows(jsonl: Write) -> None:
    uri = jsonl({"text": "good"}, *[{"bad": i} for i in range(4)])
    assert read_collection(uri, replace(SKIP, max_bad_rows=4)).counts == {"bad rows skipped": 4}
    error = _refused(uri, replace(SKIP, max_bad_rows=3))
    assert ":5: 'text' is missing; its columns are bad; that is bad row number 4, more than" in str(
        error
    )
    assert "raise data.max_bad_rows" in error.hint
    assert ":2: 'text' is missing" in str(_refused(uri, replace(SKIP, max_bad_rows=0)))


@pytest.mark.parametrize("rows", [[], [b"", b" "], [{"bad": 1}]])
def test_an_empty_source_is_an_error(jsonl: Write, rows: list[Any]) -> None:
    uri = jsonl(*rows)
    assert str(_refused(uri, SKIP)) == f"{uri} is empty: no document with text"


# --- names of sources


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "pydocs",
        "http://x",
        "xlsx:x",
        "jsonl:",
        "beir:",
        "hf:name",
        "hf:",
        "builtin:",
        "JSONL:x",
        "s3://bucket",
    ],
)
def test_unknown_source(uri: str) -> None:
    error = _refused(uri)
    assert isinstance(error, UsageError)
    assert str(error) == f"unknown source {uri!r}"
    assert "jsonl:PATH" in error.hint


def test_unknown_builtin() -> None:
    error = _refused("builtin:wikipedia")
    assert isinstance(error, UsageError)
    assert "builtin:pydocs" in error.hint


@pytest.mark.parametrize(("kind", "what"), [("jsonl", "file"), ("beir", "folder")])
def test_missing_file_or_folder(tmp_path: Path, kind: str, what: str) -> None:
    (tmp_path / "a.jsonl").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    other = tmp_path if kind == "jsonl" else tmp_path / "a.jsonl"
    is_other = "is a folder, not a file" if kind == "jsonl" else "is a file, not a folder"
    for path, reason in {
        tmp_path / "absent": f"no such {what}",
        other: f"it {is_other}",
        tmp_path / "link": f"it is a link to {tmp_path / 'gone'}, which is not there",
        tmp_path / ("x" * 300): "it cannot be looked at: File name too long",
    }.items():
        error = _refused(f"{kind}:{path}")
        assert isinstance(error, UsageError)
        assert str(error) == f"source {kind}:{path}: {reason}: {path}"
        with pytest.raises(UsageError):
            source_fingerprint(f"{kind}:{path}", DataConfig())


def test_a_relative_path_is_shown_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert str(tmp_path / "absent.jsonl") in str(_refused("jsonl:absent.jsonl"))


# --- beir


def test_beir(beir: Write) -> None:
    collection = read_collection(beir(), DataConfig())
    assert collection.name == "coll"
    assert [(d.id, d.title, d.text) for d in collection.documents] == [
        ("d1", "One", "first text"),
        ("d2", "", "second text"),
        ("3", "Only a title", ""),
    ]
    assert {(q.id, q.text, q.split) for q in collection.queries} == {
        ("q1", "which is first?", "test"),
        ("2", "which is second?", "train"),
    }
    assert collection.qrels == {"q1": {"d1": 1, "d2": 0}, "2": {"d2": 2, "3": 1}}
    assert [q.id for q in collection.judged("test")] == ["q1"]


@pytest.mark.parametrize("missing", ["corpus.jsonl", "queries.jsonl", "qrels"])
def test_beir_needs_its_three_parts(beir: Write, tmp_path: Path, missing: str) -> None:
    uri = beir()
    path = tmp_path / "coll" / missing
    path.rename(tmp_path / "elsewhere")
    error = _refused(uri)
    assert isinstance(error, UsageError)
    assert f"{missing} is missing" in str(error)


def test_dev_is_validation_and_other_files_are_counted(beir: Write) -> None:
    collection = read_collection(
        beir(**{"qrels/dev.tsv": "2\td1\t1\n", "qrels/extra.tsv": "q1\td1\t1\nq1\td2\t1\n"}), SKIP
    )
    assert {q.id: q.split for q in collection.queries} == {"2": "validation", "q1": "test"}
    assert collection.counts == NUMBERS | {
        "judgments in qrels/extra.tsv left out (not a split)": 2,
        "train judgments of queries that validation judges too left out": 2,
    }


@pytest.mark.parametrize(
    ("lines", "line", "reason"),
    [
        (
            "q1\td1\t1\nq1 d2 1\n",
            2,
            "a judgment is query-id, corpus-id and a whole number, tab-separated",
        ),
        ("q1\td1\t1\nq1\td2\thigh\n", 2, "a judgment is query-id, corpus-id and a whole number"),
        ("q1\td1\t1\nq1\td2\t0.5\n", 2, "a judgment is query-id, corpus-id and a whole number"),
        ("q1\td1\t1\nq1\td1\t0\n", 2, "query 'q1' and document 'd1' have grade 0 here and 1 in"),
        ("q1\td1\t1\nq1\tQ0\td2\t1\n", 2, "a judgment is query-id, corpus-id and a whole number"),
    ],
)
def test_bad_judgments_are_named_or_skipped(
    beir: Write, lines: str, line: int, reason: str
) -> None:
    uri = beir(**{"qrels/test.tsv": lines})
    assert f"qrels/test.tsv:{line}: {reason}" in str(_refused(uri))
    collection = read_collection(uri, SKIP)
    assert collection.qrels["q1"] == {"d1": 1}
    assert collection.counts == NUMBERS | {"bad rows skipped": 1}


def test_judgments_of_unknown_ids_are_kept_or_counted_as_the_reference_does(beir: Write) -> None:
    """A document that is in no row is relevant and never found; a query without a text cannot be
    asked. Where no judgment fits, the ids are wrong.
    """
    uri = beir(
        **{
            "qrels/test.tsv": "q1\td1\t1\nq1\tno\t1\nq1\tnone\t2\n",
            "qrels/train.tsv": "2\td2\t1\nq9\td1\t1\n",
        }
    )
    collection = read_collection(uri, DataConfig())
    assert collection.counts == NUMBERS | {
        "judgments of documents that are in no row kept as never found": 2,
        "judgments of queries that are in no row left out": 1,
    }
    assert collection.qrels == {"q1": {"d1": 1, "no": 1, "none": 2}, "2": {"d2": 1}}
    strange = {"qrels/test.tsv": "q1\t0001\t1\n", "qrels/train.tsv": "2\t0002\t1\n"}
    assert "of 2 judgments none names a query and a document" in str(_refused(beir(**strange)))


@pytest.mark.parametrize(
    ("qrels", "judged", "left_out"),
    [
        ({"test": "q1 d1", "train": "q1 d2"}, {"q1": ("test", {"d1": 1})}, ("train", "test")),
        (
            {"validation": "q1 d1", "train": "q1 d2"},
            {"q1": ("validation", {"d1": 1})},
            ("train", "validation"),
        ),
        ({"dev": "q1 d2", "test": "q1 d1"}, {"q1": ("test", {"d1": 1})}, ("validation", "test")),
    ],
)
def test_a_query_of_two_splits_measures_and_does_not_train(
    tmp_path: Path, beir: Write, qrels: dict[str, str], judged: Any, left_out: tuple[str, str]
) -> None:
    uri = beir()
    for path in (tmp_path / "coll" / "qrels").iterdir():
        path.unlink()
    for name, line in qrels.items():
        (tmp_path / "coll" / "qrels" / f"{name}.tsv").write_text("\t".join([*line.split(), "1"]))
    found = read_collection(uri, DataConfig())
    assert {q.id: (q.split, found.qrels[q.id]) for q in found.queries} == judged
    what = "{} judgments of queries that {} judges too left out".format(*left_out)
    assert found.counts[what] == 1


def test_judgments_given_twice_alike_are_counted(beir: Write) -> None:
    found = read_collection(
        beir(**{"qrels/test.tsv": "q1\td1\t1\nq1\td1\t1\nq1\td1\t1.0\n"}), DataConfig()
    )
    assert (found.qrels["q1"], found.counts["judgments given twice"]) == ({"d1": 1}, 2)


@pytest.mark.parametrize("name", ['"q"', '"q', 'q"1', "'q'"])
def test_quotes_in_judgments_are_part_of_the_id_or_around_it(beir: Write, name: str) -> None:
    """As in ``"q`` of a row; around an id whose row has none they are pandas's."""
    lines = [{"_id": name, "text": "which?"}, {"_id": "q2", "text": "other"}]
    quoted = name.replace('"', '""')
    for asked in (name, f'"{quoted}"'):
        found = read_collection(
            beir(
                **{
                    "queries.jsonl": "\n".join(json.dumps(line) for line in lines),
                    "qrels/train.tsv": "",
                    "qrels/test.tsv": f'"query-id"\tdoc\tgrade\n{asked}\td1\t1\n"q2"\t"d2"\t"2"',
                }
            ),
            DataConfig(),
        )
        assert found.qrels == {name: {"d1": 1}, "q2": {"d2": 2}}


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda q: q.write_text("q1\td1\t1\n"), "qrels is a file, not a folder"),
        (lambda q: q.symlink_to(q.parent / "gone"), "which is not there"),
        (lambda q: q.mkdir(), "has no file with the name of a split (found: nothing)"),
        (
            lambda q: (q.mkdir(), (q / "qrels.tsv").write_text("q1\td1\t1\n")),
            "(found: qrels/qrels.tsv)",
        ),
        (lambda q: (q.mkdir(), (q / "test.tsv").mkdir()), "test.tsv is a folder, not a file"),
        (
            lambda q: (q.mkdir(), (q / "test.tsv").symlink_to(q / "no")),
            "test.tsv is a link to",
        ),
        (
            lambda q: (q.mkdir(), (q / "test.tsv").write_bytes(b"q\xe9\td1\t1")),
            "test.tsv:1: not UTF-8",
        ),
        (
            lambda q: (q.mkdir(), (q / "test.tsv").write_text("q1\td1\t1\n", "utf-16")),
            "test.tsv is written in UTF-16",
        ),
    ],
)
def test_qrels_that_cannot_be_read(
    beir: Write, tmp_path: Path, make: Callable[[Path], Any], reason: str
) -> None:
    uri, qrels = beir(), tmp_path / "coll" / "qrels"
    shutil.rmtree(qrels)
    make(qrels)
    for attempt in (
        lambda: read_collection(uri, DataConfig()),
        lambda: source_fingerprint(uri, DataConfig()) and read_collection(uri, DataConfig()),
    ):
        with pytest.raises(LeafkitError) as caught:
            attempt()
        assert reason in str(caught.value)
        assert caught.value.hint


@pytest.mark.parametrize(
    "text",
    [
        "q1\td1\t1\n\n",
        "\ufeffq1\td1\t1\n",
        "q1\td1\t1\r\n",
        "\ufeffquery-id\tcorpus-id\tscore\nq1\td1\t1",
    ],
)
def test_judgments_with_blank_lines_a_mark_or_carriage_returns(beir: Write, text: str) -> None:
    assert read_collection(beir(**{"qrels/test.tsv": text}), DataConfig()).qrels["q1"] == {"d1": 1}


@pytest.mark.parametrize(
    ("name", "line", "reason"),
    [
        ("corpus.jsonl", '{"text": "no id"}', "a document needs '_id' and 'text' or 'title'"),
        (
            "corpus.jsonl",
            '{"_id": "d4"}',
            "a document needs '_id' and 'text' or 'title'",
        ),
        ("corpus.jsonl", '{"_id": "", "text": "a"}', "a document needs '_id' and 'text'"),
        ("corpus.jsonl", '{"_id": "d4", "title": ["T"], "text": "a"}', "'title' is not text but a"),
        ("corpus.jsonl", '{"_id": "d4", "title": 1984, "text": "a"}', "'title' is not text but a"),
        ("corpus.jsonl", '{"_id": "d4", "text": {"a": 1}}', "'text' is not text but an object"),
        ("corpus.jsonl", '{"_id": "d4", "text": true}', "'text' is not text but true or false"),
        ("corpus.jsonl", '{"_id": 4.5, "text": "a"}', "'_id' is a number: 4.5, neither text nor"),
        ("corpus.jsonl", '{"_id": [4], "text": "a"}', "'_id' is a list: [4], neither text nor a"),
        ("queries.jsonl", '{"_id": "q1", "text": "again"}', "_id 'q1' is used twice"),
        ("queries.jsonl", '{"_id": "q3", "text": NaN}', "'text' is NaN"),
        ("queries.jsonl", '{"_id": true, "text": "a"}', "'_id' is true or false: True, neither"),
        ("queries.jsonl", '{"_id": null, "text": "a"}', "a query needs '_id'"),
        ("corpus.jsonl", '{"_id": "d1", "text": "again"}', "_id 'd1' is used twice"),
        ("corpus.jsonl", "nonsense", "not JSON in UTF-8"),
        ("queries.jsonl", '{"_id": "q3"}', "'text' is missing"),
        ("queries.jsonl", '{"text": "no id"}', "a query needs '_id'"),
    ],
)
def test_bad_rows_of_beir(beir: Write, tmp_path: Path, name: str, line: str, reason: str) -> None:
    uri = beir()
    path = tmp_path / "coll" / name
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, line]) + "\n")
    assert f"{name}:{len(lines) + 1}: {reason}" in str(_refused(uri))
    assert read_collection(uri, SKIP).counts == NUMBERS | {"bad rows skipped": 1}


def test_nan_is_no_text(jsonl: Write, beir: Write) -> None:
    """As json.dumps writes a row of pandas's: no document is called nan."""
    rows = '{"_id": "d1", "title": NaN, "text": "a"}\n{"_id": "d2", "title": "T", "text": NaN}\n'
    found = read_collection(
        beir(**{"corpus.jsonl": rows, "qrels/train.tsv": "", "qrels/test.tsv": "q1\td1\t1"}),
        DataConfig(),
    )
    assert [d.full_text for d in found.documents] == ["a", "T"]
    assert found.counts["fields that are NaN read as empty"] == 2
    row = {
        "query": "q",
        "positive": "p",
        "negatives": float("nan"),
        "instruction": float("nan"),
        "split": float("nan"),
        "scores": float("nan"),
    }
    document = {"text": "a", "title": float("nan"), "id": float("nan")}
    found = read_collection(jsonl(row, document), DataConfig())
    assert [d.full_text for d in found.documents] == ["a", "p"]
    assert [q.instruction for q in found.queries] == [""]
    assert found.counts["fields that are NaN read as empty"] == 4


def test_empty_documents_and_copies_of_a_judged_collection_stay(beir: Write) -> None:
    corpus = "".join(
        json.dumps({"_id": name, "title": "", "text": text}) + "\n"
        for name, text in {"a": "same", "b": "same", "c": "Same", "d": "", "e": " "}.items()
    )
    judged = "q1\ta\t2\nq1\tb\t0\nq1\tc\t0\n"
    uri = beir(**{"corpus.jsonl": corpus, "qrels/test.tsv": judged, "qrels/train.tsv": ""})
    collection = read_collection(uri, DataConfig())
    assert [d.id for d in collection.documents] == list("abcde")
    assert collection.qrels == {"q1": {"a": 2, "b": 0, "c": 0}}
    assert collection.counts == {
        "documents without text kept, as BEIR's evaluation does": 2,
        "documents with the text of another kept, as BEIR's evaluation does": 2,
        "documents that differ from another in case, spaces and punctuation alone": 1,
        "ids that are numbers read as text": 1,
        "queries without judgments left out": 1,
    }


def test_scifact(shared_data: Path) -> None:
    collection = read_collection(f"beir:{shared_data / 'scifact'}", DataConfig())
    assert len(collection.documents) == 5183
    assert len(collection.judged("test")) == 300
    assert len(collection.judged("train")) == 809
    assert sum(len(grades) for grades in collection.qrels.values()) > 1100


def test_graded_judgments_of_cranfield_are_left_out_and_counted(shared_data: Path) -> None:
    collection = read_collection(f"beir:{shared_data / 'cranfield'}", DataConfig())
    assert len(collection.documents) == 1400
    assert len(collection.judged("test")) == 225
    assert collection.counts["judgments in qrels/test_graded.tsv left out (not a split)"] == 1612
    assert collection.counts["documents without text kept, as BEIR's evaluation does"] == 2


# --- hf


def test_hub_arguments_and_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def load(*args: Any, **kwargs: Any) -> list[dict[str, Any]]:
        calls.append((args, kwargs))
        return [{"text": "first"}, {"query": "q", "positive": "second", "split": "test"}]

    monkeypatch.setattr(datasets, "load_dataset", load)
    commit = "0123456789" * 4
    for uri in (
        "hf:owner/name@train",
        "hf:owner/name:config@train[:10%]",
        "hf:owner/name@train#main",
        f"hf:owner/name@train#{commit}",
    ):
        collection = read_collection(uri, DataConfig())
        is_unpinned = any("without a pinned revision" in what for what in collection.counts)
        assert is_unpinned == (commit not in uri)
        assert collection.name == uri.removeprefix("hf:")
        assert [d.text for d in collection.documents] == ["first", "second"]
        assert len(collection.judged("test")) == 1
    assert calls == [
        (("owner/name", None), {"split": "train", "streaming": False}),
        (("owner/name", "config"), {"split": "train[:10%]", "streaming": False}),
        (("owner/name", None), {"split": "train", "streaming": False, "revision": "main"}),
        (("owner/name", None), {"split": "train", "streaming": False, "revision": commit}),
    ]


def test_bad_rows_of_the_hub_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        datasets, "load_dataset", lambda *a, **k: [{"text": "good"}, {"text": None}]
    )
    assert str(_refused("hf:name@test")).startswith("hf:name@test row 1: 'text' is missing")
    assert read_collection("hf:name@test", SKIP).counts["bad rows skipped"] == 1


@pytest.mark.parametrize(
    "error", [ConnectionError("no route\nsecond line"), ValueError(""), KeyError("x")]
)
def test_a_hub_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise error

    monkeypatch.setattr(datasets, "load_dataset", fail)
    refused = _refused("hf:name@test")
    assert str(refused).startswith(f"hf:name@test cannot be loaded: {type(error).__name__}: ")
    assert "\n" not in str(refused)
    assert "jsonl:PATH" in refused.hint


def test_a_local_dataset_through_the_real_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "train.jsonl").write_text(
        '{"text": "first", "id": "a"}\n{"text": "second", "id": "b"}\n'
    )
    collection = read_collection(f"hf:{folder}@train", DataConfig())
    assert collection.documents == [Document("a", "first"), Document("b", "second")]
    assert "cannot be loaded" in str(_refused(f"hf:{folder}@absent"))


# --- fingerprints


def test_fingerprint_of_files_follows_their_content_and_the_policy(
    jsonl: Write, beir: Write, tmp_path: Path
) -> None:
    uri, folder = jsonl({"text": "a"}), beir()
    seen = [source_fingerprint(name, DataConfig()) for name in (uri, folder)]
    assert seen == [
        source_fingerprint(name, DataConfig(max_query_tokens=7)) for name in (uri, folder)
    ]
    seen += [source_fingerprint(name, SKIP) for name in (uri, folder)]
    named = DataConfig(columns={"query": "question"}), DataConfig(ignore_columns=["url"])
    assert len({source_fingerprint(uri, data) for data in (DataConfig(), *named)}) == 3
    jsonl({"text": "b"})  # as long as before
    (tmp_path / "coll" / "qrels" / "test.tsv").write_text("q1\td2\t1\n")
    seen += [source_fingerprint(name, DataConfig()) for name in (uri, folder)]
    (tmp_path / "coll" / "qrels" / "test.tsv").rename(tmp_path / "coll" / "qrels" / "dev.tsv")
    seen.append(source_fingerprint(folder, DataConfig()))
    assert len(set(seen)) == len(seen) == 7


def test_fingerprint_of_a_hub_source_is_of_its_name_and_revision() -> None:
    names = ["hf:a@train", "hf:a@test", "hf:a:b@train", f"hf:a@train#{'0' * 40}"]
    assert len({source_fingerprint(name, DataConfig()) for name in names}) == 4


@pytest.mark.parametrize("kind", ["parquet", "csv", "saved"])
def test_fingerprint_of_a_local_set_is_of_its_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    uri, seen = f"hf:{tmp_path / 'set'}@train", []
    for text in ("first", "other", "first"):
        rows = datasets.Dataset.from_list([{"text": text, "id": "a", "title": None}])
        shutil.rmtree(tmp_path / "set", ignore_errors=True)
        (tmp_path / "set").mkdir()
        if kind == "saved":
            rows.save_to_disk(tmp_path / "set")
        else:
            getattr(rows, f"to_{kind}")(tmp_path / "set" / f"train.{kind}")
        seen.append(source_fingerprint(uri, DataConfig()))
        assert read_collection(uri, DataConfig()).documents == [Document("a", text)]
    assert seen[0] != seen[1]
    if kind != "saved":  # whose files hold a random identity of their own
        assert seen[0] == seen[2]


# --- what rows bring for training


def test_negatives_and_scores_follow_duplicates(jsonl: Write) -> None:
    rows = [
        {
            "query": "q",
            "positive": "One",
            "negatives": ["two", "three", "three"],
            "scores": [1, 0.5, 0.25, 0.25],
            "split": "train",
        },
        {"query": "q", "positive": "One", "split": "train"},
        {"query": "q", "positive": "One", "negatives": ["four"], "split": "train"},
    ]
    collection = read_collection(jsonl(*rows), DataConfig())
    texts = {d.id: d.text for d in collection.documents}
    assert list(texts.values()) == ["One", "two", "three", "four"]
    assert {q: [texts[d] for d in found] for q, found in collection.negatives.items()} == {
        "train:q": ["two", "three", "four"]
    }
    assert {texts[d]: score for d, score in collection.soft["train:q"].items()} == {
        "One": 1.0,
        "two": 0.5,
        "three": 0.25,
    }
    assert [texts[d] for d in collection.qrels["train:q"]] == ["One"]


def test_an_alias_does_not_hide_the_name_it_stands_for(jsonl: Write) -> None:
    collection = read_collection(
        jsonl({"query": "q", "anchor": "no", "positives": ["a"]}), DataConfig()
    )
    assert [q.text for q in collection.queries] == ["q"]
    assert [d.text for d in collection.documents] == ["a"]
    assert collection.counts == {"column 'anchor' is not used": 1}


def test_the_default_split_is_for_rows_that_state_none(jsonl: Write) -> None:
    rows = [{"query": f"q{i}", "positive": f"p{i}"} for i in range(50)]
    uri = jsonl(*rows, {"query": "own", "positive": "p", "split": "test"})
    assert {q.split for q in read_collection(uri, DataConfig()).queries} == {
        "train",
        "validation",
        "test",
    }
    splits = {
        q.text: q.split for q in read_collection(uri, DataConfig(), default_split="train").queries
    }
    assert splits.pop("own") == "test"
    assert set(splits.values()) == {"train"}


@pytest.mark.parametrize("kind", ["jsonl", "csv", "tsv", "parquet", "hf"])
def test_the_limit_takes_a_sample_of_an_ordered_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    rows = [{"query": f"q{i}", "positive": f"p{i}", "split": "train"} for i in range(300)]
    uri = _write_rows(tmp_path / "set", kind, rows)
    first, again = (read_collection(uri, DataConfig(), 30) for _ in range(2))
    numbers = [int(d.text[1:]) for d in first.documents]
    assert [d.text for d in again.documents] == [d.text for d in first.documents]
    assert len(set(numbers)) == 30
    assert numbers == sorted(numbers)
    assert min(numbers) < 100 < 200 < max(numbers)
    assert first.counts["rows taken at random (limit) out of 300"] == 30
    whole = read_collection(uri, DataConfig(), 1000)
    assert len(whole.documents) == 300
    assert whole.counts == {}


@pytest.mark.parametrize(
    "scores",
    [[1], [1, 2, 3], [1, None], [1, "x"], [1, True], [1, float("nan")], "12", {"a": 1, "b": 2}],
)
def test_scores_are_one_number_per_candidate(jsonl: Write, scores: Any) -> None:
    error = _refused(jsonl({"query": "q", "positive": "a", "negatives": ["b"], "scores": scores}))
    assert (
        "rows.jsonl:1: 'scores' must be 2 numbers: one per positive, then one per negative"
        in str(error)
    )


def test_instructions_are_the_rows_own(jsonl: Write) -> None:
    rows = [
        {"query": "q", "positive": "a", "instruction": f"  {word} "}
        for word in ("Seek", "Find", "Seek")
    ]
    collection = read_collection(
        jsonl(*rows, {"query": "q", "positive": "b", "instruction": None}), DataConfig()
    )
    assert [(q.text, q.instruction) for q in collection.queries] == [
        ("q", "Seek"),
        ("q", "Find"),
        ("q", ""),
    ]
    assert len({q.split for q in collection.queries}) == 1


def test_raw_rows_are_of_jsonl_and_hub_alone(jsonl: Write, beir: Write) -> None:
    bad = BadRows("error", 0, Counter())
    assert [
        row
        for _, row in read_raw_rows(jsonl({"sentence1": "a", "sentence2": "b", "label": 0}), bad)
    ] == [{"s1": "a", "s2": "b", "label": 0}]
    for uri in (beir(), "builtin:pydocs"):
        with pytest.raises(UsageError, match="has no rows of texts with labels or scores"):
            read_raw_rows(uri, bad)
