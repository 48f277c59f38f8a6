"""Single points: one dot per query, and the Pareto front."""

from __future__ import annotations

import itertools
import math
import random
from xml.etree import ElementTree

import pytest

from leafkit.report.markup import Safe
from leafkit.report.plots import Cloud, Dot, frontier_chart, pareto_front, spiral, square_scatter


def _circles(chart: Safe) -> list[tuple[float, float]]:
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
