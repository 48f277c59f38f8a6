"""Every chart: well-formed, described, on its paper, and safe."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from markupsafe import Markup

from leafkit.report.charts.bars import Bar, bar_chart, grouped_bars
from leafkit.report.charts.plots import (
    Cloud,
    Dot,
    Series,
    frontier_chart,
    line_chart,
    square_scatter,
)
from leafkit.report.charts.svg import WIDTH, element

_BARS = [
    Bar(label="a", value=0.5, low=0.25, high=1.0, tone=1, text="0.50"),
    Bar(label="b", value=1.0, low=None, high=None, tone=2, text="1.00"),
]
_CLOUD = Cloud("a", [Dot(8, 0.1), Dot(3072, 0.5), Dot(0, 1)])
_CHARTS = {
    "bars": bar_chart("Title", "Words", _BARS),
    "intervals": bar_chart("Title", "Words", [Bar("a - b", -0.1, -0.2, 0.05)], dots=True),
    "grouped": grouped_bars("Title", "Words", [("int8", _BARS), ("binary", _BARS)]),
    "lines": line_chart(
        "Title",
        "Words",
        [Series("a", [(1, 2.0), (2, 3.0)]), Series("b", [(1, 1.0)])],
        "x",
        log_x=True,
    ),
    "no line": line_chart("Title", "Words", [], "x"),
    "no bar": bar_chart("Title", "Words", []),
    "no group": grouped_bars("Title", "Words", []),
    "band": line_chart(
        "Title",
        "Words",
        [Series("a", [(1, 2.0), (2, 3.0)], 1, [(1, 0.0, 4.0), (2, 2.0, 9.0)])],
        "x",
    ),
    "scatter": square_scatter(
        "Title", "Words", [Cloud("a", [Dot(x, y) for x in (0, 1) for y in (0, 1)] * 900)], "x"
    ),
    "frontier": frontier_chart(
        "Title",
        "Words",
        [Cloud("a", [Dot(8, 0.1), Dot(3072, 0.5), Dot(0, 1)])],
        "x",
        larger_is_better=False,
    ),
    "one point": frontier_chart(
        "Title", "Words", [Cloud("a", [Dot(2300, 0.1)])], "x", larger_is_better=True
    ),
    "no point": frontier_chart("Title", "Words", [], "x", larger_is_better=True),
    "flat": line_chart("Title", "Words", [Series("a", [(1, 0.0), (2, 0.0)])], "x"),
}


@pytest.mark.parametrize("name", _CHARTS)
def test_charts_are_well_formed_and_described(name: str) -> None:
    root = ElementTree.fromstring(_CHARTS[name])
    assert root.attrib["role"] == "img"
    assert root.attrib["aria-label"] == "Title"
    assert [(child.tag, child.text) for child in root[:2]] == [
        ("title", "Title"),
        ("desc", "Words"),
    ]
    assert not any("style" in e.attrib or "fill" in e.attrib for e in root.iter())


@pytest.mark.parametrize("name", [name for name in _CHARTS if not name.startswith("no ")])
def test_nothing_is_drawn_outside_of_the_paper(name: str) -> None:
    root = ElementTree.fromstring(_CHARTS[name])
    height = float(root.attrib["viewBox"].split()[3])
    for e in root.iter():
        for key in ("x", "x1", "x2", "cx"):
            assert 0 <= float(e.attrib.get(key, 0)) <= WIDTH
        for key in ("y", "y1", "y2", "cy"):
            assert 0 <= float(e.attrib.get(key, 0)) <= height


def test_hostile_labels_stay_text() -> None:
    chart = bar_chart("</title><script>", "&", [Bar("<script>alert(1)</script>", 1.0, text="<b>")])
    root = ElementTree.fromstring(chart)
    assert {e.tag for e in root.iter()} <= {"svg", "title", "desc", "g", "rect", "line", "text"}


def test_children_and_attributes_are_escaped() -> None:
    assert element("p", "<b>", title='"x"&') == '<p title="&#34;x&#34;&amp;">&lt;b&gt;</p>'
    assert element("p", Markup("<b></b>")) == "<p><b></b></p>"


def test_attribute_names_are_translated_numbers_are_short_and_none_is_left_out() -> None:
    made = element("i", class_="a", stroke_width=2.504, id=None)
    assert made == '<i class="a" stroke-width="2.5"></i>'


def test_both_axes_may_be_logarithmic() -> None:
    points = [(1, 0.01), (10, 0.1), (100, 1.0)]
    chart = line_chart("t", "d", [Series("a", points)], "x", log_x=True, log_y=True)
    marks = [e.attrib for e in ElementTree.fromstring(chart).iter("circle")]
    for key in ("cx", "cy"):
        a, b, c = (float(mark[key]) for mark in marks)
        assert b - a == pytest.approx(c - b, abs=0.02)
