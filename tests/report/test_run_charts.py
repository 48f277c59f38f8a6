"""The charts of one run: what they are drawn from."""

from __future__ import annotations

import math
from typing import Any

import pytest
from report_page import read_report

from leafkit.report import facts, run_charts
from leafkit.results import Interval


def test_all_collections_are_drawn_on_one_scale(full: dict[str, Any]) -> None:
    parts = facts.scored(read_report(full))
    alone = run_charts.retrieval_chart(parts[2], parts[2:])
    beside = run_charts.retrieval_chart(parts[2], parts)
    assert alone is not None
    assert beside is not None
    assert alone.chart.count("<rect") == beside.chart.count("<rect") == 6


def test_what_the_interval_does_not_tell_from_zero_is_grey(data: dict[str, Any]) -> None:
    home = facts.scored(read_report(data))[0]
    drawn = run_charts.difference_chart(home, [home])
    assert drawn is not None
    # symmetric - teacher and teacher - baseline are clear of 0
    assert drawn.chart.count('class="tone-1"') == 2
    assert drawn.chart.count('class="tone-5"') == 2


def test_precisions_are_drawn_in_groups_of_four_at_most(full: dict[str, Any]) -> None:
    template = full["inherit"]["rows"][0]
    names = ["float32", "float16", "int8", "int4", "int2", "binary", "ternary"]
    full["inherit"]["rows"] = [template | {"precision": name} for name in names]
    grid = read_report(full).inheritance
    assert grid is not None
    charts = run_charts.precision_charts(grid.cells)
    assert len(charts) == 2
    for name in names:
        assert sum(f"{name}</text>" in drawn.chart for drawn in charts) == 1


def test_one_dimension_makes_no_curve_and_undefined_shares_no_point(full: dict[str, Any]) -> None:
    line = run_charts.Line("a", 1, {64: Interval(0.9, 0.8, 1.0)})
    assert run_charts.matryoshka_chart("t", [line]) is None
    series = run_charts.retention_series("a", 1, {64: Interval(math.nan, 0.0, 0.0)})
    assert series.points == []
    bare = run_charts.retention_series("a", 1, {64: Interval(0.9, math.nan, math.nan)})
    assert (bare.points, bare.band) == ([(64, 90.0)], [])
    unknown = Interval(0.9, math.nan, math.nan)
    assert run_charts.matryoshka_chart("t", [run_charts.Line("a", 1, {64: unknown, 128: unknown})])


@pytest.mark.parametrize(("low", "is_said"), [(0.8, True), (0.02, False)])
def test_the_caption_says_where_the_y_axis_does_not_start_at_0(low: float, is_said: bool) -> None:
    line = run_charts.Line("a", 1, {64: Interval(0.9, low, 1.0), 128: Interval(1.0, 1.0, 1.0)})
    drawn = run_charts.matryoshka_chart("t", [line])
    assert drawn is not None
    assert ("The y axis does not start at 0." in drawn.caption) is is_said
    assert (">0</text>" in drawn.chart) is not is_said
