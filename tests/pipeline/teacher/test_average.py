"""Soup stages: averages of checkpoints, by given weights or by their losses on held-out rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from safetensors.torch import load_file

from leafkit.core.artifact import open_artifact
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.models.checkpoint import read_encoder, write_encoder
from leafkit.pipeline.teacher.average import share_source_prompts
from leafkit.pipeline.teacher.teach import run_teach

Write = Callable[..., Path]


@pytest.fixture
def members(tmp_path) -> list[str]:
    """Three checkpoints of one model."""
    return [
        f"model:{tiny.write_model(tmp_path / name, seed=seed)}"
        for seed, name in enumerate(("a", "b", "c"), 1)
    ]


@pytest.fixture
def write(home, tmp_path) -> Write:
    def write_recipe(members: list[str], stages: dict[str, Any] | None = None, **soup: Any) -> Path:
        stages = (stages or {}) | {"soup": {"soup": {"members": members} | soup}}
        return tiny.write_recipe(
            tmp_path / "mix.yaml", tiny.tiny_recipe(home, tmp_path / "ck") | {"stages": stages}
        )

    return write_recipe


def statuses(run) -> dict[str, str]:
    return {step["name"]: step["status"] for step in run.steps}


def weights_of(folder: Path | str) -> dict[str, torch.Tensor]:
    return load_file(Path(str(folder).removeprefix("model:")) / "model.safetensors")


def test_given_weights(write: Write, members, start) -> None:
    run = start(write(members, weights=[0.5, 0.3, 0.2]), work=run_teach)
    mixed, parts = weights_of(run.folder / "soup"), [weights_of(m) for m in members]
    assert mixed.keys() == parts[0].keys()
    for name, value in mixed.items():
        assert torch.allclose(
            value, 0.5 * parts[0][name] + 0.3 * parts[1][name] + 0.2 * parts[2][name], atol=1e-6
        )
    assert open_artifact(run.folder / "soup", "soup").metrics["weights"] == [0.5, 0.3, 0.2]
    assert "corpus pairs.jsonl" not in statuses(run)  # nothing is read that decides about nothing


def test_a_weight_of_one_gives_that_member_back(write: Write, members, start) -> None:
    run = start(write(members, weights=[0, 1, 0]), work=run_teach)
    mixed, part = weights_of(run.folder / "soup"), weights_of(members[1])
    assert all(torch.equal(mixed[name], part[name]) for name in part)


def held_out_loss(member: str, temperature: float) -> float:
    """InfoNCE of the four validation pairs, in numpy."""
    encoder = read_encoder(Path(member.removeprefix("model:")))
    pairs = tiny.make_pairs(72)[12:16]

    def embed(texts: list[str], role: str, limit: int) -> np.ndarray:
        return encoder.finish(encoder(encoder.tokenize(texts, role, limit)).detach()).numpy()

    scores = (
        embed([q for q, _ in pairs], "query", 32)
        @ embed([d for _, d in pairs], "document", 48).T
        / temperature
    )
    return float(np.mean(np.log(np.exp(scores).sum(axis=1)) - np.diag(scores)))


def test_weights_from_held_out_losses(write: Write, members, start) -> None:
    run = start(write(members, temperature=0.5), work=run_teach)
    metrics = open_artifact(run.folder / "soup", "soup").metrics
    losses = np.array([held_out_loss(m, 0.05) for m in members])
    assert metrics["held_out_losses"] == pytest.approx(losses.tolist(), rel=1e-4)
    assert metrics["held_out_rows"] == 4
    shares = np.exp(-losses / 0.5) / np.exp(-losses / 0.5).sum()
    assert metrics["weights"] == pytest.approx(shares.tolist(), rel=1e-3)
    assert np.argmax(metrics["weights"]) == np.argmin(losses)
    assert max(metrics["weights"]) - min(metrics["weights"]) > 0.05
    mixed, parts = weights_of(run.folder / "soup"), [weights_of(m) for m in members]
    for name, value in mixed.items():
        expected = sum(w * p[name] for w, p in zip(metrics["weights"], parts, strict=True))
        assert torch.allclose(value, expected, atol=1e-6)


def test_num_rows_limits_what_is_measured(write: Write, members, start) -> None:
    run = start(write(members, num_rows=3), work=run_teach)
    assert open_artifact(run.folder / "soup", "soup").metrics["held_out_rows"] == 3


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_held_out_rows_are_refused(write: Write, members, start, tmp_path, count) -> None:
    pairs = tiny.write_pairs(tmp_path / "pairs.jsonl", num_validation=count)
    with pytest.raises(
        UsageError, match=f"the validation split of pairs has {count} held-out rows"
    ) as caught:
        start(write(members), f"data.corpus=jsonl:{pairs}", work=run_teach)
    assert "stages.soup.soup.weights" in caught.value.hint
    start(write(members, weights=[1, 0, 0]), f"data.corpus=jsonl:{pairs}", work=run_teach)


@pytest.mark.slow
def test_a_second_run_averages_nothing_and_changes_do(
    write: Write, members, start, tmp_path
) -> None:
    def status(recipe: Path, *words: str) -> str:
        return statuses(start(recipe, *words, work=run_teach))["soup"]

    weighed, given = "up to date", ["stages.soup.soup.weights=[0.2,0.3,0.5]"]
    recipe = write(members)
    assert status(recipe) == "done"
    assert status(recipe) == weighed
    assert status(recipe, "stages.soup.soup.num_rows=3") == "done"
    assert (
        status(recipe, "stages.soup.loss.temperature=0.1", "stages.soup.soup.num_rows=3") == "done"
    )
    assert status(recipe, *given) == "done"
    # no loss is taken
    assert (
        status(recipe, *given, "stages.soup.loss.temperature=0.1", "data.max_query_tokens=30")
        == "up to date"
    )
    tiny.write_model(tmp_path / "b", seed=77)
    assert status(recipe, *given) == "done"


@pytest.mark.slow
def test_stages_of_the_recipe_are_members_and_a_soup_is_a_start(
    write: Write, start, home, tmp_path
) -> None:
    stages = {
        "one": tiny.tiny_stage(home, num_steps=2),
        "two": tiny.tiny_stage(home, num_steps=2, init="stage:one"),
    }
    recipe = write(["stage:one", "stage:two"], stages, weights=[0.5, 0.5])
    run = start(recipe, work=run_teach)
    one, two, mixed = (weights_of(run.folder / name) for name in ("one", "two", "soup"))
    assert all(
        torch.allclose(mixed[name], (one[name] + two[name]) / 2, atol=1e-6) for name in mixed
    )
    spec = read_encoder(run.folder / "soup").spec
    assert spec == read_encoder(run.folder / "one").spec
    assert spec.prompts == {"query": "find the answer : "}
    again = statuses(start(recipe, "stages.two.optimizer.lr=0.002", work=run_teach))
    assert (again["one"], again["two"], again["soup"]) == ("up to date", "done", "done")


# --- what cannot be averaged


def unlike(tmp_path: Path, kind: str) -> str:
    encoder = tiny.make_encoder(seed=5)
    if kind == "shape":
        return f"model:{tiny.write_model(tmp_path / kind, hidden=48)}"
    if kind == "keys":
        return f"model:{tiny.write_model(tmp_path / kind, dim=16)}"
    changes = {"prompts": {"prompts": {"query": "other : "}}, "pooling": {"pooling": "cls"}}.get(
        kind, {}
    )
    folder = tmp_path / kind
    write_encoder(
        tiny.with_spec(encoder, **changes), folder, {"kind": "teacher", "dim": 32, "mrl_dims": []}
    )
    if kind == "tokenizer":  # two words take each other's place
        path = folder / "tokenizer.json"
        content = json.loads(path.read_text())
        vocabulary = content["model"]["vocab"]
        first, second = list(vocabulary)[-2:]
        vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
        path.write_text(json.dumps(content))
    return f"model:{folder}"


@pytest.mark.parametrize(
    ("kind", "match"),
    [
        ("shape", "models of different shape cannot be averaged"),
        ("keys", "models of different shape cannot be averaged"),
        ("tokenizer", "models with different vocabulary cannot be averaged"),
        ("prompts", "models with different prompts cannot be averaged"),
        ("pooling", "models with different pooling cannot be averaged"),
    ],
)
def test_unlike_models_are_refused(write: Write, members, start, tmp_path, kind, match) -> None:
    with pytest.raises(LeafkitError, match=match) as caught:
        start(write([members[0], unlike(tmp_path, kind)], weights=[0.5, 0.5]), work=run_teach)
    assert caught.value.hint


def test_a_member_that_is_not_there_is_named(write: Write, members, start, tmp_path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        start(
            write([members[0], f"model:{tmp_path / 'absent'}"], weights=[0.5, 0.5]), work=run_teach
        )


# --- prompts of sources


@pytest.mark.slow
def test_stages_of_other_sources_share_their_prompts(write: Write, start, home, tmp_path) -> None:
    """kalm-v2 averages a stage of three sources with one of a single source."""
    for name in ("wiki", "news"):
        rows = [{"query": q, "positive": d} for q, d in tiny.make_pairs(24)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sources = {name: {"uri": f"jsonl:{tmp_path / name}.jsonl"} for name in ("wiki", "news")}
    settings: dict[str, Any] = {"num_steps": 2, "batching": "random"}
    two = tiny.tiny_stage(
        home, sources=sources | {"news": sources["news"] | {"instruction": "read"}}, **settings
    )
    one = tiny.tiny_stage(
        home, sources={"wiki": dict(sources["wiki"])}, init="stage:two", **settings
    )
    run = start(
        write(["stage:two", "stage:one"], {"two": two, "one": one}, weights=[0.5, 0.5]),
        work=run_teach,
    )
    prompts = {"query": "find the answer : ", "wiki": "find the answer : ", "news": "read : "}
    assert read_encoder(run.folder / "soup").spec.prompts == prompts
    assert read_encoder(run.folder / "one").spec.prompts == {"query": "find the answer : "}


def test_shared_prompts_replace_none_and_give_no_role_away() -> None:
    given = [
        {"query": "q : ", "wiki": "w : "},
        {"wiki": "v : ", "news": "n : "},
        {"document": "d : "},
    ]
    shared = share_source_prompts([tiny.make_encoder(prompts=prompts) for prompts in given])
    assert [member.spec.prompts for member in shared] == [
        {"query": "q : ", "wiki": "w : ", "news": "n : "},
        {"wiki": "v : ", "news": "n : "},
        {"document": "d : ", "wiki": "w : ", "news": "n : "},
    ]
