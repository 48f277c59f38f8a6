"""W_out fitted to scores after the closed form: what it moves, what it leaves, when it is kept."""

from __future__ import annotations

import re
from collections import Counter

import pytest
import tiny
import torch

import leafkit
from leafkit.config import StudentLosses
from leafkit.embedders.transformer import TransformerEmbedder
from leafkit.losses.scores import score_kl
from leafkit.pipeline.student.fit import score_head
from leafkit.pipeline.student.validation import Agreed

TOPICS = "sorting indexing parsing caching logging routing testing packing loading saving".split()
DOCUMENTS = [f"{a} of {b} by {c} {n}" for a in TOPICS for b in TOPICS for n, c in enumerate(TOPICS)]
QUERIES = [f"how is {a} done with {b} number {n}" for a in TOPICS for b in TOPICS for n in range(5)]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tiny.make_home(tmp_path_factory.mktemp("home"))


def distill(home, queries=QUERIES, **config) -> leafkit.Pair:
    settings = {"kind": "instant", "num_ridge_texts": 400} | config
    return leafkit.distill(
        f"model:{home / 'big'}",
        f"model:{home / 'small'}",
        DOCUMENTS,
        queries,
        config=leafkit.StudentConfig(**settings),
        num_pseudo_texts=0,
        device="cpu",
        precision="float32",
    )


def backbone(pair) -> torch.Tensor:
    return torch.cat([value.flatten() for value in pair.student.backbone.state_dict().values()])


def head(pair) -> torch.Tensor:
    return pair.student.projection.weight.detach()


def test_it_moves_the_last_layer_alone_towards_the_teachers_scores(home, monkeypatch, caplog):
    monkeypatch.setattr(score_head, "_RELATIVE_LR", 0.003)
    # what is found on held-out texts is not the question here
    monkeypatch.setattr(Agreed, "is_better", lambda self, other: True)
    plain = distill(home, head_steps=0)
    with caplog.at_level("INFO", logger="leafkit"):
        moved = distill(home, head_steps=200)
    assert "after 200 steps of W_out alone" in caplog.text
    assert torch.equal(backbone(plain), backbone(moved))
    assert not torch.equal(head(plain), head(moved))
    documents = torch.from_numpy(plain.encode_document(DOCUMENTS))
    teacher = leafkit.make_embedder(leafkit.load_model(f"model:{home / 'big'}"), "cpu")
    wanted = torch.from_numpy(teacher.encode_query(QUERIES))

    def divergence(pair) -> float:
        found = torch.from_numpy(pair.encode_query(QUERIES))
        return float(score_kl(found, wanted, documents, 0.05))

    assert divergence(moved) < 0.97 * divergence(plain)
    assert torch.equal(head(moved), head(distill(home, head_steps=200)))


def test_each_text_is_encoded_once(home, monkeypatch):
    encoded = Counter()
    embed = TransformerEmbedder.embed_ids

    def count(self, token_ids, **options):
        if options.get("pooled_only"):
            encoded.update(map(tuple, token_ids))
        return embed(self, token_ids, **options)

    monkeypatch.setattr(TransformerEmbedder, "embed_ids", count)
    distill(home, head_steps=8)
    assert len(encoded) > 500
    assert set(encoded.values()) == {1}


def test_what_finds_no_more_is_not_kept(home, monkeypatch, caplog):
    monkeypatch.setattr(Agreed, "is_better", lambda self, other: False)
    with caplog.at_level("INFO", logger="leafkit"):
        kept = distill(home, head_steps=40)
    assert "W_out finds no more after 40 steps than the closed form" in caplog.text
    assert torch.equal(head(kept), head(distill(home, head_steps=0)))


@pytest.mark.parametrize(
    ("config", "is_fitted"),
    [
        ({"kind": "instant"}, True),
        ({"kind": "transformer", "minutes": 0.0}, True),
        ({"kind": "transformer", "losses": StudentLosses(score_kl=1.0)}, True),
        ({"kind": "transformer"}, False),  # nobody asked for scores
        ({"kind": "instant", "head_steps": 0}, False),
    ],
)
def test_it_is_fitted_where_scores_are_asked_for(config, is_fitted, home, monkeypatch):
    calls = []
    monkeypatch.setattr(
        "leafkit.pipeline.student.transformer.fit_score_head",
        lambda *parts, **_: calls.append(parts),
    )
    distill(home, num_epochs=0.1, num_checks=0, **config)
    assert bool(calls) == is_fitted


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"queries": []}, "no text is scored"),
        ({"num_held_out": 0}, "no held-out texts choose them"),
        ({"queries": QUERIES[:60]}, "60 queries are not held out, and it takes 100"),
        ({}, r"the closed form has overlap@10 0\.\d+ already"),
    ],
)
def test_where_no_step_is_taken_a_line_says_why(config, reason, home, monkeypatch, caplog):
    monkeypatch.setattr(score_head, "_ENOUGH_OVERLAP", 0.0)
    with caplog.at_level("INFO", logger="leafkit"):
        distill(home, **config)
    assert re.search(rf"the head takes no steps of its own .*: {reason}", caplog.text)
