"""Charts over two axes: one dot per query, the Pareto front, lines with their bands."""

from __future__ import annotations

import itertools
import math
import random
from xml.etree import ElementTree

import pytest
from markupsafe import Markup

from leafkit.report.charts.plots import (
    Cloud,
    Dot,
    Series,
    frontier_chart,
    line_chart,
    pareto_front,
    spiral,
    square_scatter,
)


def _circles(chart: Markup) -> list[tuple[float, float]]:
    return [
        (float(e.attrib["cx"]), float(e.attrib["cy"]))
        for e in ElementTree.fromstring(chart).iter("circle")
    ]


def test_every_query_has_its_dot_and_its_title() -> None:
    clouds = [
        Cloud("worse", [Dot(1.0, 0.0, "<a>")], 4),
        Cloud("equal", [Dot(0.5, 0.5, "b"), Dot(0.5, 0.5, "c")], 5),
    ]
    chart = square_scatter("t", "d", clouds, "x")
    root = ElementTree.fromstring(chart)
    assert [e.findtext("title") for e in root.iter("circle")] == ["<a>", "b", "c"]
    assert [e.attrib["class"] for e in root.iter("g")] == ["dots tone-4", "dots tone-5"]


def test_dots_stand_where_the_scores_say() -> None:
    (origin, right, top) = _circles(
        square_scatter("t", "d", [Cloud("a", [Dot(0, 0), Dot(1, 0), Dot(0, 1)])], "x")
    )
    assert origin[1] == right[1] > top[1]
    assert origin[0] == top[0] < right[0]
    lines = ElementTree.fromstring(square_scatter("t", "d", [Cloud("a", [Dot(0, 0)])], "x")).iter(
        "line"
    )
    (diagonal,) = [
        e for e in lines if e.attrib["x1"] != e.attrib["x2"] and e.attrib["y1"] != e.attrib["y2"]
    ]
    assert float(diagonal.attrib["x1"]) == pytest.approx(origin[0], abs=0.1)
    assert float(diagonal.attrib["y2"]) == pytest.approx(top[1], abs=0.1)


def test_dots_of_one_place_are_apart_and_the_same_every_time() -> None:
    dots = [Dot(1.0, 1.0, str(n)) for n in range(30)]
    chart = square_scatter("t", "d", [Cloud("a", dots)], "x")
    assert chart == square_scatter("t", "d", [Cloud("a", dots)], "x")
    places = _circles(chart)
    assert len(set(places)) == 30
    nearest = min(math.dist(a, b) for a, b in itertools.combinations(places, 2))
    assert nearest > 2


def test_dots_of_one_place_in_two_colors_share_one_spiral() -> None:
    places = _circles(
        square_scatter("t", "d", [Cloud("a", [Dot(0.5, 0.5)]), Cloud("b", [Dot(0.5, 0.5)])], "x")
    )
    assert len(set(places)) == 2


@pytest.mark.parametrize("size", [1, 2, 50, 2000])
def test_a_crowd_grows_with_its_size_up_to_a_fixed_radius(size: int) -> None:
    radii = [math.hypot(*spiral(n, size)) for n in range(size)]
    assert radii[0] == 0
    assert max(radii) <= 15
    assert max(radii) == radii[-1]
    assert max(radii) > 14 or size < 50


def _beats(a: Dot, b: Dot, larger_is_better: bool) -> bool:
    x = a.x - b.x if larger_is_better else b.x - a.x
    return x >= 0 and a.y >= b.y and (x > 0 or a.y > b.y)


@pytest.mark.parametrize("larger_is_better", [True, False])
@pytest.mark.parametrize("seed", range(20))
def test_the_pareto_front_is_what_nothing_beats(seed: int, larger_is_better: bool) -> None:
    draw = random.Random(seed)
    dots = list(
        dict.fromkeys(
            Dot(draw.randint(1, 6), draw.randint(1, 6)) for _ in range(draw.randint(1, 20))
        )
    )
    expected = [d for d in dots if not any(_beats(other, d, larger_is_better) for other in dots)]
    assert pareto_front(dots, larger_is_better) == sorted(expected, key=lambda d: d.x)


def test_the_front_is_joined_and_the_others_are_faint() -> None:
    dots = [Dot(100, 0.5, "a"), Dot(1000, 0.4, "beaten"), Dot(1000, 0.6, "b")]
    root = ElementTree.fromstring(
        frontier_chart("t", "d", [Cloud("teacher", dots)], "bytes", larger_is_better=False)
    )
    (line,) = root.iter("polyline")
    assert len(line.attrib["points"].split()) == 2
    faint = [e.findtext("title") for e in root.iter("g") if e.attrib.get("class") == "beaten"]
    assert faint == ["teacher: beaten"]
    assert {e.text for e in root.iter("title")} >= {"teacher: a", "teacher: b"}


def test_powers_of_ten_are_evenly_spaced_and_what_has_no_logarithm_is_left_out() -> None:
    dots = [Dot(10, 0.1), Dot(100, 0.2), Dot(1000, 0.3), Dot(0, 9.9), Dot(-1, 9.9)]
    circles = _circles(
        frontier_chart("t", "d", [Cloud("a", dots, 1)], "bytes", larger_is_better=False)
    )[1:]
    assert len(circles) == 3
    (a, _), (b, _), (c, _) = sorted(circles)
    assert b - a == pytest.approx(c - b, abs=0.02)


# --- lines with their bands


def _marks(chart: Markup, tag: str, class_: str = "") -> list[dict[str, str]]:
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


@pytest.mark.parametrize(
    "chart",
    [
        line_chart("t", "d", [Series("a", [(1, 2), (3, 4)])], "x", y_label="% kept"),
        square_scatter("t", "d", [Cloud("a", [Dot(0, 0)])], "x", y_label="% kept"),
        frontier_chart(
            "t", "d", [Cloud("a", [Dot(1, 2)])], "x", larger_is_better=False, y_label="% kept"
        ),
    ],
)
def test_both_axes_say_what_they_count_within_the_drawing(chart: Markup) -> None:
    texts = list(ElementTree.fromstring(chart).iter("text"))
    assert {"x", "% kept"} <= {e.text for e in texts}
    width, height = map(float, ElementTree.fromstring(chart).attrib["viewBox"].split()[2:])
    for e in texts:
        assert 0 <= float(e.attrib["x"]) <= width
        assert 0 < float(e.attrib["y"]) <= height


def test_a_front_has_the_intervals_of_its_points_and_room_for_them() -> None:
    dots = [Dot(10, 0.5, "a", 0.3, 0.9), Dot(20, 0.4, "b", 0.1, 0.95), Dot(20, 0.6, "c")]
    chart = frontier_chart("t", "d", [Cloud("s", dots)], "x", larger_is_better=False, log_x=False)
    root = ElementTree.fromstring(chart)
    (whisker,) = [e for e in root.iter("line") if "thin" in e.attrib["class"]]
    ends = sorted(float(whisker.attrib[name]) for name in ("y1", "y2"))
    (points,) = [e for e in root.iter("g") if e.attrib.get("class") == "points"]  # not the legend
    circles = sorted((float(e.attrib["cx"]), float(e.attrib["cy"])) for e in points.iter("circle"))
    assert len(circles) == len(dots)
    assert circles[0][0] == pytest.approx(float(whisker.attrib["x1"]), abs=0.1)
    assert ends[0] < circles[0][1] < ends[1]
    assert ends[0] > 0
    # an axis from 0: twice the value is twice as far
    zero = 2 * circles[0][0] - circles[1][0]
    ticks = {e.text: float(e.attrib["x"]) for e in root.iter("text")}
    assert ticks["0"] == pytest.approx(zero, abs=0.1)
