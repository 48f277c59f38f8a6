"""Axes."""

from __future__ import annotations

import itertools

import pytest

from leafkit.report.charts.axes import Scale, log_ticks, tick_text, ticks


def test_logarithmic_scale_spaces_powers_evenly() -> None:
    scale = Scale(64, 1024, 0, 400, log=True)
    assert [round(scale(x), 6) for x in (64, 128, 256, 1024)] == [0, 100, 200, 400]


def test_a_scale_may_run_upwards() -> None:
    assert Scale(0, 1, 100, 0)(0.25) == 75


@pytest.mark.parametrize(
    ("low", "high"),
    [(0, 0.57), (-0.039, 0.116), (0, 382), (0.45, 0.57), (0, 0), (3, 3), (1e-7, 3e-7)],
)
def test_ticks_enclose_the_range_in_few_even_steps(low: float, high: float) -> None:
    marks = ticks(low, high)
    assert marks[0] <= low
    assert marks[-1] >= high
    assert 2 <= len(marks) <= 7
    steps = {round((b - a) / (marks[1] - marks[0]), 6) for a, b in itertools.pairwise(marks)}
    assert steps == {1.0}


def test_tick_text_has_a_true_minus_sign() -> None:
    assert tick_text(-0.05, [-0.05, 0.0]) == "\u22120.05"


@pytest.mark.parametrize(
    ("low", "high"), [(10, 12), (0.4, 7), (8, 3345), (1, 1e6), (1e-3, 1e9), (2200, 2300), (5, 5)]
)
def test_logarithmic_ticks_are_few_rise_and_lie_inside(low: float, high: float) -> None:
    marks = log_ticks(low, high)
    assert 1 <= len(marks) <= 13
    assert marks == sorted(set(marks))
    assert all(low * 0.95 <= mark <= high * 1.05 for mark in marks)
