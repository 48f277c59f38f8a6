"""Charts: well-formed, described, and every mark where the numbers say."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from leafkit.report.markup import Safe
from leafkit.report.svg import WIDTH, Bar, Series, bar_chart, grouped_bars, interval_chart, line_chart

_BARS = [Bar("a", 0.5, 0.25, 1.0, 1, "0.50"), Bar("b", 1.0, None, None, 2, "1.00")]
_CHARTS = {
    "bars": bar_chart("Title", "Words", _BARS),
    "intervals": interval_chart("Title", "Words", [Bar("a - b", -0.1, -0.2, 0.05)]),
    "grouped": grouped_bars("Title", "Words", [("int8", _BARS), ("binary", _BARS)]),
    "lines": line_chart("Title", "Words", [Series("a", [(1, 2.0), (2, 3.0)]), Series("b", [(1, 1.0)])], "x", log_x=True),
    "no line": line_chart("Title", "Words", [], "x"),
    "no bar": bar_chart("Title", "Words", []),
    "no group": grouped_bars("Title", "Words", []),
    "flat": line_chart("Title", "Words", [Series("a", [(1, 0.0), (2, 0.0)])], "x"),
}


def _marks(chart: Safe, tag: str, class_: str = "") -> list[dict[str, str]]:
    root = ElementTree.fromstring(chart)
    return [e.attrib for e in root.iter(tag) if not class_ or e.attrib.get("class") == class_]


@pytest.mark.parametrize("name", _CHARTS)
def test_charts_are_well_formed_and_described(name: str) -> None:
    root = ElementTree.fromstring(_CHARTS[name])
    assert root.attrib["role"] == "img"
    assert root.attrib["aria-label"] == "Title"
    assert [(child.tag, child.text) for child in root[:2]] == [("title", "Title"), ("desc", "Words")]
    assert not any("style" in e.attrib or "fill" in e.attrib for e in root.iter())


@pytest.mark.parametrize("name", [name for name in _CHARTS if name != "no line"])
def test_nothing_is_drawn_outside_of_the_paper(name: str) -> None:
    root = ElementTree.fromstring(_CHARTS[name])
    height = float(root.attrib["viewBox"].split()[3])
    for e in root.iter():
        for key in ("x", "x1", "x2", "cx"):
            assert 0 <= float(e.attrib.get(key, 0)) <= WIDTH
        for key in ("y", "y1", "y2", "cy"):
            assert 0 <= float(e.attrib.get(key, 0)) <= height


def test_horizontal_bars_and_whiskers_stand_where_the_numbers_say() -> None:
    chart = bar_chart("t", "d", _BARS)
    # 0 is at 17: one letter (7) and the gap (10); 1.0 is at 400: four letters (28) and the gap (12) left of 440
    zero, one = 17.0, 400.0
    first, second = _marks(chart, "rect")
    assert (float(first["x"]), float(first["width"])) == (zero, (one - zero) / 2)
    assert float(second["width"]) == one - zero
    span, low_cap, high_cap = _marks(chart, "line", "whisker")
    assert (float(span["x1"]), float(span["x2"])) == (zero + (one - zero) / 4, one)
    assert span["y1"] == span["y2"] == "15"
    assert (low_cap["x1"], low_cap["x2"], low_cap["y1"], low_cap["y2"]) == (span["x1"], span["x1"], "11", "19")
    assert high_cap["x1"] == high_cap["x2"] == span["x2"]


def test_a_bar_without_an_interval_has_no_whisker() -> None:
    assert not _marks(bar_chart("t", "d", _BARS[1:]), "line", "whisker")


def test_shared_bars_put_two_charts_on_one_scale() -> None:
    small, large = [Bar("a", 0.5)], [Bar("a", 1.0)]
    (half,), (whole,) = (_marks(bar_chart("t", "d", bars, [*small, *large]), "rect") for bars in (small, large))
    assert float(half["width"]) * 2 == float(whole["width"])


def test_differences_are_dots_around_a_line_at_zero() -> None:
    chart = interval_chart("t", "d", [Bar("a", -0.1, -0.2, 0.2), Bar("b", 0.1, 0.0, 0.2)])
    (zero,) = _marks(chart, "line", "axis")
    left, right = _marks(chart, "circle")
    assert float(zero["x1"]) - float(left["cx"]) == pytest.approx(float(right["cx"]) - float(zero["x1"]), abs=0.02)
    assert float(left["cx"]) < float(zero["x1"])


def test_upright_whiskers_follow_the_y_axis() -> None:
    chart = grouped_bars("t", "d", [("g", [Bar("a", 0.5, 0.25, 1.0)])], height=100)
    (rect,) = _marks(chart, "rect", "tone-1")[1:]  # the first is the legend's
    span, low_cap, high_cap = _marks(chart, "line", "whisker")
    bottom = float(rect["y"]) + float(rect["height"])
    assert float(rect["height"]) == 50
    assert (bottom - float(span["y1"]), bottom - float(span["y2"])) == (25, 100)
    assert span["x1"] == span["x2"]
    assert low_cap["y1"] == low_cap["y2"] == span["y1"]
    assert high_cap["y1"] == high_cap["y2"] == span["y2"]


def test_series_differ_in_more_than_colour_and_x_is_logarithmic() -> None:
    lines = [Series(str(tone), [(64, 1.0), (128, 2.0), (256, 3.0)], tone) for tone in (1, 2, 3)]
    chart = line_chart("t", "d", lines, "dim", log_x=True, x_marks=[64, 128, 256])
    shapes = {tag: len(_marks(chart, tag)) for tag in ("circle", "rect", "polygon")}
    assert shapes == {"circle": 4, "rect": 4, "polygon": 4}  # three points and one in the legend
    xs = [float(m["cx"]) for m in _marks(chart, "circle")[1:]]
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.02)


def test_hostile_labels_stay_text() -> None:
    chart = bar_chart("</title><script>", "&", [Bar("<script>alert(1)</script>", 1.0, text="<b>")])
    root = ElementTree.fromstring(chart)
    assert {e.tag for e in root.iter()} <= {"svg", "title", "desc", "g", "rect", "line", "text"}
