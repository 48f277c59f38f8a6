"""train_teacher: objects in, an embedder out; it trains what a recipe trains, without a folder."""

from __future__ import annotations

import traceback
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from safetensors.torch import load_file

import leafkit
from leafkit.config import (
    ContrastiveLossConfig,
    DataConfig,
    MiningConfig,
    OptimizerConfig,
    SoftLabelConfig,
    SoupConfig,
    StageConfig,
    TrainSourceConfig,
)
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.pipeline.teacher.teach import run_teach
from leafkit.pipeline.teacher.train import train_teacher
from leafkit.train import contrastive_module

PAIRS = [{"query": q, "positives": [d]} for q, d in tiny.make_pairs(40)]
DATA = DataConfig(num_pseudo_texts=16, max_query_tokens=32, max_document_tokens=48)


def stage(home, **changes) -> StageConfig:
    config = StageConfig(
        init=f"model:{home / 'small'}",
        batching="random",
        num_steps=3,
        batch_size=8,
        anchor_batch_size=4,
        query_template="{instruction} : {query}",
        instruction="find the answer",
        optimizer=OptimizerConfig(lr=1e-3, warmup_ratio=0.1, final_lr_ratio=0.0),
        loss=ContrastiveLossConfig(mrl_dims=[32, 16], mrl_weights=[1.0, 0.3]),
    )
    return replace(config, **changes)


def teach(stages, pairs=PAIRS, **settings):
    return train_teacher(stages, pairs, data=DATA, device="cpu", precision="float32", **settings)


def weights(embedder) -> dict[str, torch.Tensor]:
    return embedder.encoder.state_dict()


@pytest.mark.slow
def test_it_trains_what_the_recipe_trains(home, tmp_path, start, monkeypatch, capsys):
    """The same rows as a source of the recipe: the same teacher, bit for bit."""
    uri = f"jsonl:{tmp_path / 'rows.jsonl'}"
    tiny.write_pairs(tmp_path / "rows.jsonl", 40, num_test=0, num_validation=0)
    content = tiny.tiny_stage(home, batching="random", num_steps=3, sources={"pairs": {"uri": uri}})
    recipe = tiny.tiny_recipe(home, tmp_path / "ck") | {"stages": {"tune": content}}
    run = start(tiny.write_recipe(tmp_path / "teach.yaml", recipe), work=run_teach)
    saved = load_file(run.folder / "tune" / "model.safetensors")

    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    capsys.readouterr()
    config = run.recipe.stages["tune"]
    # queries of a source are trained as they are; those of pairs are varied as the corpus's are
    config = replace(config, sources={}, question_ratio=0.0)
    teacher = teach({"tune": config})
    assert list(empty.iterdir()) == []
    backbone = teacher.encoder.backbone.state_dict()
    assert len(saved) > 10
    # files hold zeros for a pooler that no vector goes through
    assert all(torch.equal(saved[name], backbone[name]) for name in backbone)
    assert teacher.prompt("query") == "find the answer : "


def test_it_encodes_in_roles(home):
    teacher = teach([stage(home)])
    query, documents = teacher.encode_query("merge the queue"), teacher.encode_document(["a", "b"])
    assert query.shape == (32,)
    assert documents.shape == (2, 32)
    assert np.linalg.norm(query) == pytest.approx(1, abs=1e-5)
    assert teacher.mrl_dims == (32, 16)
    assert teacher.encode_query("merge the queue", dim=16).shape == (16,)


def test_other_weights_are_another_space(home):
    one, same, other = teach([stage(home)]), teach([stage(home)]), teach([stage(home)], seed=1)
    assert one.space_id == same.space_id
    assert one.space_id != other.space_id
    assert len(one.fingerprint) == 16


@pytest.mark.slow
def test_stages_build_on_one_another_mine_score_and_average(home):
    mining = MiningConfig(model="stage:weak", num_negatives=2, first_rank=0, last_rank=20)
    stages = {
        "weak": stage(home),
        "tune": stage(
            home,
            init="stage:weak",
            mining=mining,
            soft_labels=SoftLabelConfig(models=["bm25", "stage:weak"]),
            batching="neighbors",
            neighbor_model="stage:weak",
            num_neighbors=4,
        ),
        "soup": StageConfig(soup=SoupConfig(members=["stage:weak", "stage:tune"])),
    }
    held_out = [{"query": q, "positives": [d]} for q, d in tiny.make_pairs(60)[40:]]
    soup = weights(teach(stages, held_out=held_out))
    weak, tune = teach({"weak": stages["weak"]}), teach({n: stages[n] for n in ("weak", "tune")})
    name = "backbone.embeddings.word_embeddings.weight"
    a, b, mixed = weights(weak)[name], weights(tune)[name], soup[name]
    assert not torch.equal(a, b)
    share = ((mixed - a) * (b - a)).sum() / (b - a).square().sum()
    assert 0.2 < float(share) < 0.8
    assert torch.allclose(mixed, a + share * (b - a), atol=1e-5)


def test_a_list_of_stages_is_numbered(home):
    two = [stage(home), stage(home, init="stage:stage1")]
    assert not torch.equal(
        weights(teach(two))["backbone.embeddings.word_embeddings.weight"],
        weights(teach(two[:1]))["backbone.embeddings.word_embeddings.weight"],
    )


def test_given_negatives_are_trained_on(home):
    with_negatives = [
        pair | {"negatives": [PAIRS[(i + 3) % 40]["positives"][0]]} for i, pair in enumerate(PAIRS)
    ]
    name = "backbone.embeddings.word_embeddings.weight"
    plain, hard = weights(teach([stage(home)])), weights(teach([stage(home)], with_negatives))
    assert not torch.equal(plain[name], hard[name])


@pytest.mark.parametrize(
    ("changes", "pairs", "message"),
    [
        ({"num_steps": 0}, PAIRS, r"stages\.stage1\.num_steps"),
        ({"init": "stage:other"}, PAIRS, "other"),
        ({}, [], "stage stage1 names no sources and there are no pairs"),
        ({"sources": {"a": TrainSourceConfig(uri="jsonl:x")}}, PAIRS, "nobody reads the pairs"),
        ({"batch_size": 64}, PAIRS, "batch_size=64 cannot be filled"),
    ],
)
def test_what_cannot_be_trained_is_refused(home, changes, pairs, message):
    with pytest.raises(UsageError, match=message):
        teach([stage(home, **changes)], pairs)


def test_without_a_stage_there_is_nothing_to_train():
    with pytest.raises(UsageError, match="there is no stage to train"):
        teach([])


def test_a_soup_without_weights_needs_held_out_pairs(home):
    stages = {
        "a": stage(home),
        "b": StageConfig(soup=SoupConfig(members=["stage:a", "stage:a"])),
    }
    with pytest.raises(LeafkitError, match="held_out has 0 held-out rows") as caught:
        teach(stages)
    assert "held-out pairs" in caught.value.hint


def test_from_the_call_to_the_loss_a_reader_opens_five_functions(home, monkeypatch):
    class InsideTheLoss(Exception):
        pass

    def loss(*tensors, **settings):
        raise InsideTheLoss

    monkeypatch.setattr(contrastive_module, "matryoshka_info_nce", loss)
    with pytest.raises(InsideTheLoss) as caught:
        teach([stage(home)])
    package = Path(leafkit.__file__).parent
    frames = traceback.extract_tb(caught.value.__traceback__)
    own = [f.name for f in frames if Path(f.filename).is_relative_to(package)]
    assert own == ["train_teacher", "train_stage", "fit", "training_step", "_contrastive"]
