"""Charts of single points: one dot per query, and what each setting costs against what it keeps."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from leafkit.report.markup import Safe, element
from leafkit.report.scale import Scale, log_ticks, ticks
from leafkit.report.svg import (
    WIDTH,
    axis_room,
    chart,
    legend,
    line,
    lying_axis,
    marker,
    path,
    upright_axis,
)

# radius of a dot, distance in a spiral, radius of the largest spiral
_DOT, _SPACING, _LARGEST = (
    2.2,
    2.6,
    15.0,
)
_GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))
_MARGIN = 1.12  # free space beside the outermost points of a logarithmic axis
_SQUARE = 340.0


@dataclass(frozen=True, slots=True)
class Dot:
    """A point and what its tooltip says."""

    x: float
    y: float
    text: str = ""


@dataclass(frozen=True, slots=True)
class Cloud:
    """Points of one name and one colour."""

    name: str
    dots: Sequence[Dot]
    tone: int = 1


def square_scatter(title: str, description: str, clouds: Sequence[Cloud], x_label: str) -> Safe:
    """Points of [0, 1] x [0, 1] around the diagonal, on which both scores are equal.

    Dots of one place are laid out in a spiral around it, in the order given, so that a crowd is as
    large as it is and the drawing is the same every time. Very large crowds are packed more
    densely, up to a fixed radius.
    """
    names, top = legend([(c.name, c.tone) for c in clouds], as_line=False)
    marks = [0.0, 0.25, 0.5, 0.75, 1.0]
    left = axis_room(marks)
    room = _LARGEST + _DOT
    x, y = (
        Scale(0.0, 1.0, left + room, WIDTH - room),
        Scale(0.0, 1.0, top + _SQUARE - room, top + room),
    )
    parts = [names, upright_axis(marks, y, left), lying_axis(marks, x, top + _SQUARE, x_label)]
    parts.append(line(x(0.0), y(0.0), x(1.0), y(1.0), "axis"))
    sizes: dict[tuple[float, float], int] = defaultdict(int)
    for dot in (dot for c in clouds for dot in c.dots):
        sizes[dot.x, dot.y] += 1
    placed: dict[tuple[float, float], int] = defaultdict(int)
    for cloud in clouds:
        drawn = []
        for dot in cloud.dots:
            place = dot.x, dot.y
            dx, dy = spiral(placed[place], sizes[place])
            placed[place] += 1
            drawn.append(
                element(
                    "circle",
                    element("title", dot.text),
                    cx=f"{x(dot.x) + dx:.1f}",
                    cy=f"{y(dot.y) + dy:.1f}",
                    r=_DOT,
                )
            )
        parts.append(element("g", *drawn, class_=f"dots tone-{cloud.tone}"))
    return chart(title, description, top + _SQUARE + 40, parts)


def spiral(index: int, size: int) -> tuple[float, float]:
    """Offset of the ``index``-th of ``size`` dots around their common place, in the units of the
    drawing.

    Sunflower arrangement: radius by the square root of the index, turned by the golden angle (Vogel
    1979), which fills a disk evenly.
    """
    spacing = min(_SPACING, _LARGEST / math.sqrt(size))
    radius = spacing * math.sqrt(index)
    return radius * math.cos(index * _GOLDEN_ANGLE), radius * math.sin(index * _GOLDEN_ANGLE)


def pareto_front(dots: Iterable[Dot], larger_is_better: bool) -> list[Dot]:
    """The dots that no other one beats: none is at least as good in both x and y and better in one.
    In the order of x.

    Args:
        dots: y is better where larger.
        larger_is_better: what holds for x.

    >>> [d.x for d in pareto_front([Dot(1, 0.2), Dot(2, 0.1), Dot(3, 0.3)], larger_is_better=False)]
    [1, 3]
    """
    best_first = sorted(dots, key=lambda d: (-d.x if larger_is_better else d.x, -d.y))
    front: list[Dot] = []
    for dot in best_first:
        if not front or dot.y > front[-1].y:
            front.append(dot)
    return sorted(front, key=lambda d: d.x)


def frontier_chart(
    title: str,
    description: str,
    clouds: Sequence[Cloud],
    x_label: str,
    larger_is_better: bool,
    height: float = 230.0,
) -> Safe:
    """Points over a logarithmic x axis, with a line through the Pareto front of each cloud. The y
    axis does not start at 0.

    Args:
        title: the chart's name, also its tooltip.
        description: what it shows, for screen readers.
        clouds: what is compared; points whose x is not above 0 have no place and are left out.
        x_label: what x counts.
        larger_is_better: whether a larger x is better (queries per second) or worse (bytes).
        height: of the plot, in the units of the drawing.
    """
    kept = [Cloud(c.name, [d for d in c.dots if d.x > 0], c.tone) for c in clouds]
    shown = [c for c in kept if c.dots]
    if not shown:
        return chart(title, description, 1.0, [])
    names, top = legend([(c.name, c.tone) for c in shown], as_line=True)
    xs, ys = (
        [value for c in shown for value in (getattr(d, axis) for d in c.dots)]
        for axis in ("x", "y")
    )
    y_marks = ticks(min(ys), max(ys))
    left = axis_room(y_marks)
    y = Scale(y_marks[0], y_marks[-1], top + height, top)
    x = Scale(min(xs) / _MARGIN, max(xs) * _MARGIN, left + 8, WIDTH - 14, log=True)
    parts = [
        names,
        upright_axis(y_marks, y, left),
        lying_axis(log_ticks(x.low, x.high), x, top + height, x_label),
    ]
    for cloud in shown:
        best = set(pareto_front(cloud.dots, larger_is_better))
        ordered = sorted(cloud.dots, key=lambda d: d in best)  # those of the front above the others
        points = [
            element(
                "g",
                element("title", f"{cloud.name}: {d.text}"),
                marker(x(d.x), y(d.y), cloud.tone),
                class_=None if d in best else "beaten",
            )
            for d in ordered
        ]
        front_line = element(
            "polyline",
            points=path([(x(d.x), y(d.y)) for d in sorted(best, key=lambda d: d.x)]),
            class_=f"stroke-{cloud.tone} thin",
        )
        parts.append(element("g", front_line, *points, class_="points"))
    return chart(title, description, top + height + 40, parts)
