"""Old names of keys and values: refused in recipes with the new name, read in manifests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from leafkit.config import (
    BenchConfig,
    ContrastiveLossConfig,
    DataConfig,
    InheritConfig,
    OptimizerConfig,
    Recipe,
    StageConfig,
    TrainSourceConfig,
    to_plain,
)
from leafkit.config.load import from_plain, load_recipe
from leafkit.config.renamed import RENAMED_KEYS, RENAMED_VALUES, new_name, old_value, with_new_names
from leafkit.core.errors import UsageError


def _mistakes(text: str, folder: Path, *overrides: str) -> str:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        load_recipe(str(path), overrides)
    return str(caught.value)


def _named(key: str) -> str:
    return key.replace("*", "s", 1).replace("*", "t")


@pytest.mark.parametrize(("old", "new"), RENAMED_KEYS.items())
def test_an_old_key_is_refused_with_its_new_name(old: str, new: str, tmp_path: Path) -> None:
    wrong = f"{_named(old)} is now called {_named(new)}"
    assert f"command line: {wrong}" in _mistakes("", tmp_path, f"{_named(old)}=1")
    *sections, name = _named(old).split(".")
    lines = [f"{'  ' * depth}{part}:" for depth, part in enumerate([*sections, name])]
    text = "\n".join(lines) + " 1\n"
    assert f"mine.yaml:{len(lines)}: {wrong}" in _mistakes(text, tmp_path)


@pytest.mark.parametrize("new", sorted(set(RENAMED_KEYS.values())))
def test_a_new_key_exists_and_was_not_renamed_itself(new: str) -> None:
    recipe = to_plain(Recipe(stages={"s": StageConfig()}))
    here = recipe
    for part in _named(new).split("."):
        assert part in here
        here = here[part]
    assert new not in RENAMED_KEYS


@pytest.mark.parametrize("key", RENAMED_VALUES)
def test_an_old_value_is_refused_with_its_new_name(key: str, tmp_path: Path) -> None:
    for old, new in RENAMED_VALUES[key].items():
        found = _mistakes("", tmp_path, f"{_named(key)}={old}")
        assert f"command line: {_named(key)}: {old!r} is now called {new!r}" in found
        assert old_value(_named(key), new) is None


def test_other_keys_and_values_have_no_new_name() -> None:
    assert new_name("data.corpus") is None
    assert new_name("stages.s.t.spread_weight") is None
    assert old_value("name", "neighbours") is None


def test_a_manifest_with_old_names_is_read_under_the_new_ones() -> None:
    stage = StageConfig(
        loss=ContrastiveLossConfig(gor_weight=0.5, contrastive_weight=0.25),
        optimizer=OptimizerConfig(lr=0.5),
        sources={"a": TrainSourceConfig(uri="jsonl:a")},
    )
    recipe = Recipe(
        name="x",
        stages={"s": stage},
        data=DataConfig(corpus="builtin:pydocs", out_of_domain_packages=["email"]),
        bench=BenchConfig(collections=["builtin:pydocs-out-of-domain"]),
    )
    old = to_plain(recipe)
    old["data"]["home"] = old["data"].pop("corpus")
    old["data"]["away_packages"] = old["data"].pop("out_of_domain_packages")
    old_stage = old["stages"]["s"]
    loss = old_stage.pop("loss")
    old_stage["spread_weight"] = loss.pop("gor_weight")
    old_stage["soft"] = old_stage.pop("soft_labels")
    old_stage["soft"]["contrastive_weight"] = loss.pop("contrastive_weight")
    optimizer = old_stage.pop("optimizer")
    old_stage["warmup_share"] = optimizer.pop("warmup_ratio")
    del optimizer["final_lr_ratio"]  # stages had none: it was 0, as it is today
    del optimizer["num_cycles"]  # younger than the old names
    old_stage |= loss | optimizer
    old_stage["batching"] = "neighbours"
    old["synth"] |= old["synth"].pop("endpoint")
    old["bench"]["collections"] = ["builtin:pydocs-away"]
    old["inherit"]["queries"] = ["float", "quantised"]
    expected = replace(
        recipe,
        stages={"s": replace(stage, optimizer=replace(stage.optimizer, final_lr_ratio=0.0))},
        inherit=InheritConfig(queries=["float", "quantized"]),
    )
    assert from_plain(old) == expected
    assert with_new_names(to_plain(expected)) == to_plain(expected)
