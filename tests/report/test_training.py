"""Curves of the spectrum and of the losses."""

from __future__ import annotations

import math
from typing import Any
from xml.etree import ElementTree

import pytest
from report_page import read_report

from leafkit.report import training


def _points(markup: str, class_: str) -> list[str]:
    lines = ElementTree.fromstring(markup).iter("polyline")
    (line,) = [e for e in lines if e.attrib["class"] == class_]
    return line.attrib["points"].split()


@pytest.mark.parametrize(("num_steps", "num_points"), [(100, 100), (1200, 120), (1201, 110)])
def test_long_curves_are_means_over_equal_stretches(num_steps: int, num_points: int) -> None:
    report = read_report({"losses": {"student": [2.0] * num_steps}})
    ((name, drawn),) = training.loss_charts(report)
    assert name == "student"
    assert drawn.caption == "2 \N{RIGHTWARDS ARROW} 2"
    assert len(_points(drawn.chart, "stroke-3")) == num_points


def test_undefined_losses_are_left_out_and_one_is_no_curve() -> None:
    report = read_report({"losses": {"a": [1.0, math.nan, 0.5], "b": [1.0], "c": [math.nan] * 9}})
    ((name, drawn),) = training.loss_charts(report)
    assert (name, drawn.caption) == ("a", "1 \N{RIGHTWARDS ARROW} 0.5")


def test_the_variance_is_cumulative_and_ends_at_what_the_eigenvalues_hold(
    full: dict[str, Any],
) -> None:
    full["diagnosis"] |= {"eigenvalues": [4.0, 2.0, 1.0, 1.0], "total_variance": 8.0}
    found = read_report(full).diagnosis
    assert found is not None
    drawn = training.rank_chart(found.figures)
    assert drawn is not None
    assert "variance: 50.0% at 1, 100.0% at 4" in drawn.chart
    assert len(_points(drawn.chart, "stroke-5")) == 4


def test_turned_heads_are_drawn_beside_the_teachers_own(full: dict[str, Any]) -> None:
    found = read_report(full).diagnosis
    assert found is not None
    drawn = training.head_chart(found.figures)
    assert drawn is not None
    assert "turned at random: 82.0% at 64, 95.0% at 768" in drawn.chart
    for row in full["diagnosis"]["dims"]:
        row.pop("random")
    alone = read_report(full).diagnosis
    assert alone is not None
    drawn = training.head_chart(alone.figures)
    assert drawn is not None
    assert "turned at random" not in drawn.chart + drawn.caption
