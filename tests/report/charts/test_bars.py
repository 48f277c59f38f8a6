"""Bars: every mark where the numbers say."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from markupsafe import Markup

from leafkit.report.charts.bars import Bar, bar_chart, grouped_bars

_BARS = [
    Bar(label="a", value=0.5, low=0.25, high=1.0, tone=1, text="0.50"),
    Bar(label="b", value=1.0, low=None, high=None, tone=2, text="1.00"),
]


def _marks(chart: Markup, tag: str, class_: str = "") -> list[dict[str, str]]:
    root = ElementTree.fromstring(chart)
    return [e.attrib for e in root.iter(tag) if not class_ or e.attrib.get("class") == class_]


def test_horizontal_bars_and_whiskers_stand_where_the_numbers_say() -> None:
    chart = bar_chart("t", "d", _BARS)
    # 0 is at 17: one letter (7) and the gap (10); 1.0 is at 400: four letters (28) and the gap (12)
    # left of 440
    zero, one = 17.0, 400.0
    first, second = _marks(chart, "rect")
    assert (float(first["x"]), float(first["width"])) == (zero, (one - zero) / 2)
    assert float(second["width"]) == one - zero
    span, low_cap, high_cap = _marks(chart, "line", "whisker")
    assert (float(span["x1"]), float(span["x2"])) == (zero + (one - zero) / 4, one)
    assert span["y1"] == span["y2"] == "15"
    assert (low_cap["x1"], low_cap["x2"], low_cap["y1"], low_cap["y2"]) == (
        span["x1"],
        span["x1"],
        "11",
        "19",
    )
    assert high_cap["x1"] == high_cap["x2"] == span["x2"]


def test_a_bar_without_an_interval_has_no_whisker() -> None:
    assert not _marks(bar_chart("t", "d", _BARS[1:]), "line", "whisker")


def test_shared_bars_put_two_charts_on_one_scale() -> None:
    small, large = [Bar("a", 0.5)], [Bar("a", 1.0)]
    (half,), (whole,) = (
        _marks(bar_chart("t", "d", bars, shared=[*small, *large]), "rect")
        for bars in (small, large)
    )
    assert float(half["width"]) * 2 == float(whole["width"])


def test_differences_are_dots_around_a_line_at_zero() -> None:
    chart = bar_chart("t", "d", [Bar("a", -0.1, -0.2, 0.2), Bar("b", 0.1, 0.0, 0.2)], dots=True)
    (zero,) = _marks(chart, "line", "axis")
    left, right = _marks(chart, "circle")
    assert float(zero["x1"]) - float(left["cx"]) == pytest.approx(
        float(right["cx"]) - float(zero["x1"]), abs=0.02
    )
    assert float(left["cx"]) < float(zero["x1"])


def test_vertical_whiskers_follow_the_y_axis() -> None:
    chart = grouped_bars("t", "d", [("g", [Bar("a", 0.5, 0.25, 1.0)])], height=100)
    (rect,) = _marks(chart, "rect", "tone-1")[1:]  # the first is the legend's
    span, low_cap, high_cap = _marks(chart, "line", "whisker")
    bottom = float(rect["y"]) + float(rect["height"])
    assert float(rect["height"]) == 50
    assert (bottom - float(span["y1"]), bottom - float(span["y2"])) == (25, 100)
    assert span["x1"] == span["x2"]
    assert low_cap["y1"] == low_cap["y2"] == span["y1"]
    assert high_cap["y1"] == high_cap["y2"] == span["y2"]


@pytest.mark.parametrize(("num_groups", "shown"), [(3, {"100"}), (12, set())])
def test_texts_stand_above_the_bars_where_all_are_wide_enough(
    num_groups: int, shown: set[str]
) -> None:
    groups = [
        (f"precision {n}", [Bar("a", 100.0, text="100"), Bar("b", 99.0, text="100")])
        for n in range(num_groups)
    ]
    root = ElementTree.fromstring(grouped_bars("t", "d", groups))
    assert {
        e.text for e in root.iter("text") if e.text == "100" and e.attrib.get("class") == "small"
    } == shown
    assert sum(e.text == "a: 100" for e in root.iter("title")) == num_groups
