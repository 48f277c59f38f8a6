"""Dry runs: every stage of a recipe on tiny random weights, and a saved model that another library
loads.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
import yaml

from leafkit.config import Recipe
from leafkit.config.load import load_recipe
from leafkit.config.validate import find_problems
from leafkit.core.artifact import open_artifact
from leafkit.core.errors import UsageError
from leafkit.data.records import Collection
from leafkit.models.checkpoint import read_encoder
from leafkit.pipeline.teacher import dry_run
from leafkit.pipeline.teacher.dry_run import plan_dry_run, sample_rows

RECIPES = sorted(
    path
    for path in (tiny.ROOT / "recipes").glob("*.yaml")
    if "stages" in yaml.safe_load(path.read_text())
)
HUB = "model:owner/{}@" + "a" * 40
Plan = Callable[..., Recipe]


@pytest.fixture
def plan(tmp_path) -> Plan:
    def plan_stages(**stages: Any) -> Recipe:
        path = tiny.write_recipe(
            tmp_path / "big.yaml", {"checkpoints": str(tmp_path / "ck"), "stages": stages}
        )
        return plan_dry_run(load_recipe(str(path)))

    return plan_stages


def models_of(recipe: Recipe) -> set[str]:
    found = set()
    for stage in recipe.stages.values():
        found |= {stage.init, stage.mining.model, *stage.soft_labels.models, *stage.soup.members}
        found |= (
            {stage.neighbor_model}
            if stage.batching == "neighbors" and not stage.soup.members
            else set()
        )
    return found - {""}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_becomes_a_small_one_that_is_allowed(path: Path, tmp_path) -> None:
    recipe = load_recipe(str(path), ["dry_run=true", f"checkpoints={tmp_path}"])
    small = plan_dry_run(recipe)
    assert find_problems(small) == []
    assert list(small.stages) == list(recipe.stages)
    assert small.name == f"{path.stem}-dry-run"
    for stage in small.stages.values():
        if not stage.soup.members:
            assert (stage.num_steps, stage.batch_size) == (2, 8)
            assert not stage.init.startswith(("model:", "builtin:"))
    assert small.data.corpus == "builtin:pydocs"
    assert small.data.on_bad_row == "skip"


def test_every_big_model_has_a_tiny_one_of_its_architecture_and_it_is_said(
    plan: Plan, capsys
) -> None:
    small = plan(
        weak={
            "init": HUB.format("Some-Base"),
            "architecture": "qwen2",
            "neighbor_model": HUB.format("bert-base"),
        },
        tune={
            "init": "stage:weak",
            "mining": {"model": "start", "num_negatives": 2},
            "batching": "random",
            "soft_labels": {"models": ["bm25", HUB.format("Qwen3-Embedding-8B"), "builtin:minilm"]},
        },
    )
    assert models_of(small) == {
        "tiny:qwen2",
        "tiny:bert",
        "stage:weak",
        "start",
        "bm25",
        "tiny:qwen3",
    }
    shown = " ".join(capsys.readouterr().out.split())
    assert f"tiny random qwen2 weights stand in for {HUB.format('Some-Base')}" in shown
    assert f"tiny random qwen3 weights stand in for {HUB.format('Qwen3-Embedding-8B')}" in shown


def test_built_in_models_have_tiny_ones_of_their_architectures(plan: Plan) -> None:
    mining = {"model": "builtin:minilm", "num_negatives": 2}
    stage = plan(s={"init": "builtin:mpnet", "mining": mining}).stages["s"]
    assert (stage.init, stage.mining.model) == ("tiny:mpnet", "tiny:bert")


def test_a_folder_says_its_architecture_itself(plan: Plan, tmp_path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"model_type": "mistral"}')
    assert (
        plan(weak={"init": f"model:{tmp_path / 'model'}", "batching": "random"}).stages["weak"].init
        == "tiny:mistral"
    )


def test_a_name_that_tells_no_architecture_is_refused(plan: Plan) -> None:
    with pytest.raises(
        UsageError, match="dry_run: the name owner/mystery does not tell its architecture"
    ) as caught:
        plan(weak={"init": HUB.format("mystery")})
    assert "architecture" in caught.value.hint


def test_widths_and_matryoshka_dimensions_shrink_together(plan: Plan) -> None:
    small = plan(
        weak={"loss": {"mrl_dims": [384, 192, 96], "mrl_weights": [1, 0.5, 0.25]}},
        tune={
            "init": "stage:weak",
            "hidden_size": 768,
            "loss": {"mrl_dims": [768, 384, 6, 3], "mrl_weights": [1, 0.5, 0.25, 0.1]},
        },
        soup={"soup": {"members": ["stage:tune", "stage:tune"]}},
        last={"init": "stage:soup", "loss": {"mrl_dims": [768, 192], "mrl_weights": [1, 1]}},
    )
    weak, tune, last = (small.stages[name] for name in ("weak", "tune", "last"))
    assert (weak.hidden_size, weak.loss.mrl_dims, weak.loss.mrl_weights) == (
        0,
        [64, 32, 16],
        [1, 0.5, 0.25],
    )
    assert (tune.hidden_size, tune.loss.mrl_dims, tune.loss.mrl_weights) == (
        128,
        [128, 64, 1],
        [1, 0.5, 0.25],
    )
    assert last.loss.mrl_dims == [128, 32]


def test_rows_that_are_there_are_read_and_others_stood_in_for(plan: Plan, tmp_path, capsys) -> None:
    pairs = tiny.write_pairs(tmp_path / "pairs.jsonl")
    sources = {
        "there": {"uri": f"jsonl:{pairs}"},
        "few": {"uri": f"jsonl:{pairs}", "limit": 5},
        "gone": {"uri": f"jsonl:{tmp_path / 'gone.jsonl'}"},
        "hub": {"uri": "hf:owner/name@train", "task": "sts"},
        "labels": {"uri": "hf:owner/other@train", "task": "clustering", "limit": 1000},
    }
    found = (
        plan(weak={"sources": sources, "mining": {"model": "start", "num_negatives": 2}})
        .stages["weak"]
        .sources
    )
    assert (found["there"].uri, found["there"].limit) == (f"jsonl:{pairs}", 64)
    assert found["few"].limit == 5
    rows = tmp_path / "ck" / "big-dry-run" / "rows"
    assert {
        name: source.uri for name, source in found.items() if name in {"gone", "hub", "labels"}
    } == {name: f"jsonl:{rows / name}.jsonl" for name in ("gone", "hub", "labels")}
    assert [found[name].task for name in ("gone", "hub", "labels")] == [
        "auto",
        "sts",
        "clustering",
    ]
    for name, keys in (
        ("gone", {"query", "positive"}),
        ("hub", {"s1", "s2", "score"}),
        ("labels", {"text", "label"}),
    ):
        lines = [json.loads(line) for line in (rows / f"{name}.jsonl").read_text().splitlines()]
        assert len(lines) == 64
        assert {frozenset(line) for line in lines} == {frozenset(keys | {"split"})}
    shown = " ".join(capsys.readouterr().out.split())
    assert "built-in rows stand in for hf:owner/name@train" in shown
    assert f"stand in for jsonl:{pairs}" not in shown


def test_the_hub_is_asked_only_where_it_may_be(plan: Plan, monkeypatch) -> None:
    """Offline by the environment: no connection is tried; the tests' own environment says so."""
    monkeypatch.setattr(
        dry_run.socket, "create_connection", lambda *words, **more: pytest.fail("asked the hub")
    )
    stage = plan(weak={"sources": {"hub": {"uri": "hf:owner/name@train"}}}).stages["weak"]
    assert stage.sources["hub"].uri.startswith("jsonl:")


@pytest.mark.parametrize("answer", [True, False])
def test_a_hub_that_answers_is_read(plan: Plan, monkeypatch, answer) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "0")

    def connect(*words: Any, **more: Any) -> Any:
        if not answer:
            raise OSError("no way")
        return open("/dev/null")

    monkeypatch.setattr(dry_run.socket, "create_connection", connect)
    stage = plan(weak={"sources": {"hub": {"uri": "hf:owner/name@train"}}}).stages["weak"]
    assert (stage.sources["hub"].uri, stage.sources["hub"].limit) == (
        ("hf:owner/name@train", 64) if answer else (stage.sources["hub"].uri, 0)
    )
    assert stage.sources["hub"].uri.startswith("hf:" if answer else "jsonl:")


def test_sample_rows_can_train() -> None:
    labels = [row["label"] for row in sample_rows("classification")]
    assert len(set(labels)) > 3
    assert sum(labels.count(label) > 1 for label in set(labels)) > 2
    assert all(row["s1"] != row["s2"] for row in sample_rows("sts"))
    assert sample_rows("retrieval") == sample_rows("retrieval")
    assert len(sample_rows("retrieval", 5)) == 5
    for row in sample_rows("retrieval", num_scored=3):
        assert len(row["negatives"]) == 3
        assert len(row["scores"]) == 4
        assert row["positive"] not in row["negatives"]
    assert "negatives" not in sample_rows("retrieval")[0]  # asking for scores leaves nothing behind


def run_dry(recipe: Path, checkpoints: Path) -> tuple[Path, str]:
    started_s = time.monotonic()
    done = tiny.run_cli(
        "teach", f"recipe={recipe}", "dry_run=true", f"checkpoints={checkpoints}", timeout=1200
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert time.monotonic() - started_s < 120
    return checkpoints / f"{recipe.stem}-dry-run", done.stdout


@pytest.mark.slow
def test_rows_with_scores_of_their_own_run_dry(tmp_path) -> None:
    """The stand-in rows bring what the stage asks of them."""
    stages = {
        "soft": {
            "init": HUB.format("Qwen2-0.5B"),
            "sources": {"hub": {"uri": "hf:owner/name@train"}},
            "batching": "random",
            "mining": {
                "model": "start",
                "num_negatives": 3,
                "min_margin": 0.5,
                "on_shortfall": "drop",
                "filter_rank": 1,
            },
            "soft_labels": {"models": ["rows"]},
            "num_examples": 1,
            "query_template": "{query}",
        },
    }
    recipe = tiny.write_recipe(
        tmp_path / "scored.yaml", {"data": {"max_query_tokens": 512}, "stages": stages}
    )
    folder, _ = run_dry(recipe, tmp_path / "ck")
    open_artifact(folder / "soft", "soft")


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", [p for p in RECIPES if p.stem != "kalm-v2"], ids=lambda path: path.stem
)
def test_every_recipe_runs_dry(path: Path, tmp_path) -> None:
    recipe = load_recipe(str(path))
    if any(stage.lora.rank for stage in recipe.stages.values()):
        pytest.importorskip("peft")
    folder, shown = run_dry(path, tmp_path)
    for name in recipe.stages:
        open_artifact(folder / name, name)
    assert f"teacher: {folder / list(recipe.stages)[-1]}" in "".join(shown.split("\n"))
    assert not (tmp_path / path.stem).exists()
    again = tiny.run_cli("teach", f"recipe={path}", "dry_run=true", f"checkpoints={tmp_path}")
    assert again.returncode == 0
    assert all(f"{name}: up to date" in again.stdout for name in recipe.stages)


# --- kalm-v2, the whole of it


@pytest.fixture(scope="module")
def kalm_v2(tmp_path_factory) -> Path:
    folder, _ = run_dry(tiny.ROOT / "recipes" / "kalm-v2.yaml", tmp_path_factory.mktemp("dry"))
    return folder


@pytest.mark.slow
def test_kalm_v2_leaves_every_artifact(kalm_v2: Path) -> None:
    for name in ("weak", "tune", "distil", "soup"):
        open_artifact(kalm_v2 / name, name)
    for name in ("tune/finetuning", "tune/stsb", "distil/finetuning"):
        lines = (kalm_v2 / "mined" / name / "rows.jsonl").read_text().splitlines()
        assert {len(json.loads(line)["negatives"]) for line in lines} == {7}
    assert not (kalm_v2 / "mined" / "tune" / "banking77").exists()
    table = json.loads((kalm_v2 / "tune" / "sources.json").read_text())
    assert [(line["source"], line["task"]) for line in table] == [
        ("finetuning", "retrieval"),
        ("banking77", "classification"),
        ("stsb", "sts"),
    ]


@pytest.mark.slow
def test_the_saved_teacher_is_bidirectional(kalm_v2: Path) -> None:
    """The last word changes what the first token sees: in leafkit's reading and in transformers'
    own.
    """
    from transformers import AutoModel

    encoder = read_encoder(kalm_v2 / "soup")
    assert encoder.spec.attention == "bidirectional"
    assert encoder.backbone.config.model_type == "qwen2"
    ids = torch.tensor(encoder.tokenize(["how to sort a list", "how to sort a tree"], ""))
    assert torch.equal(ids[0, :3], ids[1, :3])
    assert not torch.equal(ids[0], ids[1])
    for model in (
        encoder.backbone,
        AutoModel.from_pretrained(kalm_v2 / "soup", dtype=torch.float32).eval(),
    ):
        with torch.no_grad():
            hidden = model(input_ids=ids).last_hidden_state
        assert float((hidden[0, 0] - hidden[1, 0]).abs().max()) > 1e-4


@pytest.mark.slow
def test_the_saved_teacher_has_equal_vectors_in_sentence_transformers(kalm_v2: Path) -> None:
    library = pytest.importorskip("sentence_transformers")
    model = library.SentenceTransformer(str(kalm_v2 / "soup"), device="cpu")
    encoder = read_encoder(kalm_v2 / "soup")
    texts = ["Command-line parsing library", "x", "語 ü", "how to sort a list " * 20]
    prompt = "Instruct: Given a query, retrieve documents that answer the query. \n Query: "
    assert model.prompts["query"] == prompt
    assert (
        model.prompts["banking77"] == "Instruct: Given a question, classify its intent. \n Query: "
    )
    for role in ("query", "document", "banking77"):
        with torch.no_grad():
            mine = encoder.finish(encoder(encoder.tokenize(texts, role))).numpy()
        theirs = model.encode(texts, prompt_name=role)
        assert np.abs(mine - theirs).max() < 1e-5
        assert np.allclose(np.linalg.norm(theirs, axis=1), 1, atol=1e-5)
    assert (
        np.abs(model.encode(texts[:1], prompt_name="query") - model.encode(texts[:1])).max() > 1e-3
    )
    assert np.allclose(
        model.encode(texts[:1], prompt_name="query"), model.encode([prompt + texts[0]]), atol=1e-5
    )


@pytest.mark.slow
def test_the_dry_rows_are_a_collection_of_this_machine(kalm_v2: Path) -> None:
    corpora = [
        Collection.load(path)
        for path in (kalm_v2.parent / "corpora").iterdir()
        if path.name.startswith("pydocs")
    ]
    assert len(corpora) == 1
    assert len(corpora[0].documents) < 5000
