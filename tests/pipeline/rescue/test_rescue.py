"""An index whose model is gone, from its pairs to the certificate."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny
from rescue_case import lost_vectors, recipe_of, write_index

import leafkit
from leafkit.cli import main
from leafkit.config import DataConfig, StudentConfig
from leafkit.config.load import load_recipe
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.data.records import Collection, Document
from leafkit.embedders.pairs import parquet_pairs
from leafkit.embedders.pairs.columns import PairColumns
from leafkit.embedders.pairs.pair_files import PairFiles
from leafkit.embedders.precomputed import PrecomputedVectors
from leafkit.pipeline.model_handle import ModelHandle
from leafkit.pipeline.rescue.certify import choose_queries
from leafkit.pipeline.rescue.pairs import PairSource, fetch_pairs, read_pair_source
from leafkit.pipeline.rescue.rescue import run_rescue
from leafkit.pipeline.run import open_run
from leafkit.pipeline.student.leave_out import leave_out, relevant_sources
from leafkit.pipeline.student.targets import TokenLimits, embed_groups, read_targets
from leafkit.pipeline.student.text_groups import MADE_QUERIES, choose_texts
from leafkit.pipeline.student.unjudged_test_set import HeldOut
from leafkit.results import Certificate
from leafkit.results.agreement import HELD_OUT

NUM_DOCUMENTS = 480  # one in twenty are enough to be held out
STAND_INS = DataConfig(num_made_queries=200, made_query_vectors="source")


@pytest.fixture(scope="module")
def documents() -> list[str]:
    return [document for _, document in tiny.make_pairs(NUM_DOCUMENTS)]


@pytest.fixture(scope="module")
def index(home, documents) -> np.ndarray:
    """What the lost model left."""
    return lost_vectors(home, documents)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, documents, index) -> Path:
    """Texts and vectors as vectors:FOLDER reads them."""
    return write_index(tmp_path_factory.mktemp("old"), documents, index)


# --- queries that nothing can embed any more


def groups_of(folder: Path, documents: list[str], data: DataConfig):
    collection = Collection("old", [Document(f"d{i}", t) for i, t in enumerate(documents)])
    handle = ModelHandle(PrecomputedVectors(folder), "old", f"vectors:{folder}")
    return choose_texts(collection, handle, StudentConfig(), data, seed=1), handle


def test_a_made_query_has_the_vector_of_the_document_that_it_was_made_of(folder, documents, index):
    groups, handle = groups_of(folder, documents, STAND_INS)
    assert [group.origin for group in groups] == ["documents", MADE_QUERIES]
    targets = embed_groups(
        groups, TokenLimits(0, 0), lambda t, r, m, w: handle.model.embed(t, r, m)
    )
    made = targets[1]
    assert len(made.texts) == 200
    assert all(
        text in documents[place] for text, place in zip(made.texts, made.sources, strict=True)
    )
    found = read_targets(targets, [(1, i) for i in range(200)])
    np.testing.assert_allclose(found, index[list(made.sources)], atol=1e-6)
    assert relevant_sources(targets)[made.texts[3]] == {made.sources[3]: 1}


def test_without_the_word_for_it_nothing_is_made_of_documents(folder, documents):
    groups, _ = groups_of(folder, documents, replace(STAND_INS, made_query_vectors="teacher"))
    assert [group.origin for group in groups] == ["documents"]


def test_a_document_that_is_left_out_takes_its_queries_along(folder, documents, index):
    groups, handle = groups_of(folder, documents, STAND_INS)
    targets = embed_groups(
        groups, TokenLimits(0, 0), lambda t, r, m, w: handle.model.embed(t, r, m)
    )
    unseen = frozenset(documents[::7])
    kept = leave_out(targets, unseen)
    assert not unseen & set(kept[0].texts)
    lost = {
        text
        for text, place in zip(targets[1].texts, targets[1].sources, strict=True)
        if documents[place] in unseen
    }
    assert lost
    assert set(kept[1].texts) == set(targets[1].texts) - lost
    for text, place in zip(kept[1].texts, kept[1].sources, strict=True):
        assert text in kept[0].texts[place]
    rows = [(1, i) for i in range(len(kept[1].texts))]
    own = [documents.index(kept[0].texts[place]) for place in kept[1].sources]
    np.testing.assert_allclose(read_targets(kept, rows), index[own], atol=1e-6)


# --- the certificate's queries


def test_a_query_of_the_certificate_is_of_its_document_and_trained_nowhere():
    shared = "these five words are shared."
    texts = [f"{shared} number {i} has a sentence of its own." for i in range(30)]
    rows = [Document(str(i), text) for i, text in enumerate(texts)]
    held = HeldOut(texts[:5], "documents as queries", "document", [0, 1, 2, 3, 4], HELD_OUT)
    asks = choose_queries(rows, held, seed=3)
    assert [place for place, _ in asks] == [0, 1, 2, 3, 4]
    assert all(query == f"number {place} has a sentence of its own." for place, query in asks)
    assert choose_queries(rows, held, seed=3) == asks


SALT = "Salt slows the growth of yeast in every dough that a baker makes."
RIVER = "The river is as wide as a lake in spring."


@pytest.mark.parametrize(
    "trained",
    [
        Document("b", SALT),
        # white space does not make another text of it
        Document("b", SALT.replace("yeast in", "yeast\n  in")),
        Document("b", f"Another first sentence is here now. {SALT} {RIVER}"),
        Document("b", "x " * 400 + "ends. " + SALT),
        Document("b", "of other words", SALT),
    ],
    ids=["whole", "spaces", "sentence", "late", "title"],
)
def test_no_query_is_a_trained_document_or_a_sentence_of_one(trained):
    title = "Bread rises when it is warm enough outside"
    asked = Document("a", SALT, title)
    held = HeldOut([asked.full_text], "documents as queries", "document", [0], HELD_OUT)
    for seed in range(6):
        assert choose_queries([asked, trained], held, seed) == [(0, title)]


def test_no_query_is_a_trained_text_in_other_letter_case():
    asked = Document("a", "x", "Introduction and Scope")
    held = HeldOut([asked.full_text], "documents as queries", "document", [0], HELD_OUT)
    assert choose_queries([asked, Document("b", "y")], held, 0) == [(0, asked.title)]
    trained = Document("b", "y", "INTRODUCTION AND SCOPE")
    assert choose_queries([asked, trained], held, 0) == []


# --- the road


@pytest.mark.slow
def test_a_folder_is_rescued_and_certified(home, folder, tmp_path, documents, index):
    path = recipe_of(home, tmp_path)
    saved = leafkit.rescue(f"vectors:{folder}", recipe=str(path))
    found = saved.certificate
    assert found is not None
    assert [system.name for system in found.systems] == [
        "rescued student",
        "linear map",
        "random map",
        "BM25",
    ]
    assert (found.num_documents, found.num_held_out, found.training) == (
        NUM_DOCUMENTS,
        24,
        HELD_OUT,
    )
    rescued, linear, random, _ = found.systems
    assert rescued.document_cosine is not None
    assert random.document_cosine is not None
    assert linear.document_cosine is not None
    # a map that was fitted is nearer than one that was not
    assert linear.document_cosine.low > random.document_cosine.high
    assert rescued.document_cosine.low > random.document_cosine.high
    assert found.cuts[0].texts == "texts trained as documents"
    assert saved.pair.space.dim == index.shape[1]
    hits = saved.pair.search(documents[5], k=3)
    assert hits.num_documents == NUM_DOCUMENTS
    assert (saved.folder / "certificate" / "certificate.html").is_file()
    again = leafkit.rescue(f"vectors:{folder}", recipe=str(path))
    assert again.certificate == found


@pytest.mark.slow
def test_a_parquet_file_is_the_same_index(home, folder, tmp_path, documents, index, capsys):
    file = tmp_path / "old.parquet"
    table = {
        "body": documents,
        "key": [f"d{i}" for i in range(NUM_DOCUMENTS)],
        "embedding": pa.array(index.tolist(), type=pa.list_(pa.float32())),
    }
    pq.write_table(pa.table(table), file)
    recipe = load_recipe(str(recipe_of(home, tmp_path)), ["student.kind=instant"])
    columns = PairColumns(text="body", id="key", vector="embedding")
    source = PairSource("parquet", str(file), "", columns)
    with open_run(recipe) as run:
        finished, certificate = run_rescue(run, source)
    assert certificate is not None
    assert certificate.num_documents == NUM_DOCUMENTS
    pairs = PrecomputedVectors(tmp_path / "ck" / "mine" / "pairs")
    np.testing.assert_allclose(pairs.embed(documents[:9], "document", 0), index[:9], atol=1e-6)
    assert not (tmp_path / "ck" / "mine" / "pairs.work").exists()
    with open_run(recipe) as run:
        again, _ = run_rescue(run, source)
    assert {step["name"] for step in again.steps if step["status"] == "done"} == set()
    assert finished.folder == again.folder


@pytest.mark.slow
def test_an_index_of_which_nothing_is_held_out_has_a_student_and_no_certificate(
    home, folder, tmp_path, documents, index, capsys
):
    old, words = tmp_path / "few", [f"recipe={recipe_of(home, tmp_path)}", "student.kind=instant"]

    def write(count: int) -> None:
        write_index(old, documents[:count], index[:count])

    certificate = tmp_path / "ck" / "mine" / "certificate"
    write(400)
    assert main.main(["rescue", f"vectors:{old}", *words]) == 0
    assert Certificate.load(certificate / "certificate.json").num_held_out == 20
    capsys.readouterr()
    write(399)
    assert main.main(["rescue", f"vectors:{old}", *words]) == 0
    shown = " ".join("".join(capsys.readouterr()).split())
    assert "no certificate:" in shown
    assert "has 399 documents, too few to keep any out of training" in shown
    assert "needs 400 documents" in shown
    assert not certificate.exists()  # that of the student before says nothing of this one
    saved = leafkit.rescue(f"vectors:{old}", words[1], recipe=words[0].partition("=")[2])
    assert saved.certificate is None
    assert saved.pair.search(documents[5], k=3).num_documents == 399


@pytest.mark.parametrize(("similarity", "expected"), [("cosine", "cosine"), ("dot", "dot")])
def test_vectors_of_other_lengths_are_compared_as_it_is_said(home, tmp_path, similarity, expected):
    file, numbers = tmp_path / "a.parquet", [[3.0, 4.0], [1.0, 0.0], [0.0, 2.0]]
    pq.write_table(pa.table({"text": ["one", "two", "three"], "vector": numbers}), file)
    with open_run(load_recipe(str(recipe_of(home, tmp_path)))) as run:
        with pytest.raises(UsageError, match=r"'0' has length 5\.000, and nothing says") as refused:
            fetch_pairs(run, read_pair_source(f"parquet:{file}"))
        assert "similarity=cosine" in refused.value.hint
        made = fetch_pairs(run, read_pair_source(f"parquet:{file}", similarity=similarity))
        found = PrecomputedVectors(made)
        assert found.space("document", 0).similarity == expected
        first = [0.6, 0.8] if similarity == "cosine" else [3.0, 4.0]
        np.testing.assert_allclose(found.embed(["one"], "document", 0), [first], atol=1e-6)
        # it decides about the pairs: another word makes others of them
        other = "dot" if similarity == "cosine" else "cosine"
        fetch_pairs(run, read_pair_source(f"parquet:{file}", similarity=other))
        assert PrecomputedVectors(made).space("document", 0).similarity == other


def test_bad_rows_before_an_interruption_count_on(home, tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_pairs, "_ROWS_AT_ONCE", 4)
    file = tmp_path / "a.parquet"
    texts = ["one", None, None, "two", "three", None, None, "four"]
    pq.write_table(pa.table({"text": texts, "vector": [[1.0, 0.0]] * 8}), file)
    words = ["data.on_bad_row=skip", "data.max_bad_rows=3"]
    append = PairFiles.append

    def stop_behind_the_first(self, *rest, **kinds):
        append(self, *rest, **kinds)
        raise KeyboardInterrupt

    source = read_pair_source(f"parquet:{file}")
    with open_run(load_recipe(str(recipe_of(home, tmp_path)), words)) as run:
        monkeypatch.setattr(PairFiles, "append", stop_behind_the_first)
        with pytest.raises(KeyboardInterrupt):
            fetch_pairs(run, source)
        monkeypatch.setattr(PairFiles, "append", append)
        with pytest.raises(LeafkitError, match="bad row number 4, more than"):
            fetch_pairs(run, source)


def test_an_index_with_vectors_of_queries_is_sent_elsewhere(home, folder, tmp_path):
    for name in ("documents.jsonl", "documents.npy"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    tiny.write_lines(tmp_path / "queries.jsonl", [{"text": "find it"}])
    np.save(tmp_path / "queries.npy", np.load(tmp_path / "documents.npy")[:1])
    with (
        open_run(load_recipe(str(recipe_of(home, tmp_path)))) as run,
        pytest.raises(UsageError, match="has vectors of queries too") as refused,
    ):
        run_rescue(run, read_pair_source(f"vectors:{tmp_path}"))
    assert "leafkit distill" in refused.value.hint


def test_a_corpus_with_queries_is_refused(home, folder, tmp_path):
    words = [f"data.corpus=jsonl:{home / 'pairs.jsonl'}"]
    with (
        open_run(load_recipe(str(recipe_of(home, tmp_path)), words)) as run,
        pytest.raises(UsageError, match="72 queries, and there is no model"),
    ):
        run_rescue(run, read_pair_source(f"vectors:{folder}"))


def test_a_file_brings_its_own_texts(home, tmp_path):
    table = pa.table({"text": ["one"], "vector": [[1.0, 0.0]]})
    pq.write_table(table, tmp_path / "a.parquet")
    words = [f"data.corpus=jsonl:{home / 'pairs.jsonl'}"]
    with (
        open_run(load_recipe(str(recipe_of(home, tmp_path)), words)) as run,
        pytest.raises(UsageError, match="brings its own texts"),
    ):
        run_rescue(run, read_pair_source(f"parquet:{tmp_path / 'a.parquet'}"))


def test_texts_that_are_known_by_their_hashes_alone_must_be_named(home, tmp_path):
    store = tmp_path / "store"
    store.mkdir()
    (store / "00000.json").write_text(json.dumps({}))
    with (
        open_run(load_recipe(str(recipe_of(home, tmp_path)))) as run,
        pytest.raises(UsageError, match="by their hashes alone") as refused,
    ):
        run_rescue(run, read_pair_source(f"vectors:{store}"))
    assert "data.corpus=jsonl:FILE" in refused.value.hint
