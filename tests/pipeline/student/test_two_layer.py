"""Students with a head of two layers: their start, what trains it, their folder, a whole run and
what is refused, on tiny models.
"""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch

import leafkit
from leafkit.config import StudentConfig, StudentLosses
from leafkit.core.errors import UsageError
from leafkit.losses.scores import score_kl
from leafkit.models.checkpoint import read_encoder
from leafkit.models.heads.two_layer import TwoLayerHead
from leafkit.models.text_encoder import TextEncoder
from leafkit.pipeline.collect import collect_report
from leafkit.pipeline.student.fit import closed_form, score_head
from leafkit.pipeline.student.full_size import student_at_full_size
from leafkit.pipeline.student.validation import Agreed
from leafkit.report.card import render_card

TOPICS = "sorting indexing parsing caching logging routing testing packing loading saving".split()
DOCUMENTS = [f"{a} of {b} by {c} {n}" for a in TOPICS for b in TOPICS for n, c in enumerate(TOPICS)]
QUERIES = [f"how is {a} done with {b} number {n}" for a in TOPICS for b in TOPICS for n in range(5)]
TWO = {"head": "two_layer", "head_hidden": 24}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tiny.make_home(tmp_path_factory.mktemp("home"))


def distill(home, teacher=None, **config) -> leafkit.Pair:
    settings = {"kind": "instant", "num_ridge_texts": 400, "head_steps": 40} | config
    return leafkit.distill(
        teacher or f"model:{home / 'big'}",
        f"model:{home / 'small'}",
        DOCUMENTS,
        QUERIES,
        config=leafkit.StudentConfig(**settings),
        num_pseudo_texts=0,
        device="cpu",
        precision="float32",
    )


def test_it_begins_as_the_linear_student_and_stays_it_where_nothing_helps(
    home, monkeypatch, caplog
):
    monkeypatch.setattr(Agreed, "is_better", lambda self, other: False)
    with caplog.at_level("INFO", logger="leafkit"):
        found = distill(home, **TWO)
    assert "the head finds no more after 40 steps" in caplog.text
    assert "keeps the linear head" in caplog.text
    linear = distill(home).student.projection
    assert isinstance(found.student.projection, torch.nn.Linear)
    assert torch.equal(found.student.projection.weight, linear.weight)
    assert torch.equal(found.student.projection.bias, linear.bias)


def bending_teacher(home) -> TextEncoder:
    """It bends the student's own states, which no linear map can follow."""
    start = read_encoder(home / "small")
    torch.manual_seed(9)
    head = TwoLayerHead(32, 64, 40)
    with torch.no_grad():
        head.spread(start.pool(start.tokenize(DOCUMENTS, "document")))
        head.outer.weight.normal_(std=0.2)
        head.linear.weight.mul_(0.1)
    return TextEncoder(start.backbone, start.tokenizer, start.spec, head).eval()


@pytest.mark.parametrize("bias", [True, False])
def test_the_closed_form_of_both_layers_is_the_ridge_solution_of_what_they_read(bias):
    torch.manual_seed(3)
    head, rng = TwoLayerHead(5, 7, 4, bias=bias), np.random.default_rng(0)
    states = rng.normal(size=(60, 5)).astype(np.float32)
    aims = rng.normal(size=(60, 4)).astype(np.float32)
    head.spread(torch.from_numpy(states))
    reading = closed_form._Reading(head, 2, states)
    texts = closed_form._Texts(states, aims, np.zeros(60), np.zeros(60, dtype=bool), None, [])
    rows = np.arange(60) < 50
    reading.set(reading.sum_over(texts, rows).solve(0.1))
    with torch.no_grad():
        bent = head.activate(torch.from_numpy(states)).numpy().astype(np.float64)
        found = head(torch.from_numpy(states)).numpy()
    # both sides centred where there is a bias; the penalty is on W and on W2 over the scale
    x = np.concatenate([states, bent * reading._scale], axis=1)
    shift, goal = (x[rows].mean(0), aims[rows].mean(0)) if bias else (0.0, 0.0)
    a, b = x[rows] - shift, aims[rows] - goal
    weight = np.linalg.solve(a.T @ a + 0.1 * np.trace(a.T @ a) / 12 * np.eye(12), a.T @ b)
    np.testing.assert_allclose(found, (x - shift) @ weight + goal, atol=1e-5)
    of_both = [states.var(0).mean(), (bent * reading._scale).var(0).mean()]
    assert of_both[1] / of_both[0] == pytest.approx(0.25, rel=1e-4)


def test_two_layers_are_solved_where_the_teacher_bends(home, caplog):
    with caplog.at_level("INFO", logger="leafkit"):
        bent = distill(home, bending_teacher(home), head_steps=0, head="two_layer")
    assert "closed form: two layers, ridge" in caplog.text
    assert "the closed-form head of two layers starts at cosine" in caplog.text
    assert isinstance(bent.student.projection, TwoLayerHead)
    linear = distill(home, bending_teacher(home), head_steps=0)
    wanted = bending_teacher(home)
    with torch.no_grad():
        aims = wanted.finish(wanted(wanted.tokenize(QUERIES, "query"))).numpy()
    cosine = [(pair.encode_query(QUERIES) * aims).sum(1).mean() for pair in (linear, bent)]
    assert 1 - cosine[1] < 0.8 * (1 - cosine[0])


def test_scores_move_both_layers_further_than_one(home, monkeypatch):
    teacher = bending_teacher(home)
    # what is found on held-out texts is not the question here
    monkeypatch.setattr(Agreed, "is_better", lambda self, other: True)
    monkeypatch.setattr(score_head, "_ENOUGH_OVERLAP", 2.0)
    with torch.no_grad():
        wanted, documents = (
            teacher.finish(teacher(teacher.tokenize(texts, "query")))
            for texts in (QUERIES, DOCUMENTS)
        )

    def divergence(pair) -> float:
        found = torch.from_numpy(pair.encode_query(QUERIES))
        return float(score_kl(found, wanted, documents, 0.05))

    steps = {"head_steps": 200, "ridge": 1e-3}
    one, two = distill(home, teacher, **steps), distill(home, teacher, **steps, **TWO)
    moved = two.student.projection
    assert isinstance(moved, TwoLayerHead)
    assert moved.inner.out_features == 24
    assert all(bool(value.any()) for value in moved.state_dict().values())
    assert divergence(two) < 0.95 * divergence(one)
    again = distill(home, teacher, **steps, **TWO).student.projection
    for name, value in moved.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)


def test_it_trains_is_saved_and_exported(home, tmp_path, monkeypatch):
    settings = {"tokens_per_batch": 512, "num_epochs": 0.05, "num_checks": 0, "head_bias": False}
    monkeypatch.setattr(Agreed, "is_better", lambda self, other: False)
    plain = {"kind": "transformer", **settings}
    pair = distill(home, **plain, **TWO, losses=StudentLosses(score_kl=1.0))
    head = pair.student.projection
    assert isinstance(head, TwoLayerHead)
    assert head.linear.bias is None
    assert bool(head.outer.weight.any())
    pair.save(tmp_path / "pair")
    again = leafkit.load_pair(tmp_path / "pair")
    np.testing.assert_allclose(again.encode_query(QUERIES), pair.encode_query(QUERIES), atol=1e-5)
    library = pytest.importorskip(
        "sentence_transformers", reason="sentence-transformers is not installed"
    )
    folder = leafkit.export(pair, tmp_path / "out", to=["student"])["student"]
    theirs = library.SentenceTransformer(str(folder), device="cpu").encode_query(QUERIES[:9])
    assert (theirs * pair.encode_query(QUERIES[:9])).sum(1).min() > 1 - 1e-6


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"kind": "static"}, "student.head: two_layer is for students with a transformer"),
        ({"head": "three_layer"}, "student.head"),
        ({"head_hidden": 0}, "student.head_hidden"),
    ],
)
def test_a_head_that_cannot_be_is_refused(home, config, message):
    with pytest.raises(UsageError, match=message):
        distill(home, **TWO | config)


def test_its_weights_are_counted_at_full_size():
    linear = student_at_full_size(StudentConfig(init="builtin:minilm"), 768)
    both = student_at_full_size(StudentConfig(init="builtin:minilm", head="two_layer"), 768)
    assert linear is not None
    assert both is not None
    assert linear == (both[0], 385 * 768)
    assert both[1] - linear[1] == 385 * 512 + 512 * 768


@pytest.mark.slow
def test_a_whole_run_with_it(home, tmp_path, start):
    recipe = tiny.write_recipe(tmp_path / "tiny.yaml", tiny.tiny_recipe(home, tmp_path / "ck"))
    words = ["student.head=two_layer", "student.head_hidden=16", "student.losses.score_kl=1"]
    run = start(recipe, *words, "student.num_checks=0", "inherit.precisions=[float32]")
    student = read_encoder(run.folder / "student")
    assert isinstance(student.projection, TwoLayerHead)
    report = collect_report(run, "leafkit distill")
    card = render_card(report)
    assert "with a second layer beside it that began at 0" in card
    assert "library_name: sentence-transformers" in card
    assert report.spectrum.rank == 48  # 32 + 16, as many as the teacher has dimensions
