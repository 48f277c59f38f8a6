"""Training rows: out of a collection, of labelled texts, of scored pairs; nothing filled in,
everything left out counted.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from leafkit.config import DataConfig, TrainSourceConfig
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.data.records import Collection, Document, Query
from leafkit.data.sources import read_collection
from leafkit.data.training_rows import TrainingRows, read_task_rows, rows_of_collection

STOP = DataConfig(on_bad_row="error")
SKIP = DataConfig(on_bad_row="skip", max_bad_rows=10)
Write = Callable[..., str]


@pytest.fixture
def jsonl(tmp_path: Path) -> Write:
    """Write rows and return the source's name."""

    def write(*rows: Any) -> str:
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return f"jsonl:{path}"

    return write


def _read(uri: str, data: DataConfig = STOP, limit: int = 0) -> TrainingRows:
    return rows_of_collection("here", read_collection(uri, data, default_split="train"), limit)


def _texts(rows: TrainingRows) -> list[tuple[str, str, list[str]]]:
    positives = [rows.documents[p] for p in rows.positives]
    return [
        (q, p, [rows.documents[n] for n in given])
        for q, p, given in zip(rows.queries, positives, rows.negatives, strict=True)
    ]


# --- collections


def test_a_query_that_is_judged_in_another_split_trains_nothing() -> None:
    queries = [
        Query("a", "How to  bake", "train"),
        Query("b", "open files", "train"),
        Query("c", "no answer", "train"),
        Query("d", "how to bake", "test"),
        Query("e", "Open files", "test"),  # nobody judged it
    ]
    qrels = {"a": {"0": 1}, "b": {"0": 1}, "d": {"0": 1}}
    rows = rows_of_collection("here", Collection("c", [Document("0", "text")], queries, qrels))
    assert rows.queries == ["open files"]
    assert rows.counts == {
        "train queries without a positive left out": 1,
        "train queries that are judged queries of another split left out": 1,
    }


def test_a_row_per_query_and_positive_with_the_negatives_it_brought(jsonl: Write) -> None:
    rows = _read(
        jsonl(
            {
                "query": "q1",
                "positives": ["a", "b"],
                "negatives": ["c", "d"],
                "scores": [0.9, 0.8, 0.2, 0.1],
            },
            {"query": "q2", "positive": "c", "instruction": "Seek"},
            {"query": "held out", "positive": "x", "split": "test"},
        )
    )
    assert _texts(rows) == [("q1", "a", ["c", "d"]), ("q1", "b", ["c", "d"]), ("q2", "c", [])]
    assert rows.query_ids == [0, 0, 1]
    assert [{rows.documents[d] for d in known} for known in rows.relevant] == [{"a", "b"}, {"c"}]
    assert rows.scores == [[0.9, 0.2, 0.1], [0.8, 0.2, 0.1], []]
    assert rows.instructions == ["", "", "Seek"]
    assert rows.counts == {}


def test_the_same_query_under_two_instructions_is_two_queries(jsonl: Write) -> None:
    rows = _read(
        jsonl(
            *({"query": "q", "positive": p, "instruction": p.upper()} for p in ("a", "b")),
            {"query": "q", "positive": "c"},
        )
    )
    assert rows.instructions == ["A", "B", ""]
    assert rows.query_ids == [0, 1, 2]
    assert [len(known) for known in rows.relevant] == [1, 1, 1]


def test_a_negative_that_another_row_calls_a_positive_is_left_out_and_counted(jsonl: Write) -> None:
    rows = _read(
        jsonl(
            {"query": "q", "positive": "a", "negatives": ["b", "c"], "scores": [1, 0.5, 0.25]},
            {"query": "q", "positive": "b"},
        )
    )
    assert _texts(rows) == [("q", "a", ["c"]), ("q", "b", ["c"])]
    assert rows.scores == [[1.0, 0.25], [0.5, 0.25]]
    assert rows.counts == {"negatives that another row calls a positive of the query left out": 1}


def test_a_negative_that_is_a_copy_of_the_positive_in_other_letters_is_left_out_and_counted(
    jsonl: Write,
) -> None:
    rows = _read(jsonl({"query": "q", "positive": "The same", "negatives": ["the  SAME", "other"]}))
    assert _texts(rows) == [("q", "The same", ["other"])]
    assert rows.counts == {"negatives that another row calls a positive of the query left out": 1}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"query": "q"}, "a pair needs 'positive'"),
        ({"query": "q", "positives": []}, "a pair needs 'positive'"),
        ({"query": "q", "positive": "  "}, "'positives' is empty"),
        ({"query": " ", "positive": "a"}, "'query' is empty"),
        ({"query": "q", "positive": "a", "negatives": [" "]}, "'negatives' is empty"),
        (
            {"query": "q", "positive": "a", "negatives": ["b", "a"]},
            "a negative is equal to a positive",
        ),
        (
            {"query": "q", "positive": "a", "negatives": [" a "]},
            "a negative is equal to a positive",
        ),
        (
            {"query": "q", "positive": "a", "negatives": ["b"], "scores": [1]},
            "'scores' must be 2 numbers",
        ),
        (
            {"query": "q", "positive": "a", "negatives": ["b"], "scores": [1, "high"]},
            "'scores' must be 2 numbers",
        ),
    ],
)
def test_rows_that_cannot_train_stop_the_reading_or_are_counted(
    jsonl: Write, row: dict[str, Any], reason: str
) -> None:
    uri = jsonl({"query": "good", "positive": "fine"}, row)
    with pytest.raises(LeafkitError, match=f"rows.jsonl:2: {reason}"):
        _read(uri)
    collection = read_collection(uri, SKIP, default_split="train")
    assert collection.counts == {"bad rows skipped": 1}
    assert _texts(rows_of_collection("here", collection)) == [("good", "fine", [])]


def test_unjudged_train_queries_are_counted() -> None:
    collection = Collection(
        "home",
        [Document("a", "text")],
        [Query("q", "one", "train"), Query("r", "two", "train"), Query("s", "three", "test")],
        {"q": {"a": 1}, "r": {"a": 0}},
    )
    rows = rows_of_collection("here", collection)
    assert (len(rows), rows.counts) == (1, {"train queries without a positive left out": 1})
    collection.qrels = {"s": {"a": 1}}
    with pytest.raises(LeafkitError, match="source here: home has no judged train queries"):
        rows_of_collection("here", collection)


@pytest.mark.parametrize(("limit", "expected"), [(0, 4), (1, 1), (2, 2), (3, 3), (4, 4), (9, 4)])
def test_the_limit_counts_rows_also_inside_a_query(jsonl: Write, limit: int, expected: int) -> None:
    rows = _read(
        jsonl({"query": "q", "positives": ["a", "b", "c"]}, {"query": "r", "positive": "d"}),
        limit=limit,
    )
    assert len(rows) == expected
    assert rows.relevant[0] == {0, 1, 2}  # what is relevant stays known, taken or not


def test_taking_rows_keeps_documents_and_queries() -> None:
    rows = TrainingRows(
        "x",
        documents=["a", "b", "c"],
        relevant=[frozenset({0}), frozenset({1, 2})],
        counts={"c": 1},
    )
    for query, document in ((0, 0), (1, 1), (1, 2)):
        rows.add(f"q{query}", "", query, document, negatives=[], scores=[])
    part = rows.take([2, 0])
    assert (part.queries, part.positives, part.query_ids) == (["q1", "q0"], [2, 0], [1, 0])
    assert (part.documents, part.relevant, part.counts) == (
        rows.documents,
        rows.relevant,
        rows.counts,
    )
    assert part.distinct_queries() == ([0, 1], [0, 1])
    assert rows.distinct_queries() == ([0, 1], [0, 1, 1])
    assert len(rows.take([])) == 0


# --- labels


LABELS = TrainSourceConfig(task="classification")


def _labelled(
    uri: str, num_negatives: int = 1, data: DataConfig = STOP, seed: int = 0
) -> TrainingRows:
    return read_task_rows("here", replace(LABELS, uri=uri), data, num_negatives, seed=seed)


def test_positives_are_of_the_same_label_and_negatives_of_others(jsonl: Write) -> None:
    labels = {f"text {i} {label}": label for label in ("red", "green", "blue") for i in range(5)}
    rows = _labelled(jsonl(*({"text": text, "label": label} for text, label in labels.items())), 2)
    assert len(rows) == 15
    for query, positive, negatives in _texts(rows):
        assert labels[positive] == labels[query]
        assert positive != query
        assert len(negatives) == 2
        assert labels[query] not in {labels[n] for n in negatives}
    assert all(
        {labels[rows.documents[d]] for d in rows.relevant[q]} == {labels[text]}
        for q, text in enumerate(rows.queries)
    )
    assert not any(rows.scores)


def test_labels_are_compared_as_text_and_zero_is_a_label(jsonl: Write) -> None:
    rows = _labelled(
        jsonl(
            *(
                {"text": f"t{i}", "label": label}
                for i, label in enumerate([0, "0", 1, 1, False, "False"])
            )
        )
    )
    assert len(rows) == 6
    assert {frozenset((q, p)) for q, p, _ in _texts(rows)} == {
        frozenset(("t0", "t1")),
        frozenset(("t2", "t3")),
        frozenset(("t4", "t5")),
    }


def test_a_label_with_one_text_and_held_out_rows_are_left_out(jsonl: Write) -> None:
    rows = [{"text": f"t{i}", "label": "many"} for i in range(3)]
    uri = jsonl(
        *rows, {"text": "alone", "label": "one"}, {"text": "t9", "label": "many", "split": "test"}
    )
    found = _labelled(uri)
    assert sorted(found.queries) == ["t0", "t1", "t2"]
    assert "t9" not in found.documents
    assert found.counts["rows whose label has no other text left out"] == 1
    assert [negatives for _, _, negatives in _texts(found)] == [["alone"]] * 3


def test_one_label_leaves_rows_without_negatives_and_says_so(jsonl: Write) -> None:
    found = _labelled(jsonl(*({"text": f"t{i}", "label": "only"} for i in range(4))), 2)
    assert [negatives for _, _, negatives in _texts(found)] == [[]] * 4
    assert found.counts["rows with too few texts of other labels"] == 4


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"text": "x"}, "'label' is missing"),
        ({"text": "x", "label": ""}, "'label' is missing"),
        ({"text": "x", "label": ["a", "b"]}, "'label' is missing"),
        ({"label": "a"}, "'text' is missing"),
        ({"text": "  ", "label": "a"}, "'text' is empty"),
        ({"text": 3, "label": "a"}, "'text' is not text"),
        ({"text": "x", "label": "a", "split": "tarin"}, "split 'tarin' is not one of"),
    ],
)
def test_bad_labelled_rows(jsonl: Write, row: dict[str, Any], reason: str) -> None:
    uri = jsonl({"text": "a1", "label": "a"}, {"text": "a2", "label": "a"}, row)
    with pytest.raises(LeafkitError, match=f"rows.jsonl:3: {reason}"):
        _labelled(uri)
    found = _labelled(uri, data=SKIP)
    assert (len(found), found.counts["bad rows skipped"]) == (2, 1)


# --- scored pairs


STS = TrainSourceConfig(task="sts", min_score=4.0)


def _scored(uri: str, data: DataConfig = STOP) -> TrainingRows:
    return read_task_rows("here", replace(STS, uri=uri), data, 7, seed=0)


def test_pairs_at_or_above_the_score_are_rows(jsonl: Write) -> None:
    rows = _scored(
        jsonl(
            {"s1": "a", "s2": "b", "score": 5},
            {"sentence1": "a", "sentence2": "c", "score": 4.0},
            {"s1": "a", "s2": "d", "score": 3.99},
            {"s1": "e", "s2": "e", "score": 5.0},
            {"s1": "b", "s2": "a", "score": 4.2},
            {"s1": "x", "s2": "y", "score": 5.0, "split": "test"},
        )
    )
    assert _texts(rows) == [("a", "b", []), ("a", "c", []), ("b", "a", [])]
    assert rows.query_ids == [0, 0, 1]
    assert [{rows.documents[d] for d in known} for known in rows.relevant] == [{"b", "c"}, {"a"}]
    assert rows.counts == {
        "pairs with a score below 4 left out": 1,
        "pairs of equal sentences left out": 1,
    }


@pytest.mark.parametrize("score", [None, "5", True, [5]])
def test_a_score_that_is_no_number(jsonl: Write, score: Any) -> None:
    uri = jsonl({"s1": "a", "s2": "b", "score": 5}, {"s1": "c", "s2": "d", "score": score})
    with pytest.raises(LeafkitError, match=r"rows.jsonl:2: 'score' is .*, not a number"):
        _scored(uri)
    assert len(_scored(uri, SKIP)) == 1


def test_a_score_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"s1": "a", "s2": "b", "score": NaN}\n{"s1": "c", "s2": "d", "score": 5}\n')
    with pytest.raises(LeafkitError, match=r"rows.jsonl:1: 'score' is nan, not a number"):
        _scored(f"jsonl:{path}")


@pytest.mark.parametrize("config", [LABELS, STS], ids=["labels", "sts"])
def test_sources_that_hold_no_such_rows(
    config: TrainSourceConfig, jsonl: Write, tmp_path: Path
) -> None:
    with pytest.raises(
        LeafkitError, match=f"gives no training row for task {config.task}"
    ) as caught:
        read_task_rows("here", replace(config, uri=jsonl()), STOP, 1, seed=0)
    assert "rows look like" in caught.value.hint
    with pytest.raises(UsageError, match="has no rows of texts with labels or scores"):
        read_task_rows("here", replace(config, uri="builtin:pydocs"), STOP, 1, seed=0)
    with pytest.raises(UsageError, match="no such file"):
        read_task_rows("here", replace(config, uri=f"jsonl:{tmp_path / 'absent'}"), STOP, 1, seed=0)


@pytest.mark.parametrize("config", [LABELS, STS], ids=["labels", "sts"])
def test_a_limit_reads_the_first_rows(config: TrainSourceConfig, jsonl: Write) -> None:
    uri = jsonl(
        *(
            {"text": f"t{i}", "label": "a", "s1": f"a{i}", "s2": f"b{i}", "score": 5}
            for i in range(9)
        )
    )
    assert len(read_task_rows("here", replace(config, uri=uri, limit=4), STOP, 0, seed=0)) == 4
