"""The recipes that leafkit ships, and the schema they are written in: nothing dead, nothing
undescribed.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import pytest

from leafkit import config
from leafkit.config.load import describe_recipe, list_recipes, load_recipe, to_yaml
from leafkit.config.reference import value_at
from leafkit.core.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
FIELDS = sorted(
    (kind.__name__, f.name)
    for kind in vars(config).values()
    if isinstance(kind, type) and is_dataclass(kind)
    for f in fields(kind)
)


def test_there_are_recipes() -> None:
    assert {"kalm-mini", "kalm-to-23m"} <= {path.stem for path in RECIPES}
    assert {path.stem for path in RECIPES} <= list_recipes().keys()


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_loads_and_survives_a_round_trip(path: Path, tmp_path: Path) -> None:
    recipe = load_recipe(str(path))
    assert recipe.name == path.stem
    copy = tmp_path / path.name
    copy.write_text(to_yaml(recipe), encoding="utf-8")
    assert load_recipe(str(copy)) == recipe


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_opens_with_what_it_is_what_it_needs_and_how_to_run_it(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# ")
    assert len(describe_recipe(path).split()) > 5
    assert describe_recipe(path) == lines[0][2:]
    comments = [line for line in lines[1:10] if line.startswith("#")]
    assert any(line.startswith("# Needs:") for line in comments)
    assert any(line.startswith("# Run:") and f"recipe={path.stem}" in line for line in comments)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_teacher_trained_here_is_a_recipe_that_trains_one(path: Path) -> None:
    kind, _, name = load_recipe(str(path)).teacher.source.partition(":")
    if kind == "recipe":
        assert load_recipe(str(ROOT / "recipes" / f"{name}.yaml")).stages


# --- the demonstration's own values, which are no defaults

DEMONSTRATION = {
    "data.corpus": "builtin:pydocs",
    "data.max_document_tokens": 56,
    "data.max_query_tokens": 64,
    "data.max_train_queries": 3000,
    "data.num_pseudo_texts": 2048,
    "student.question_ratio": 0.25,
    "student.num_epochs": 0.35,
    "student.num_ridge_texts": 2048,
    "bench.collections": ["builtin:pydocs-out-of-domain"],
    "bench.max_document_tokens": 256,
}


@pytest.mark.parametrize("name", ["kalm-to-23m", "kalm-mini-to-23m", "kalm-to-static", "full-grid"])
def test_the_demonstration_states_what_its_figures_were_measured_with(name: str) -> None:
    recipe = load_recipe(name)
    assert {key: value_at(recipe, key) for key in DEMONSTRATION} == DEMONSTRATION


FOREIGN = [
    "mpnet-to-23m",
    "mpnet-general-to-23m",
    "mpnet-to-6l",
    "mpnet-to-3l",
    "mpnet-to-2l",
    "minilm-to-3l",
]


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_teacher_is_followed_in_its_scores_and_slowly(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.teacher.source == f"builtin:{name.partition('-')[0]}"
    assert (recipe.student.losses.l2, recipe.student.losses.score_kl) == (1, 1)
    assert recipe.student.optimizer.lr == 5e-5
    # some of a model's layers were never trained to retrieve by themselves
    assert recipe.student.start_weight == (0 if recipe.student.init_layers else 1)
    # measured on what the demonstration is measured on
    same = [key for key in DEMONSTRATION if key.startswith(("data.max_", "bench."))]
    same.remove("data.max_train_queries")
    assert {key: value_at(recipe, key) for key in same} == {key: DEMONSTRATION[key] for key in same}


@pytest.mark.parametrize("name", ["kalm-mini", "kalm-mini-lite"])
def test_the_demonstrations_teachers_state_theirs(name: str) -> None:
    recipe = load_recipe(name)
    assert [stage.question_ratio for stage in recipe.stages.values()] == [0.25, 0.25]
    assert (recipe.data.max_document_tokens, recipe.data.max_query_tokens) == (56, 64)


@pytest.mark.parametrize("name", ["own-data", "measure"])
def test_anybodys_texts_are_neither_cut_nor_rewritten_nor_joined_by_others(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.data.corpus == ""
    assert (recipe.data.max_document_tokens, recipe.data.max_query_tokens) == (0, 0)
    assert recipe.bench.max_document_tokens == 0
    assert recipe.data.max_train_queries == 0
    assert recipe.student.num_epochs >= 1
    assert recipe.student.question_ratio == 0
    assert recipe.bench.collections == []
    assert recipe.data.sources == {}
    assert replace(recipe, name="", data=replace(recipe.data, corpus="")) == config.Recipe()


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_queries_are_rewritten_in_english_documentation_alone(path: Path) -> None:
    recipe = load_recipe(str(path))
    for stage in recipe.stages.values():
        uris = [source.uri for source in stage.sources.values()] or [recipe.data.corpus]
        assert stage.question_ratio == 0 or set(uris) == {"builtin:pydocs"}
    assert recipe.student.question_ratio == 0 or recipe.data.corpus == "builtin:pydocs"


@pytest.mark.parametrize(
    ("recipe", "key", "words"),
    [
        ("own-data", "student", ["student.question_ratio=.1", "data.corpus=beir:scifact"]),
        ("own-data", "student", ["student.question_ratio=1", "data.corpus=hf:x@train"]),
        ("kalm-mini", "stages.weak", ["data.corpus=jsonl:polski.jsonl"]),
        ("kalm-v1", "stages.tune", ["stages.tune.question_ratio=.5"]),
    ],
)
def test_other_texts_are_not_rewritten(recipe: str, key: str, words: list[str]) -> None:
    with pytest.raises(UsageError, match=rf"{key}\.question_ratio: .* English documentation"):
        load_recipe(recipe, words)


# --- dead keys


def attributes_read(sources: Mapping[str, str]) -> set[str]:
    """Names that appear as ``something.NAME`` in a value."""
    return {
        node.attr
        for source in sources.values()
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }


@pytest.fixture(scope="module")
def read_names() -> set[str]:
    """Attributes read anywhere outside the schema and the modules that fill and check it."""
    folder = ROOT / "leafkit" / "config"
    paths = [p for p in (ROOT / "leafkit").rglob("*.py") if folder not in p.parents]
    return attributes_read({str(path): path.read_text(encoding="utf-8") for path in paths})


@pytest.mark.parametrize(
    ("section", "name"), FIELDS, ids=[f"{section}.{name}" for section, name in FIELDS]
)
def test_every_config_field_is_read_somewhere(
    read_names: set[str], section: str, name: str
) -> None:
    assert name in read_names, f"{section}.{name} is a dead key"


def test_the_check_for_dead_keys_sees_reads_only() -> None:
    found = attributes_read({"m": "c.written = 1\nuse(c.used)\nname = 'text'\ndel c.gone"})
    assert found == {"used"}
    assert len(FIELDS) > 60
