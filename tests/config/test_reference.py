"""The reference of keys: complete, in the order of the sections, and as the recipe names them."""

from __future__ import annotations

import typing
from dataclasses import is_dataclass

import pytest

from leafkit import config
from leafkit.config import Recipe, StageConfig, TrainSourceConfig, to_plain
from leafkit.config.reference import find_keys, list_keys, render_reference, value_at
from leafkit.core.errors import UsageError

RECIPE = Recipe(
    name="x", stages={"a": StageConfig(sources={"s": TrainSourceConfig("jsonl:s")}, num_steps=7)}
)


MAPPINGS = ("inherit.max_gap.", "data.columns.", "student.losses.begin.", "student.losses.end.")


def test_every_key_is_there_once_with_its_default() -> None:
    names = [key.name for key in list_keys()]
    assert len(names) == len(set(names))
    plain = to_plain(RECIPE)

    def leaves(value: typing.Any, prefix: str) -> set[str]:
        if not isinstance(value, dict) or prefix in MAPPINGS:
            return {prefix[:-1]}
        return {leaf for name, child in value.items() for leaf in leaves(child, f"{prefix}{name}.")}

    general = {
        name.replace("stages.a.", "stages.NAME.").replace("sources.s.", "sources.NAME.")
        for name in leaves(plain, "")
    }
    assert {name for name in names if not name.startswith("data.sources.")} == general - {
        "data.sources"
    }


def test_the_reference_has_a_table_for_each_section_and_a_row_for_each_key() -> None:
    text = render_reference()
    assert text.count("\n| `") == len(list(list_keys()))
    sections = [line for line in text.splitlines() if line.startswith("## ")]
    assert sections[:2] == ["## The recipe itself", "## `data`"]
    assert "## `stages.NAME.optimizer`" in sections
    assert len(sections) == len(set(sections))
    row = "| `max_query_tokens` | whole number | `0` | tokens | at least 0, at most 1_000_000 |"
    assert row in text
    for line in text.splitlines():  # a stray bar would add a cell
        assert not line.startswith("| ") or line.count("|") == 7, line


def test_keys_of_a_section_bear_the_names_of_the_recipe() -> None:
    assert [key.name for key in find_keys(RECIPE, "stages.a.num_steps")] == ["stages.a.num_steps"]
    assert value_at(RECIPE, "stages.a.num_steps") == 7
    of_stages = {key.name for key in find_keys(RECIPE, "stages")}
    assert {"stages.a.loss.temperature", "stages.a.sources.s.uri"} <= of_stages
    assert not any("NAME" in name for name in of_stages)
    assert find_keys(RECIPE, "student.optimizer")[0].name == "student.optimizer.lr"
    # a whole name, not the beginning of one
    assert {key.name.split(".")[0] for key in find_keys(RECIPE, "data")} == {"data"}
    with pytest.raises(UsageError):
        find_keys(RECIPE, "stud")


def test_every_section_class_is_in_the_recipe() -> None:
    kinds = {kind for kind in vars(config).values() if isinstance(kind, type)}

    def reached(kind: type) -> set[type]:
        hints = typing.get_type_hints(kind).values()
        inner = {t for hint in hints for t in (hint, *typing.get_args(hint)) if is_dataclass(t)}
        return {kind}.union(*(reached(typing.cast(type, t)) for t in inner))

    assert {kind for kind in kinds if is_dataclass(kind)} == reached(Recipe)
