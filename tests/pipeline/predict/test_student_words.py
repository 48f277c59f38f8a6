"""The words that make what was forecast, read back as the command reads them."""

from __future__ import annotations

import shlex

import pytest
from finished_runs import figures, make_runs

from leafkit.cli.recipe_words import read_recipe
from leafkit.config import StaticConfig, StudentConfig
from leafkit.config.load import load_recipe
from leafkit.evaluation.forecast.calibration import calibrate
from leafkit.models.prune_layers import choose_layers
from leafkit.pipeline.predict.forecasts import Probed, forecast_student, forecast_trained
from leafkit.pipeline.predict.student_words import StudentWords
from leafkit.results.prediction import (
    ALL_LAYERS,
    GIVEN_QUERIES,
    KINDS,
    LAST_LAYER,
    STATIC,
    THREE_LAYERS,
    TRAINED,
    TWO_LAYERS,
    ProbeAt,
)

PAIR = ["teacher.source=builtin:mpnet", "data.corpus=jsonl:docs.jsonl"]
FITTED = [kind for kind in KINDS if kind != STATIC]  # a table is trained on all texts


def student_of(settings: str, recipe: str = "measure") -> StudentConfig:
    """As ``leafkit distill`` reads the words; it refuses those that count for nothing."""
    words = shlex.split(settings)
    if not any(word.startswith("recipe=") for word in words):
        words.append(f"recipe={recipe}")
    return read_recipe("distill", [*words, *PAIR]).student


@pytest.mark.parametrize("num_texts", [300, 4096, 4097, 21_000, 1_000_000])
@pytest.mark.parametrize("kind", FITTED)
def test_the_words_allow_all_texts_that_were_forecast(kind, num_texts):
    probes = (ProbeAt(64, figures(0.4)), ProbeAt(128, figures(0.5)))
    probed = Probed(kind, probes, *([figures(0)] * 2), 1.0, None, None)  # type: ignore[arg-type]
    forecast = forecast_trained if kind == TRAINED else forecast_student
    calibration = calibrate(make_runs(), GIVEN_QUERIES)
    told = forecast(probed, calibration, num_texts, 0.8, words=StudentWords(StudentConfig()))
    assert told.num_texts == num_texts
    assert told.texts_needed > 0
    found = student_of(told.settings)
    assert found.num_ridge_texts >= max(num_texts, told.texts_needed)
    assert found.kind == ("transformer" if kind == TRAINED else "instant")


def test_texts_that_a_target_needs_are_allowed_beside_a_small_corpus():
    probes = (ProbeAt(1000, figures(0.4)), ProbeAt(2000, figures(0.5)))
    probed = Probed(LAST_LAYER, probes, *([figures(0)] * 2), 1.0, None, None)  # type: ignore[arg-type]
    calibration, words = calibrate(make_runs(), GIVEN_QUERIES), StudentWords(StudentConfig())
    told = forecast_student(probed, calibration, 2500, 0.85, words=words)
    assert told.texts_needed > 4096
    assert student_of(told.settings).num_ridge_texts >= told.texts_needed


def test_what_the_recipe_has_already_is_not_said():
    assert StudentWords(StudentConfig()).of(LAST_LAYER, 4096) == (
        "student.kind=instant student.head_steps=0"
    )
    assert StudentWords(StudentConfig()).of(TRAINED, 20_000) == (
        "recipe=own-index student.minutes=10"
    )
    # a recipe of fewer texts than usual is told, too
    found = StudentWords(StudentConfig(num_ridge_texts=64)).of(LAST_LAYER, 300)
    assert student_of(found).num_ridge_texts == 300


def test_layers_of_a_pruned_start_are_named_as_those_of_the_whole_model():
    """The first two of the layers 1, 11 and 12 are not the model's first two."""
    config = load_recipe("mpnet-to-3l").student
    words = StudentWords(config, choose_layers(config.init_layers, 12))
    expected = {TWO_LAYERS: "1,11", THREE_LAYERS: "1,11,12"}
    for kind in (TWO_LAYERS, THREE_LAYERS, LAST_LAYER, ALL_LAYERS, TRAINED):
        found = student_of(words.of(kind, 100))
        assert found.init_layers == expected.get(kind, "first:1,last:2"), kind
        assert found.init == "builtin:mpnet"
    assert student_of(words.of(ALL_LAYERS, 100)).head_layers == "all"
    assert student_of(words.of(STATIC, 100)).kind == "static"
    assert student_of(StudentWords(StudentConfig()).of(TWO_LAYERS, 9)).init_layers == "first:2"


def test_what_shapes_the_start_and_the_table_is_said():
    config = StudentConfig(
        init="model:my models/small", pooling="cls", static=StaticConfig(width=64, lr=0.02)
    )
    words = StudentWords(config)
    found = student_of(words.of(LAST_LAYER, 100))
    assert (found.init, found.pooling) == (config.init, "cls")
    table = student_of(words.of(STATIC, 100))
    assert (table.init, table.static) == (config.init, config.static)
