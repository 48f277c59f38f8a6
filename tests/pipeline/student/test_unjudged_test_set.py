"""What takes the place of judged queries, and trains nothing."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import tiny

from leafkit.data.records import Collection, Document, Query
from leafkit.index.vectors import ChosenRows, read_chunks
from leafkit.pipeline.student.leave_out import leave_out
from leafkit.pipeline.student.targets import Target, read_targets
from leafkit.pipeline.student.unjudged_test_set import choose_held_out, unseen_texts
from leafkit.results import EvaluationResult, RunReport
from leafkit.results.agreement import HELD_OUT, SEEN

TEACHER = SimpleNamespace(model=None)


def collection(num_documents, train=0, other=0, judged=0):
    documents = [Document(f"d{i}", f"document {i}") for i in range(num_documents)]
    queries = [Query(f"t{i}", f"train {i}", "train") for i in range(train)]
    queries += [Query(f"o{i}", f"other {i}", "validation") for i in range(other)]
    queries += [Query(f"j{i}", f"judged {i}", "test") for i in range(judged)]
    return Collection("c", documents, queries, {f"j{i}": {"d0": 1} for i in range(judged)})


@pytest.mark.parametrize(
    ("sizes", "asked_with", "number", "training"),
    [
        ((900, 900, 30), "queries", 30, HELD_OUT),
        ((900, 900, 300), "queries", 200, HELD_OUT),
        ((900, 900, 5), "queries", 45, HELD_OUT),
        ((900, 100), "documents as queries", 45, HELD_OUT),
        ((9000,), "documents as queries", 200, HELD_OUT),
        ((100, 100), "documents as queries", 100, SEEN),
        ((300,), "documents as queries", 200, SEEN),
    ],
)
def test_the_best_texts_there_are_take_the_place(sizes, asked_with, number, training):
    found = choose_held_out(collection(*sizes), "test", TEACHER)
    assert (found.asked_with, len(found.texts), found.training) == (asked_with, number, training)
    assert len(unseen_texts(found)) == (number if training == HELD_OUT else 0)
    if asked_with == "documents as queries":
        assert [f"document {i}" for i in found.own] == found.texts
    again = choose_held_out(collection(*sizes), "test", TEACHER)
    assert again == found


@pytest.mark.parametrize("sizes", [(900, 900, 30, 1), (1,), (2,)])
def test_judged_queries_and_too_few_texts_need_none(sizes):
    assert choose_held_out(collection(*sizes), "test", TEACHER) is None


def test_texts_that_are_left_out_take_their_vectors_with_them():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(6, 4)).astype(np.float32)
    targets = [
        Target(list("abcdef"), "document", vectors),
        Target(["b"], "query", vectors[:1]),
        Target(["x", "y"], "query", vectors[:2], repeats=3),
    ]
    first, last = leave_out(targets, {" B", "e"})  # case and spaces make no other text
    assert (first.texts, last) == (list("acdf"), targets[2])
    np.testing.assert_array_equal(first.vectors[0:4], vectors[[0, 2, 3, 5]])
    np.testing.assert_array_equal(
        read_targets([first, last], [(0, 3), (1, 0), (0, 1)]), vectors[[5, 0, 2]]
    )
    ((start, block),) = read_chunks(first.vectors)
    assert (start, block.shape, isinstance(first.vectors, ChosenRows)) == (0, (4, 4), True)
    assert leave_out(targets, frozenset()) == targets


@pytest.mark.slow
@pytest.mark.parametrize("teacher", ["model", "vectors"])
def test_documents_without_judgments_are_measured_and_reported(home, tmp_path, start, teacher):
    pairs = tiny.make_pairs(420)
    rows = [{"id": f"d{i}", "text": document} for i, (_, document) in enumerate(pairs)]
    corpus = tmp_path / "mine.jsonl"
    corpus.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = tiny.tiny_recipe(home, tmp_path / "ck")
    recipe["data"]["corpus"] = f"jsonl:{corpus}"
    recipe["student"]["num_epochs"] = 0.3
    if teacher == "vectors":
        from leafkit.embedders.make_embedder import make_embedder
        from leafkit.models.checkpoint import read_encoder

        folder = tmp_path / "vectors"
        folder.mkdir()
        (folder / "documents.jsonl").write_text(corpus.read_text())
        model = make_embedder(read_encoder(home / "big"))
        np.save(folder / "documents.npy", model.encode_document([row["text"] for row in rows]))
        recipe["teacher"]["source"] = f"vectors:{folder}"
    from leafkit.pipeline.collect import collect_report
    from leafkit.pipeline.distill import run_distill
    from leafkit.report.card import render_card
    from leafkit.report.facts import opening_sentences
    from leafkit.report.page import render_report

    reports = []

    def work(run):
        run_distill(run)
        reports.append(collect_report(run, "leafkit distill"))

    run = start(tiny.write_recipe(tmp_path / "tiny.yaml", recipe), work=work)
    (report,) = reports
    (found,) = EvaluationResult.load(run.folder / "bench" / "results.json").agreements
    assert (found.asked_with, found.training) == ("documents as queries", HELD_OUT)
    assert (found.num_queries, found.num_documents, found.depth) == (21, 420, 10)
    assert found.query_cosine.low > 0.5
    assert found.overlap["asymmetric"].value > 0.1  # by chance .024
    texts = json.loads((run.folder / "student" / "manifest.json").read_text())["inputs"]["texts"]
    assert texts[0] == 420 - 21  # what is measured on has not trained
    assert isinstance(report, RunReport)
    assert str(found) in opening_sentences(report)[0]
    for written in (render_card(report), render_report(report)):
        assert "documents as queries" in written
        assert "held out of training" in written
