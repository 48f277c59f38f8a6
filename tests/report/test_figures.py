"""Numbers in words."""

from __future__ import annotations

import doctest
from typing import Any

import pytest

from leafkit.report import figures, scale


@pytest.mark.parametrize("module", [figures, scale])
def test_examples_in_docstrings_hold(module: Any) -> None:
    result = doctest.testmod(module)
    assert result.attempted >= 3
    assert result.failed == 0


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(-0.01, 0.002, "within noise"), (0.0, 0.1, "within noise"), (0.001, 0.1, "higher"), (-0.1, -0.001, "lower")],
)
def test_noise_verdict_asks_whether_the_interval_contains_zero(low: float, high: float, verdict: str) -> None:
    assert figures.noise_verdict({"mean": 0.0, "low": low, "high": high}) == verdict


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.97, 1.01, "within noise of the teacher"), (0.9, 0.99, "below the teacher"), (1.01, 1.1, "above the teacher")],
)
def test_retention_is_compared_with_one(low: float, high: float, verdict: str) -> None:
    assert figures.verdict_against_teacher({"mean": 1.0, "low": low, "high": high}) == verdict


def test_verdict_names_share_interval_queries_size_and_speed(data: dict[str, Any]) -> None:
    home, away, size = figures.verdict_sentences(data)
    assert home.startswith("On pydocs (home, 1,109 queries), the student keeps 99.3% [98.1, 100.5] of the teacher's nDCG@10")
    assert "(asymmetric, within noise of the teacher)" in home
    assert "98.4% [97.0, 99.8] where it embeds queries and documents (symmetric, below the teacher)" in home
    assert away.startswith("On pydocs-away (away, 402 queries), it keeps 96.3%")
    assert "22.9M parameters, 39% of the teacher's 59.3M" in size
    assert "4.3 times as many queries per second (2 threads, float32, single queries)" in size


def test_speed_is_compared_at_equal_settings_only(data: dict[str, Any]) -> None:
    data["bench"]["latency"][1]["threads"] = 8
    assert figures.speed_up(data) is None
    assert not any("times as many" in sentence for sentence in figures.verdict_sentences(data))


def test_undefined_figures_are_said_to_be_missing() -> None:
    assert figures.interval({"mean": float("nan"), "low": 0.0, "high": 1.0}) == "n/a"
    assert figures.interval(None) == "n/a"
    assert figures.interval({"mean": 0.5}) == "0.500"
    assert figures.signed_interval({"mean": -0.0001, "low": -0.1, "high": 0.1}) == "0.000 [-0.100, +0.100]"
    assert figures.percent(None) == figures.short_count(float("inf")) == figures.duration(None) == "n/a"


def test_summary_of_inheritance_counts_verdicts(data: dict[str, Any]) -> None:
    assert figures.inherit_summary(data) == "Not passed: of 14 settings, 11 inherited, 2 not inherited, 1 undecided."
    data["inherit"] = {"passed": True, "rows": [{"verdict": "inherited"}]}
    assert figures.inherit_summary(data) == "Passed: of 1 settings, 1 inherited."


def test_recipe_is_flattened_into_what_the_command_line_takes() -> None:
    nested = {"seed": 42, "stages": {"tune": {"dims": [4, 2], "template": "a\nb"}}, "sources": {}}
    assert list(figures.flatten(nested)) == [
        ("seed", "42"), ("stages.tune.dims", "[4, 2]"), ("stages.tune.template", '"a\\nb"'), ("sources", "{}"),
    ]  # fmt: skip


def test_clean_text_can_be_encoded() -> None:
    assert figures.clean("a\ud800\x00\x1bb\n").encode() == b"a?b\n"
