"""Numbers in words."""

from __future__ import annotations

import doctest
import math
from typing import Any

import pytest

from leafkit.report import environment, facts
from leafkit.report import format as fmt
from leafkit.report.charts import axes, plots, svg
from leafkit.results import Interval


@pytest.mark.parametrize("module", [axes, environment, facts, fmt, plots, svg])
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
    assert fmt.noise_verdict(Interval(0.0, low, high)) == verdict


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.97, 1.01, "within noise of the teacher"),
        (0.9, 0.99, "below the teacher"),
        (1.01, 1.1, "above the teacher"),
    ],
)
def test_retention_is_compared_with_one(low: float, high: float, verdict: str) -> None:
    assert fmt.verdict_against_teacher(Interval(1.0, low, high)) == verdict


def test_undefined_figures_are_said_to_be_missing() -> None:
    undefined = Interval(math.nan, 0.0, 1.0)
    for write in (fmt.interval, fmt.percent_interval, fmt.signed_interval):
        assert write(undefined) == write(None) == "n/a"
    assert fmt.percent(None) == fmt.short_count(math.inf) == fmt.duration(math.nan) == "n/a"


def test_recipe_is_flattened_into_what_the_command_line_takes() -> None:
    nested = {"seed": 42, "stages": {"tune": {"dims": [4, 2], "template": "a\nb"}}, "sources": {}}
    assert list(fmt.flatten(nested)) == [
        ("seed", "42"),
        ("stages.tune.dims", "[4, 2]"),
        ("stages.tune.template", '"a\\nb"'),
        ("sources", "{}"),
    ]


def test_clean_text_can_be_encoded() -> None:
    assert fmt.clean("a\ud800\x00\x1bb\n").encode() == b"a?b\n"
