"""mteb's retrieval tasks as collections, on tasks made of rows at hand."""

from __future__ import annotations

import importlib
from pathlib import Path

import mteb_task
import pytest

from leafkit.config import DataConfig
from leafkit.core.errors import LeafkitError, MissingExtra, UsageError
from leafkit.data.mteb_source import collect_task, mteb_fingerprint, read_mteb
from leafkit.data.records import Document, Query
from leafkit.data.sources import read_collection

CORPUS = [
    {"id": "d1", "title": "A title", "text": " A text.\n"},
    {"id": "d2", "title": "", "text": "A text."},
    {"id": "d3", "title": "", "text": "A text."},
    {"id": "d4", "title": "", "text": ""},
]
QUERIES = [
    {"id": "q1", "text": "one\0"},
    {"id": "q2", "text": "two"},
    {"id": "q3", "text": "three"},
    {"id": "q4", "text": "four"},
]
QRELS = {"q1": {"d1": 2, "d3": 1, "d2": 0}, "q2": {"gone": 1}, "q3": {"d1": 0}}


def loaded(corpus=CORPUS, queries=QUERIES, qrels=QRELS, **settings):
    task = mteb_task.make_task(corpus, queries, qrels, **settings)
    task.load_data()
    return task


@pytest.fixture
def registered(monkeypatch):
    """Put a task at hand into mteb's registry."""
    mteb = pytest.importorskip("mteb", reason=mteb_task.MISSING)
    original = mteb.get_task

    def register(task):
        monkeypatch.setattr(
            mteb,
            "get_task",
            lambda name, **_: task if name == task.metadata.name else original(name),
        )
        return task

    return register


def test_grades_titles_copies_and_counts_are_kept():
    found = collect_task(loaded(), "default", "test")
    assert found.name == "LocalTask"
    assert found.documents == [
        Document("d1", "A text.", "A title"),
        Document("d2", "A text."),
        Document("d3", "A text."),
        Document("d4", ""),
    ]
    assert found.documents[0].full_text == "A title A text."
    # what mteb tells models of a retrieval task without a prompt of its own
    told = "Retrieve text based on user query."
    assert found.queries == [
        Query(name, text, instruction=told)
        for name, text in (("q1", "one"), ("q2", "two"), ("q3", "three"))
    ]
    assert found.qrels == QRELS
    assert [query.id for query in found.judged("test")] == ["q1", "q2", "q3"]
    assert found.counts == {
        "documents without text": 1,
        "queries without judgments left out": 1,
        "judgments of documents that the corpus lacks": 1,
        "queries without a relevant document, which count as 0": 1,
        "texts with NUL characters repaired": 1,
    }


def test_queries_measure_whatever_mteb_calls_their_split():
    found = collect_task(loaded(split="train"), "default", "train")
    assert {query.split for query in found.queries} == {"test"}


def test_instructions_are_the_row_s_own_else_the_task_s():
    of_task = collect_task(
        loaded(prompt={"query": "Find it", "document": "Read it"}), "default", "test"
    )
    assert {query.instruction for query in of_task.queries} == {"Find it"}
    assert {
        query.instruction
        for query in collect_task(loaded(prompt="Look"), "default", "test").queries
    } == {"Look"}
    rows = [row | {"instruction": f"for {row['id']}"} for row in QUERIES]
    own = collect_task(loaded(queries=rows, prompt="Look"), "default", "test")
    assert [(query.text, query.instruction) for query in own.queries[1:]] == [
        ("two", "for q2"),
        ("three", "for q3"),
    ]
    assert (
        sum(count for what, count in own.counts.items() if "instruction of their own" in what) == 3
    )


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"corpus": [*CORPUS, CORPUS[0]]}, "document id 'd1' is used twice"),
        ({"qrels": {"q1": {"d1": 0}}}, "no judged query"),
        ({"qrels": {"q1": {"d1": 0.5}}}, "the grade 0.5 of document 'd1' is no whole number"),
        ({"queries": [{"id": "q1", "text": ["said", "answered"]}]}, "query 'q1' is a conversation"),
    ],
)
def test_what_is_no_collection_is_refused(settings, complaint):
    with pytest.raises(LeafkitError, match=complaint):
        collect_task(loaded(**settings), "default", "test")


def test_a_task_that_ranks_given_candidates_is_refused():
    task = loaded()
    task.dataset["default"]["test"]["top_ranked"] = {"q1": ["d1"]}
    with pytest.raises(LeafkitError, match="ranks candidates"):
        collect_task(task, "default", "test")


def test_a_task_is_read_by_name_and_split(registered):
    task = registered(mteb_task.make_task(CORPUS, QUERIES, QRELS, split="dev"))
    expected = collect_task(loaded(split="dev"), "default", "dev")
    assert read_mteb("LocalTask") == read_mteb("LocalTask@dev") == expected
    with pytest.raises(UsageError, match="mteb does not evaluate on split 'test'; there are dev"):
        read_mteb("LocalTask@test")
    with pytest.raises(
        UsageError, match="mteb does not evaluate on subset 'fr'; there are default"
    ):
        read_mteb("LocalTask:fr")
    task.metadata = task.metadata.model_copy(update={"eval_splits": ["dev", "dev2"]})
    with pytest.raises(UsageError, match="mteb evaluates on several splits; there are dev, dev2"):
        read_mteb("LocalTask")


def test_the_fingerprint_follows_the_pinned_revision(registered):
    before = [mteb_fingerprint(name) for name in ("SciFact", "NFCorpus", "SciFact@test")]
    assert before[0] == before[2] != before[1]
    registered(mteb_task.make_task(CORPUS, QUERIES, QRELS))
    first = mteb_fingerprint("LocalTask")
    registered(
        mteb_task.make_task(CORPUS, QUERIES, QRELS, dataset={"path": "local/rows", "revision": "2"})
    )
    assert mteb_fingerprint("LocalTask") != first


def test_names_that_mteb_does_not_know_as_a_retrieval_task():
    pytest.importorskip("mteb", reason=mteb_task.MISSING)
    with pytest.raises(UsageError, match="mteb has no task 'SciFac'") as caught:
        read_mteb("SciFac")
    assert "SciFact" in caught.value.hint
    with pytest.raises(
        UsageError,
        match="mteb:STSBenchmark is a task of type STS on text: not a retrieval of texts",
    ):
        read_mteb("STSBenchmark")
    with pytest.raises(UsageError, match=r"mteb evaluates on several subsets; there are .*, fr"):
        read_mteb("MintakaRetrieval")


def test_without_a_network_the_error_says_what_to_do(tmp_path, monkeypatch):
    pytest.importorskip("mteb", reason=mteb_task.MISSING)
    with pytest.raises(LeafkitError, match="mteb:SciFact cannot be loaded") as caught:
        read_mteb("SciFact")
    assert "beir:PATH" in caught.value.hint


def test_without_mteb_the_install_command_is_shown(monkeypatch):
    def refuse(name, *args):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", refuse)
    for read in (read_mteb, mteb_fingerprint):
        with pytest.raises(MissingExtra, match="source mteb:SciFact needs the package 'mteb'"):
            read("SciFact")


def test_scifact_is_what_the_beir_folder_holds(shared_data: Path):
    rows = mteb_task.read_beir_rows(shared_data / "scifact")
    task = mteb_task.make_task(*rows)
    task.load_data()
    found = collect_task(task, "default", "test")
    expected = read_collection(f"beir:{shared_data / 'scifact'}", DataConfig())
    assert found.documents == expected.documents
    assert {q.id: q.text for q in found.queries} == {
        q.id: q.text for q in expected.queries if q.split == "test"
    }
    assert len(found.judged("test")) == 300
