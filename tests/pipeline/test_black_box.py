"""A whole run with a teacher of which there are only vectors: in a folder, or at an endpoint."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tiny
from synth_server import MODEL, chat_server

from leafkit.config.load import load_recipe
from leafkit.core.errors import LeafkitError
from leafkit.models.checkpoint import read_encoder
from leafkit.models.folder import read_space
from leafkit.pipeline.collect import collect_report
from leafkit.pipeline.distill import run_distill
from leafkit.pipeline.evaluate.bench import run_bench
from leafkit.pipeline.load_pair import load_pair
from leafkit.pipeline.run import open_run
from leafkit.report.card import render_card
from leafkit.report.page import render_report
from leafkit.results import EvaluationResult

FEW = ("bench.num_resamples=50", "bench.num_latency_queries=2", "inherit.precisions=[float32]")


@pytest.fixture(autouse=True)
def _environment(monkeypatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789")


@pytest.fixture(scope="module")
def teacher(home):
    """The model that only its owner has."""
    return read_encoder(home / "big")


def embed(teacher, texts: list[str], prompt: str = "") -> np.ndarray:
    return (
        teacher.finish(
            teacher([teacher.tokenize([prompt + text], "document")[0] for text in texts])
        )
        .detach()
        .numpy()
    )


def save_vectors(folder: Path, teacher, num_queries: int = 72, seed: int = 0) -> Path:
    """What the owner hands over: every document, and some of the queries, in its own order."""
    folder.mkdir()
    pairs = tiny.make_pairs()
    order = np.random.default_rng(seed).permutation(len(pairs))
    for stem, texts, prompt in (
        ("documents", [pairs[i][1] for i in order], ""),
        ("queries", [q for q, _ in pairs[:num_queries]], tiny.PROMPT),
    ):
        (folder / f"{stem}.jsonl").write_text(
            "".join(json.dumps({"text": text}) + "\n" for text in texts)
        )
        np.save(folder / f"{stem}.npy", embed(teacher, texts, prompt).astype(np.float32))
    about = {
        "name": "black box",
        "prompts": {"query": tiny.PROMPT},
        "mrl_dims": [48, 24],
        "space": "black box",
    }
    (folder / "about.json").write_text(json.dumps(about))
    return folder


def read_figures(run, name: str) -> dict[str, float]:
    (collection,) = EvaluationResult.load(run.folder / "bench" / "results.json").collections
    return {
        row.system: row.metrics["ndcg@10"].value
        for row in collection.systems
        if name == collection.name
    }


def redone(run) -> set[str]:
    return {step["name"] for step in run.steps if step["status"] == "done"}


@pytest.mark.slow
def test_a_folder_of_vectors_is_distilled_like_the_model_that_made_them(
    home, tmp_path, teacher, start, capsys
):
    vectors = save_vectors(tmp_path / "vectors", teacher)
    path = tiny.write_recipe(tmp_path / "tiny.yaml", tiny.tiny_recipe(home, tmp_path / "ck"))
    source = f"teacher.source=vectors:{vectors}"
    run = start(path, source, *FEW)
    assert "no pseudo-texts, no queries made of documents or rewritten" in capsys.readouterr().out
    student = read_encoder(run.folder / "student")
    assert (student.prompt("query"), student.spec.mrl_dims, student.spec.normalized) == (
        tiny.PROMPT,
        (48, 24),
        True,
    )
    assert read_space(run.folder / "student")["teacher"] == "black box"
    start(
        path,
        f"checkpoints={tmp_path / 'whole'}",
        "data.num_pseudo_texts=0",
        "student.question_ratio=0",
        *FEW,
    )
    whole = read_encoder(tmp_path / "whole" / "tiny" / "student")
    texts = [document for _, document in tiny.make_pairs(20)]
    # the same teacher, texts and seed
    np.testing.assert_allclose(embed(student, texts), embed(whole, texts), atol=2e-3)
    assert redone(start(path, source, *FEW)) == set()
    assert load_pair(run.folder).search(tiny.make_pairs()[3][0]).num_documents == 72
    with open_run(load_recipe(str(path), [source, *FEW])) as again:
        run_distill(again)
        report = collect_report(again, "leafkit distill")
    assert (report.teacher.name, report.teacher.parameters, report.teacher.dim) == (
        "black-box",
        None,
        48,
    )
    assert [row.encoder for row in report.bench.latency] == ["student"]
    assert "black-box" in render_report(report)
    assert "black-box" in render_card(report)


@pytest.mark.slow
def test_queries_without_a_vector_train_nothing_and_more_of_them_change_no_space(
    home, tmp_path, teacher, start, capsys
):
    vectors = save_vectors(tmp_path / "vectors", teacher, num_queries=30)
    path = tiny.write_recipe(tmp_path / "tiny.yaml", tiny.tiny_recipe(home, tmp_path / "ck"))
    extra = tiny.write_documents(tmp_path / "extra.jsonl", count=80)
    source = f"teacher.source=vectors:{vectors}"
    run = start(path, source, *FEW, f"data.sources.more.uri=jsonl:{extra}")
    shown = capsys.readouterr().out
    assert "queries: 42 of 56 texts have no vector and train nothing" in shown
    assert "more documents: " in shown
    for path_of in ("documents", "queries"):
        (vectors / f"{path_of}.jsonl").unlink()
        (vectors / f"{path_of}.npy").unlink()
    (vectors / "about.json").unlink()
    vectors.rmdir()
    save_vectors(vectors, teacher, seed=1)  # all of them now
    figures = start(path, source, *FEW, work=run_bench)
    assert read_figures(figures, "pairs")["teacher"] > 0
    assert run.folder == figures.folder


def test_a_document_without_a_vector_stops_the_road(home, tmp_path, teacher, start):
    vectors = save_vectors(tmp_path / "vectors", teacher)
    lines = (vectors / "documents.jsonl").read_text().splitlines()
    (vectors / "documents.jsonl").write_text(
        "\n".join([*lines[:-2], '{"text": "x"}', '{"text": "y"}'])
    )
    path = tiny.write_recipe(tmp_path / "tiny.yaml", tiny.tiny_recipe(home, tmp_path / "ck"))
    with pytest.raises(LeafkitError, match="lacks the document vectors of 2 of 72 texts"):
        start(path, f"teacher.source=vectors:{vectors}", *FEW)


@pytest.mark.slow
def test_an_endpoint_is_distilled_and_nothing_is_paid_twice(home, tmp_path, teacher, start):
    path = tiny.write_recipe(tmp_path / "tiny.yaml", tiny.tiny_recipe(home, tmp_path / "ck"))
    with chat_server() as server:
        server.embed = lambda texts, dim: embed(teacher, texts)
        server.dim = 48
        words = (
            f"teacher.source=endpoint:{MODEL}",
            f"embeddings.endpoint.base_url={server.url}",
            f"teacher.query_prompt={tiny.PROMPT}",
            "teacher.mrl_dims=[48,24]",
            *FEW,
        )
        run = start(path, *words)
        student = read_encoder(run.folder / "student")
        assert (student.prompt("query"), student.spec.mrl_dims, student.dim) == (
            tiny.PROMPT,
            (48, 24),
            48,
        )
        sent = [text for request in server.requests for text in request.texts]
        documents = [document for _, document in tiny.make_pairs()]
        assert all(sent.count(text) == 1 for text in documents)
        assert any(text.startswith(tiny.PROMPT) for text in sent)
        count = len(server.requests)
        start(path, *words, "precision=bf16")
        # another arithmetic of this machine is no other endpoint
        assert len(server.requests) == count
        server.script = lambda request: "500"
        start(
            path, *words, "student.optimizer.lr=0.001"
        )  # every vector is there without the endpoint
    assert read_figures(run, "pairs")["asymmetric"] > 0.15  # chance is about .06
    assert load_pair(run.folder).search(tiny.make_pairs()[3][0]).num_documents == 72


def test_students_and_baselines_may_be_vectors_and_endpoints(done, tmp_path, teacher, start):
    vectors = save_vectors(tmp_path / "vectors", teacher)
    with chat_server() as server:
        server.embed = lambda texts, dim: embed(teacher, texts)
        run = start(
            done,
            f"bench.student=vectors:{vectors}",
            "bench.same_space=true",
            f"bench.baseline=endpoint:{MODEL}",
            f"embeddings.endpoint.base_url={server.url}",
            *FEW,
            work=run_bench,
        )
    figures = read_figures(run, "pairs")
    # the student is the teacher's own vectors
    assert figures["asymmetric"] == pytest.approx(figures["teacher"], abs=1e-6)
    assert figures["symmetric"] == pytest.approx(figures["teacher"], abs=1e-6)
    assert "baseline" in figures
