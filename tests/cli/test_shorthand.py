"""Short keys of bench and inherit, and what stands in for a recipe."""

from __future__ import annotations

import pytest

from leafkit.cli.shorthand import SHORT_KEYS, expand
from leafkit.config.load import load_recipe
from leafkit.core.errors import UsageError


def resolved(*words):
    full = expand(words)
    (name,) = [w.removeprefix("recipe=") for w in full if w.startswith("recipe=")]
    return load_recipe(name, [w for w in full if not w.startswith("recipe=")])


def test_a_pair_without_a_recipe_is_a_whole_recipe():
    recipe = resolved(
        "teacher=model:checkpoints/kalm-mini/tune",
        "student=model:/data/s",
        "collections=[beir:a, beir:b]",
    )
    assert recipe.teacher.source == "model:checkpoints/kalm-mini/tune"
    assert recipe.bench.student == "model:/data/s"
    assert recipe.bench.collections == ["beir:a", "beir:b"]
    assert recipe.data.corpus == ""
    assert recipe.name == "kalm-mini-tune--data-s"


def test_the_corpus_stays_where_it_is_named_or_nothing_else_is_measured():
    assert resolved("teacher=builtin:minilm", "corpus=beir:c").data.corpus == "beir:c"
    both = resolved("teacher=builtin:minilm", "collections=beir:a", "corpus=jsonl:b.jsonl")
    assert (both.data.corpus, both.bench.collections) == ("jsonl:b.jsonl", ["beir:a"])


def test_a_named_recipe_keeps_its_name_corpus_and_collections():
    full = expand(["recipe=kalm-to-23m", "strict=true", "collections=beir:a"])
    assert full == ["recipe=kalm-to-23m", "inherit.strict=true", "bench.collections=beir:a"]


def test_every_short_key_names_a_field():
    values = {
        "teacher": "builtin:minilm",
        "student": "builtin:minilm",
        "diagnose": "true",
        "strict": "true",
        "dims": "[64]",
        "same_space": "true",
        "precisions": "int8",
        "tasks": "sts:a.jsonl",
        "indexes": "flat",
        "baseline": "builtin:minilm",
    }
    resolved(*(f"{key}={values.get(key, 'beir:a')}" for key in SHORT_KEYS))


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("builtin:minilm", "minilm"),
        ("model:owner/name@" + "0" * 40, "owner-name"),
        ("endpoint:text-embed", "text-embed"),
        ("model:/", "unnamed"),
        ("model:../x y", "x-y"),
        ("recipe:kalm-mini", "kalm-mini"),
    ],
)
def test_the_run_is_called_after_its_teacher(reference, name):
    assert resolved(f"teacher={reference}").name == name


def test_long_references_make_a_name_that_a_disk_takes():
    assert len(resolved(f"teacher=model:{'x' * 300}", f"student=model:{'y' * 300}").name) <= 110


@pytest.mark.parametrize("words", [[], ["student=builtin:minilm"], ["strict=true"]])
def test_neither_recipe_nor_teacher_is_refused(words):
    with pytest.raises(UsageError, match="name a recipe or a teacher"):
        expand(words)


def test_an_old_short_key_is_refused_with_its_new_name():
    with pytest.raises(UsageError, match=r"home= is now called corpus=") as caught:
        expand(["teacher=builtin:minilm", "home=beir:a"])
    assert caught.value.hint == "write corpus=beir:a"
