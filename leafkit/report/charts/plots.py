"""Charts over two axes: lines with bands, one dot per query, cost against quality."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from leafkit.report.charts import svg
from leafkit.report.charts.axes import Scale, log_ticks, ticks

_MAX_MARKED_POINTS = 16
_DOT_RADIUS, _SPACING, _LARGEST_SPIRAL = 2.2, 2.6, 15.0
_GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))
_MARGIN = 1.12  # free space beside the outermost points of a logarithmic axis
_SQUARE = 340.0
_QUARTERS = [0.0, 0.25, 0.5, 0.75, 1.0]


@dataclass(frozen=True, slots=True)
class Series:
    """Points (x, y) of one line, x rising, and the band (x, low, high) around it where its points
    have intervals.
    """

    name: str
    points: Sequence[tuple[float, float]]
    tone: int = 1
    band: Sequence[tuple[float, float, float]] = ()


@dataclass(frozen=True, slots=True)
class Dot:
    """A point and what its tooltip says, with the interval of y where it has one."""

    x: float
    y: float
    text: str = ""
    low: float | None = None
    high: float | None = None

    @property
    def ends(self) -> list[float]:
        """The interval's bounds; none where it has none."""
        return [self.low, self.high] if self.low is not None and self.high is not None else []


@dataclass(frozen=True, slots=True)
class Cloud:
    """Points of one name and one color."""

    name: str
    dots: Sequence[Dot]
    tone: int = 1


def line_chart(
    title: str,
    description: str,
    series: Sequence[Series],
    x_label: str,
    *,
    log_x: bool = False,
    x_marks: Sequence[float] = (),
    log_y: bool = False,
    y_label: str = "",
    height: float = 180.0,
) -> Markup:
    """Lines over a common x axis.

    Args:
        title: the chart's name, also its tooltip.
        description: what it shows, for screen readers.
        series: the lines; a legend names them where there are several.
        x_label: what x counts.
        log_x: space x by its logarithm; every x must be above 0.
        x_marks: where x gets a tick, rising; round numbers where empty.
        log_y: space y by its logarithm; every y must be above 0.
        y_label: what y counts.
        height: of the plot, in the units of the drawing.
    """
    xs = [x for s in series for x, _ in s.points]
    if not xs:
        return svg.chart(title, description, 1.0, [])
    ys = [y for s in series for _, y in s.points]
    ys += [end for s in series for _, *ends in s.band for end in ends]
    names, top = Markup(), 8.0
    if len(series) > 1:
        names, top = svg.legend([(s.name, s.tone) for s in series], as_line=True)
    title_y, top = svg.y_title(y_label, top)
    y_marks = (log_ticks if log_y else ticks)(min(ys), max(ys))
    left = svg.axis_room(y_marks)
    y = Scale(min(y_marks[0], *ys), max(y_marks[-1], *ys), top + height, top, log_y)
    x = Scale(min(xs), max(xs), left + 10, svg.WIDTH - 18, log_x)
    spread = (log_ticks if log_x else ticks)(min(xs), max(xs))
    marks = x_marks or [t for t in spread if min(xs) <= t <= max(xs)]
    parts = [
        names,
        title_y,
        svg.y_axis(y_marks, y, left),
        svg.x_axis(marks, x, top + height, x_label),
    ]
    parts += [_band(s, x, y) for s in series if s.band]  # below every line
    parts += [_line(s, x, y) for s in series]
    return svg.chart(title, description, top + height + 40, parts)


def _line(series: Series, x: Scale, y: Scale) -> Markup:
    placed = [(x(px), y(py)) for px, py in series.points]
    stroke = svg.element("polyline", points=svg.path(placed), class_=f"stroke-{series.tone}")
    marks = (
        [svg.marker(p, series.tone) for p in placed] if len(placed) <= _MAX_MARKED_POINTS else []
    )
    return svg.element("g", svg.element("title", series.name), stroke, *marks)


def _band(series: Series, x: Scale, y: Scale) -> Markup:
    upper = [(x(px), y(high)) for px, _, high in series.band]
    lower = [(x(px), y(low)) for px, low, _ in reversed(series.band)]
    return svg.element("polygon", points=svg.path(upper + lower), class_=f"band-{series.tone}")


def square_scatter(
    title: str, description: str, clouds: Sequence[Cloud], x_label: str, *, y_label: str = ""
) -> Markup:
    """Points of [0, 1] x [0, 1] around the diagonal, on which both scores are equal.

    Dots of one place are laid out in a spiral around it, in the order given, so that a crowd is as
    large as it is and the drawing is the same every time. Very large crowds are packed more
    densely, up to a fixed radius.
    """
    names, top = svg.legend([(c.name, c.tone) for c in clouds], as_line=False)
    title_y, top = svg.y_title(y_label, top)
    left, room = svg.axis_room(_QUARTERS), _LARGEST_SPIRAL + _DOT_RADIUS
    x = Scale(0.0, 1.0, left + room, svg.WIDTH - room)
    y = Scale(0.0, 1.0, top + _SQUARE - room, top + room)
    parts = [names, title_y, svg.y_axis(_QUARTERS, y, left)]
    parts.append(svg.x_axis(_QUARTERS, x, top + _SQUARE, x_label))
    parts.append(svg.line((x(0.0), y(0.0)), (x(1.0), y(1.0)), "axis"))
    sizes = Counter((dot.x, dot.y) for c in clouds for dot in c.dots)
    placed: Counter[tuple[float, float]] = Counter()
    for cloud in clouds:
        drawn = []
        for dot in cloud.dots:
            place = dot.x, dot.y
            dx, dy = spiral(placed[place], sizes[place])
            placed[place] += 1
            words = svg.element("title", dot.text)
            cx, cy = f"{x(dot.x) + dx:.1f}", f"{y(dot.y) + dy:.1f}"
            drawn.append(svg.element("circle", words, cx=cx, cy=cy, r=_DOT_RADIUS))
        parts.append(svg.element("g", *drawn, class_=f"dots tone-{cloud.tone}"))
    return svg.chart(title, description, top + _SQUARE + 40, parts)


def spiral(index: int, size: int) -> tuple[float, float]:
    """Offset of the ``index``-th of ``size`` dots around their common place, in the units of the
    drawing.

    Sunflower arrangement: radius by the square root of the index, turned by the golden angle (Vogel
    1979), which fills a disk evenly.
    """
    spacing = min(_SPACING, _LARGEST_SPIRAL / math.sqrt(size))
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
    front: list[Dot] = []
    for dot in sorted(dots, key=lambda d: (-d.x if larger_is_better else d.x, -d.y)):
        if not front or dot.y > front[-1].y:
            front.append(dot)
    return sorted(front, key=lambda d: d.x)


def frontier_chart(
    title: str,
    description: str,
    clouds: Sequence[Cloud],
    x_label: str,
    *,
    larger_is_better: bool,
    y_label: str = "",
    log_x: bool = True,
    height: float = 230.0,
) -> Markup:
    """Points over a logarithmic x axis, or one from 0, with a line through the Pareto front of each
    cloud. The y axis does not start at 0.

    Args:
        title: the chart's name, also its tooltip.
        description: what it shows, for screen readers.
        clouds: what is compared; points whose x is not above 0 have no place and are left out.
        x_label: what x counts.
        larger_is_better: whether a larger x is better (queries per second) or worse (bytes).
        y_label: what y counts.
        log_x: space x by its logarithm; else from 0.
        height: of the plot, in the units of the drawing.
    """
    kept = [Cloud(c.name, [d for d in c.dots if d.x > 0], c.tone) for c in clouds]
    shown = [c for c in kept if c.dots]
    if not shown:
        return svg.chart(title, description, 1.0, [])
    names, top = svg.legend([(c.name, c.tone) for c in shown], as_line=True)
    title_y, top = svg.y_title(y_label, top)
    fronts = [pareto_front(c.dots, larger_is_better) for c in shown]
    xs, ys = [d.x for c in shown for d in c.dots], [d.y for c in shown for d in c.dots]
    ys += [end for front in fronts for d in front for end in d.ends]
    y_marks = ticks(min(ys), max(ys))
    left = svg.axis_room(y_marks)
    y = Scale(y_marks[0], y_marks[-1], top + height, top)
    low = min(xs) / _MARGIN if log_x else 0.0
    x = Scale(low, max(xs) * _MARGIN, left + 8, svg.WIDTH - 14, log=log_x)
    x_marks = log_ticks(x.low, x.high) if log_x else ticks(0.0, max(xs))
    parts = [
        names,
        title_y,
        svg.y_axis(y_marks, y, left),
        svg.x_axis([mark for mark in x_marks if mark <= x.high], x, top + height, x_label),
    ]
    parts += [_front(c, front, x, y) for c, front in zip(shown, fronts, strict=True)]
    return svg.chart(title, description, top + height + 40, parts)


def _front(cloud: Cloud, front: Sequence[Dot], x: Scale, y: Scale) -> Markup:
    """A line through the front with the intervals of its points, and all points, those of the
    front above the others.
    """
    best = set(front)
    points = [
        svg.element(
            "g",
            svg.element("title", f"{cloud.name}: {d.text}"),
            svg.marker((x(d.x), y(d.y)), cloud.tone),
            class_=None if d in best else "beaten",
        )
        for d in sorted(cloud.dots, key=lambda d: d in best)
    ]
    stroke = svg.path((x(d.x), y(d.y)) for d in front)
    front_line = svg.element("polyline", points=stroke, class_=f"stroke-{cloud.tone} thin")
    whiskers = [
        svg.line((x(d.x), y(d.low)), (x(d.x), y(d.high)), f"stroke-{cloud.tone} thin")
        for d in front
        if d.low is not None and d.high is not None
    ]
    return svg.element("g", *whiskers, front_line, *points, class_="points")
