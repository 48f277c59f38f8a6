"""The start's own scores beside the teacher's: what they are, and that a student follows both."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest
import tiny
import torch

import leafkit
from leafkit.config import CandidatesConfig, StudentLosses
from leafkit.embedders.transformer import TransformerEmbedder
from leafkit.pipeline.student.candidates import Candidates, StartScores
from leafkit.pipeline.student.fit.pooled_states import PooledStates
from leafkit.pipeline.student.start_scores import follow_both
from leafkit.pipeline.student.validation import Agreed, Validation
from leafkit.train.student_terms import (
    ScoredRows,
    SecondOpinion,
    over_scores,
    with_second_opinion,
)

TOPICS = "sorting indexing parsing caching logging routing testing packing loading saving".split()
DOCUMENTS = [f"{a} of {b} by {c}" for a in TOPICS for b in TOPICS for c in TOPICS[:4]]
QUERIES = [f"how is {a} done with {b} number {n}" for a in TOPICS for b in TOPICS for n in range(5)]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tiny.make_home(tmp_path_factory.mktemp("home"))


def distill(home, start="small", **config) -> leafkit.Pair:
    settings = {"kind": "instant", "num_ridge_texts": 500, "ridge": 0.1} | config
    return leafkit.distill(
        f"model:{home / 'big'}",
        f"model:{home / start}",
        DOCUMENTS,
        QUERIES,
        config=leafkit.StudentConfig(**settings),
        num_pseudo_texts=0,
        device="cpu",
        precision="float32",
    )


def unit(rows: int, dim: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((rows, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def make_candidates(weight: float = 0.5) -> tuple[Candidates, np.ndarray, StartScores]:
    documents, nearest = unit(9, 4, 0), np.array([[3, 1], [0, 2]])
    start = StartScores(
        weight, unit(9, 3, 1), [None, unit(2, 3, 2)], [None, np.array([[3, 7], [5, 4]])]
    )
    config = CandidatesConfig(num_nearest=2, num_random=0)
    return Candidates(documents, [None, nearest], config, 0, start=start), documents, start


def test_a_batch_has_the_nearest_of_both_and_the_mean_of_both_scores():
    candidates, documents, start = make_candidates()
    scored = candidates.of([(0, 4), (1, 1), (1, 0)], step=3)
    assert scored.rows.tolist() == [1, 2]
    # 3 is near to both, and counts once
    assert scored.present.tolist() == [[True] * 4, [True, True, False, True]]
    positions = [[0, 2, 5, 4], [3, 1, 3, 7]]
    assert np.array_equal(scored.candidates.numpy(), documents[positions])
    student, teacher = torch.from_numpy(unit(2, 4, 5)), torch.from_numpy(unit(2, 4, 6))
    v, t, c = with_second_opinion(student, teacher, scored)
    expected = np.einsum("sd,skd->sk", teacher.numpy(), documents[positions])
    second = np.einsum("se,ske->sk", start.texts[1][[1, 0]], start.documents[positions])
    of_teacher = torch.einsum("sd,skd->sk", t, c).numpy()
    assert np.allclose(of_teacher, (expected + 0.5 * second) / 1.5, atol=1e-6)
    of_student = torch.einsum("sd,skd->sk", v, c)
    assert torch.allclose(of_student, torch.einsum("sd,skd->sk", student, scored.candidates))


def test_every_term_over_scores_follows_both():
    scored = make_candidates(weight=2.0)[0].of([(1, 0), (1, 1)], step=1)
    student, teacher = torch.from_numpy(unit(2, 4, 5)), torch.from_numpy(unit(2, 4, 6))
    for name, term in over_scores(CandidatesConfig()).items():
        both = term(*with_second_opinion(student, teacher, scored), present=scored.present)
        alone = term(student, teacher, scored.candidates, present=scored.present)
        assert not torch.equal(both, alone), name


def test_the_triplet_is_anchored_at_what_both_rank_first():
    """By hand: the teacher scores .9 and .8, the start 0 and 1, so both put the second first."""
    second = SecondOpinion(torch.tensor([[1.0]]), torch.tensor([[[0.0], [1.0]]]), 1.0)
    candidates = torch.tensor([[[0.9, 0.5], [0.8, 0.2]]])
    present = torch.ones(1, 2, dtype=torch.bool)
    scored = ScoredRows(torch.tensor([0]), candidates, present, 1, second=second)
    student, teacher = torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 0.0]])
    triplet = over_scores(CandidatesConfig(margin=0.05))["triplet"]
    # the student scores them .5 and .2
    assert float(triplet(student, teacher, candidates, present=present)) == 0
    both = triplet(*with_second_opinion(student, teacher, scored), present=present)
    assert float(both) == pytest.approx(0.5 - 0.2 + 0.05)


@pytest.mark.parametrize("origin", ["queries", "documents"])
def test_what_is_held_out_asks_for_what_both_rank_first(origin):
    candidates, documents, start = make_candidates(weight=2.0)
    asks_documents = origin == "documents"
    rows = [(0, 6), (0, 2)] if asks_documents else [(1, 1), (1, 0)]
    own = np.array([6, 2]) if asks_documents else np.full(2, -1)
    vectors, nearest = unit(2, 4, 7), np.array([[0, 1], [2, 3]])
    held_out = Validation(
        origin=origin,
        rows=rows,
        token_ids=[[1], [2]],
        vectors=vectors,
        own=own,
        nearest=nearest,
        documents=documents,
        texts=frozenset("ab"),
        judged=np.array([]),
    )
    followed = follow_both(held_out, candidates)
    asked = start.documents[[6, 2]] if asks_documents else start.texts[1][[1, 0]]
    scores = vectors @ documents.T + 2.0 * asked @ start.documents.T
    if asks_documents:
        scores[[0, 1], own] = -np.inf
    assert followed.followed.tolist() == np.argsort(-scores, axis=1)[:, :2].tolist()
    assert np.array_equal(followed.nearest, nearest)
    student = unit(2, 4, 8)
    of_student = student @ documents.T
    if asks_documents:
        of_student[[0, 1], own] = -np.inf
    finds = np.argsort(-of_student, axis=1)[:, :2]
    shared = [len(set(a) & set(b)) / 2 for a, b in zip(finds, followed.followed, strict=True)]
    agreed = followed.measure(student)
    assert agreed.followed == pytest.approx(np.mean(shared))
    assert agreed.overlap == held_out.measure(student).overlap
    assert f"{agreed.followed:.3f} with teacher and start together" in str(agreed)


def test_the_better_one_finds_more_of_what_it_follows():
    less, more = Agreed(0.9, 0.8, followed=0.5), Agreed(0.8, 0.7, followed=0.6)
    assert more.is_better(less)
    assert not less.is_better(more)
    assert Agreed(0.9, 0.8).is_better(Agreed(0.8, 0.7))


@pytest.mark.slow
def test_they_change_the_student_and_its_training(home):
    def weight(pair) -> torch.Tensor:
        return pair.student.projection.weight.detach()

    always = {"head_steps": 100, "num_checks": 0}
    assert not torch.equal(
        weight(distill(home, **always)), weight(distill(home, **always, start_weight=1))
    )
    losses = StudentLosses(l2=0, score_kl=1)
    trained = {"kind": "transformer", "losses": losses, "head_steps": 0, "num_checks": 0}
    alone, both = distill(home, **trained), distill(home, **trained, start_weight=1)
    assert not torch.equal(weight(alone), weight(both))
    assert torch.equal(weight(both), weight(distill(home, **trained, start_weight=1)))


def test_states_serve_where_the_start_reads_the_same_tokens(home, monkeypatch, caplog):
    encoded = Counter()
    embed = TransformerEmbedder.embed_ids

    def count(self, token_ids, **options):
        if options.get("pooled_only"):
            encoded.update(map(tuple, token_ids))
        return embed(self, token_ids, **options)

    monkeypatch.setattr(TransformerEmbedder, "embed_ids", count)
    config = {"head_steps": 100, "num_checks": 0, "start_weight": 1}
    with caplog.at_level("INFO", logger="leafkit"):
        shared = distill(home, **config)
    assert "reads all 400 documents" in caplog.text
    assert re.search(r"it finds [01]\.\d{3} of the teacher's ten nearest", caplog.text)
    assert set(encoded.values()) == {1}
    # its own vectors are what the states make, so that a start of other prompts does as well
    monkeypatch.setattr(PooledStates, "are_of", lambda *_: False)
    apart = distill(home, **config)
    difference = shared.student.projection.weight - apart.student.projection.weight
    assert difference.abs().max() < 1e-3


def test_where_no_scores_are_followed_it_says_that_they_count_for_nothing(home, caplog):
    config = {"kind": "transformer", "num_epochs": 0.1, "num_checks": 0}
    with caplog.at_level("INFO", logger="leafkit"):
        distill(home, **config, start_weight=1)
    assert "student.start_weight counts for nothing here" in caplog.text
