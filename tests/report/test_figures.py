"""Numbers in words."""

from __future__ import annotations

import doctest
from typing import Any

import pytest

from leafkit.report import facts, figures, plots, scale, svg


@pytest.mark.parametrize("module", [facts, figures, plots, scale, svg])
def test_examples_in_docstrings_hold(module: Any) -> None:
    result = doctest.testmod(module)
    assert result.attempted >= 1
    assert result.failed == 0


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.01, 0.002, "within noise"),
        (0.0, 0.1, "within noise"),
        (0.001, 0.1, "higher"),
        (-0.1, -0.001, "lower"),
    ],
)
def test_noise_verdict_asks_whether_the_interval_contains_zero(
    low: float, high: float, verdict: str
) -> None:
    assert figures.noise_verdict({"mean": 0.0, "low": low, "high": high}) == verdict


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.97, 1.01, "within noise of the teacher"),
        (0.9, 0.99, "below the teacher"),
        (1.01, 1.1, "above the teacher"),
    ],
)
def test_retention_is_compared_with_one(low: float, high: float, verdict: str) -> None:
    assert figures.verdict_against_teacher({"mean": 1.0, "low": low, "high": high}) == verdict


def test_undefined_figures_are_said_to_be_missing() -> None:
    assert figures.interval({"mean": float("nan"), "low": 0.0, "high": 1.0}) == "n/a"
    assert figures.interval(None) == "n/a"
    assert figures.interval({"mean": 0.5}) == "0.500"
    assert (
        figures.signed_interval({"mean": -0.0001, "low": -0.1, "high": 0.1})
        == "0.000 [-0.100, +0.100]"
    )
    assert (
        figures.percent(None)
        == figures.short_count(float("inf"))
        == figures.duration(None)
        == "n/a"
    )


def test_recipe_is_flattened_into_what_the_command_line_takes() -> None:
    nested = {"seed": 42, "stages": {"tune": {"dims": [4, 2], "template": "a\nb"}}, "sources": {}}
    assert list(figures.flatten(nested)) == [
        ("seed", "42"),
        ("stages.tune.dims", "[4, 2]"),
        ("stages.tune.template", '"a\\nb"'),
        ("sources", "{}"),
    ]


def test_clean_text_can_be_encoded() -> None:
    assert figures.clean("a\ud800\x00\x1bb\n").encode() == b"a?b\n"
