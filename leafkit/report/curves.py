"""Line charts with the bands of their intervals: pure functions from numbers to markup."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from leafkit.report.markup import Safe, element
from leafkit.report.scale import Scale, log_ticks, ticks
from leafkit.report.svg import (
    WIDTH,
    axis_room,
    chart,
    legend,
    lying_axis,
    marker,
    path,
    upright_axis,
)

_MAX_MARKED_POINTS = 16


@dataclass(frozen=True, slots=True)
class Series:
    """Points (x, y) of one line, x rising, and the band (x, low, high) around it where its points
    have intervals.
    """

    name: str
    points: Sequence[tuple[float, float]]
    tone: int = 1
    band: Sequence[tuple[float, float, float]] = ()


def line_chart(
    title: str,
    description: str,
    series: Sequence[Series],
    x_label: str,
    log_x: bool = False,
    x_marks: Sequence[float] = (),
    from_zero: bool = False,
    height: float = 180.0,
) -> Safe:
    """Lines over a common x axis.

    Args:
        title: the chart's name, also its tooltip.
        description: what it shows, for screen readers.
        series: the lines; a legend names them where there are several.
        x_label: what x counts.
        log_x: space x by its logarithm; every x must be above 0.
        x_marks: where x gets a tick, rising; round numbers where empty.
        from_zero: let the y axis start at 0 and not near the smallest value.
        height: of the plot, in the units of the drawing.
    """
    points = [point for s in series for point in s.points]
    if not points:
        return chart(title, description, 1.0, [])
    names, top = (
        legend([(s.name, s.tone) for s in series], as_line=True)
        if len(series) > 1
        else (Safe(""), 8.0)
    )
    xs, ys = (
        [p[0] for p in points],
        [p[1] for p in points] + [end for s in series for b in s.band for end in b[1:]],
    )
    y_marks = ticks(min(0.0, *ys) if from_zero else min(ys), max(ys))
    left = axis_room(y_marks)
    y = Scale(y_marks[0], y_marks[-1], top + height, top)
    x = Scale(min(xs), max(xs), left + 10, WIDTH - 18, log_x)
    spread = log_ticks if log_x else ticks
    shown = list(x_marks) or [t for t in spread(min(xs), max(xs)) if min(xs) <= t <= max(xs)]
    parts = [names, upright_axis(y_marks, y, left), lying_axis(shown, x, top + height, x_label)]
    parts += [_band(s, x, y) for s in series if s.band]  # below every line
    for s in series:
        placed = [(x(px), y(py)) for px, py in s.points]
        markers = [marker(*p, s.tone) for p in placed] if len(placed) <= _MAX_MARKED_POINTS else []
        parts.append(
            element(
                "g",
                element("title", s.name),
                element("polyline", points=path(placed), class_=f"stroke-{s.tone}"),
                *markers,
            )
        )
    return chart(title, description, top + height + 40, parts)


def _band(series: Series, x: Scale, y: Scale) -> Safe:
    lower = [(x(px), y(low)) for px, low, _ in series.band]
    upper = [(x(px), y(high)) for px, _, high in series.band]
    return element("polygon", points=path([*upper, *reversed(lower)]), class_=f"band-{series.tone}")
