"""Lines with their bands."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from leafkit.report.curves import Series, line_chart
from leafkit.report.markup import Safe


def _marks(chart: Safe, tag: str, class_: str = "") -> list[dict[str, str]]:
    root = ElementTree.fromstring(chart)
    return [e.attrib for e in root.iter(tag) if not class_ or e.attrib.get("class") == class_]


def test_series_differ_in_more_than_color_and_x_is_logarithmic() -> None:
    lines = [Series(str(tone), [(64, 1.0), (128, 2.0), (256, 3.0)], tone) for tone in (1, 2, 3)]
    chart = line_chart("t", "d", lines, "dim", log_x=True, x_marks=[64, 128, 256])
    shapes = {tag: len(_marks(chart, tag)) for tag in ("circle", "rect", "polygon")}
    assert shapes == {"circle": 4, "rect": 4, "polygon": 4}  # three points and one in the legend
    xs = [float(m["cx"]) for m in _marks(chart, "circle")[1:]]
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.02)


def test_a_band_lies_below_the_lines_and_inside_the_plot() -> None:
    points = [(64, 90.0), (128, 100.0)]
    band = [(64, 80.0, 95.0), (128, 98.0, 104.0)]
    chart = line_chart(
        "t", "d", [Series("a", points, 3, band)], "dim", log_x=True, x_marks=[64, 128], height=100
    )
    (polygon,) = _marks(chart, "polygon", "band-3")
    corners = [tuple(map(float, pair.split(","))) for pair in polygon["points"].split()]
    assert len(corners) == 4
    (line,) = _marks(chart, "polyline", "stroke-3")
    (x_low, y_90), (x_high, y_100) = (
        tuple(map(float, pair.split(","))) for pair in line["points"].split()
    )
    unit = (y_90 - y_100) / 10
    assert corners == [
        (x_low, pytest.approx(y_90 - 5 * unit, abs=0.02)),
        (x_high, pytest.approx(y_100 - 4 * unit, abs=0.02)),
        (x_high, pytest.approx(y_100 + 2 * unit, abs=0.02)),
        (x_low, pytest.approx(y_90 + 10 * unit, abs=0.02)),
    ]
    assert all(8 <= y <= 108 for _, y in corners)
    assert chart.index("band-3") < chart.index("stroke-3")


def test_crowded_numbers_of_an_axis_are_left_out() -> None:
    chart = line_chart(
        "t",
        "d",
        [Series("a", [(1, 0.0), (1000, 1.0)])],
        "x",
        log_x=True,
        x_marks=[1, 900, 950, 1000],
    )
    texts = [e.text for e in ElementTree.fromstring(chart).iter("text")]
    assert "900" in texts
    assert "950" not in texts
