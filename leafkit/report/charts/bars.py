"""Bars from zero with their intervals: horizontal, as dots with whiskers, and in groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from leafkit.report.charts import svg
from leafkit.report.charts.axes import Scale, tick_text, ticks

_ROW_HEIGHT, _BAR_HEIGHT, _HALF_CAP = 30.0, 16.0, 4.0


@dataclass(frozen=True, slots=True)
class Bar:
    """A value with its 95% interval, if it has one. ``text`` is what is printed beside it."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    tone: int = 1
    text: str = ""


def _span(bars: Sequence[Bar]) -> tuple[float, float]:
    """Smallest range that holds 0, every value and every interval."""
    ends = [0.0, *(end for b in bars for end in (b.value, b.low, b.high) if end is not None)]
    return min(ends), max(ends)


def _tooltip(bar: Bar) -> Markup:
    words = f"{bar.label}: {bar.text or svg.number(bar.value)}"
    if bar.low is not None and bar.high is not None:
        words += f" [{bar.low:.3f}, {bar.high:.3f}]"
    return svg.element("title", words)


def _whisker(bar: Bar, scale: Scale, middle: float, vertical: bool) -> Markup:
    """The interval as a line with a cap at either end, centered on ``middle`` of the other axis,
    over a halo.
    """
    if bar.low is None or bar.high is None:
        return Markup()
    low, high = scale(bar.low), scale(bar.high)
    strokes = [((low, middle), (high, middle))]
    strokes += [((end, middle - _HALF_CAP), (end, middle + _HALF_CAP)) for end in (low, high)]
    if vertical:
        strokes = [((y1, x1), (y2, x2)) for (x1, y1), (x2, y2) in strokes]
    return svg.join(svg.line(*stroke, kind) for kind in ("halo", "whisker") for stroke in strokes)


def bar_chart(
    title: str,
    description: str,
    bars: Sequence[Bar],
    *,
    shared: Sequence[Bar] = (),
    dots: bool = False,
) -> Markup:
    """Horizontal bars from 0 with their intervals.

    Args:
        title: the chart's name, also its tooltip.
        description: what it shows, for screen readers.
        bars: from top to bottom.
        shared: bars of charts beside this one, which the scale holds too.
        dots: estimates as dots beside a line at 0, for differences.
    """
    marks = ticks(*_span([*bars, *shared]))
    left = min(max((len(b.label) for b in bars), default=0) * svg.LETTER + 10, 0.42 * svg.WIDTH)
    right = max((len(b.text) for b in bars), default=0) * svg.LETTER + 12
    x = Scale(marks[0], marks[-1], left, svg.WIDTH - max(right, 14))
    bottom = len(bars) * _ROW_HEIGHT
    parts: list[Markup] = []
    for t in marks:
        parts.append(svg.line((x(t), 2), (x(t), bottom), "grid" if t else "axis"))
        parts.append(svg.text((x(t), bottom + 16), tick_text(t, marks), "tick", "middle"))
    for row, bar in enumerate(bars):
        middle = (row + 0.5) * _ROW_HEIGHT
        start, end = sorted((x(0.0), x(bar.value)))
        whisker = _whisker(bar, x, middle, vertical=False)
        if dots:
            dot = svg.element(
                "circle", cx=x(bar.value), cy=middle, r="5", class_=f"tone-{bar.tone}"
            )
            marked = whisker + dot
        else:
            corner = (start, middle - _BAR_HEIGHT / 2)
            marked = svg.box(corner, end - start, _BAR_HEIGHT, bar.tone) + whisker
        label = svg.text((left - 10, middle + 4), svg.clip(bar.label, left - 10), "label", "end")
        value = svg.text((svg.WIDTH, middle + 4), bar.text, "value", "end")
        parts.append(svg.element("g", _tooltip(bar), marked, label, value))
    return svg.chart(title, description, bottom + 24, parts)


def grouped_bars(
    title: str,
    description: str,
    groups: Sequence[tuple[str, Sequence[Bar]]],
    height: float = 170.0,
) -> Markup:
    """Vertical bars side by side in named groups; bars of one label share a color and stand in the
    legend once.

    The texts of the bars stand above them where all are wide enough; they are in the tooltips in
    any case.
    """
    every = [bar for _, bars in groups for bar in bars]
    names, top = svg.legend(dict.fromkeys((b.label, b.tone) for b in every), as_line=False)
    top += 14
    marks = ticks(*_span(every), about=6)
    left = svg.axis_room(marks)
    y = Scale(marks[0], marks[-1], top + height, top)
    room = (svg.WIDTH - left) / max(len(groups), 1)
    widest = max((len(b.text) for b in every), default=0) * svg.SMALL_LETTER + 3
    has_texts = all(widest <= _slot(room, len(bars)) for _, bars in groups)
    crowded = any(len(name) * svg.LETTER > room for name, _ in groups)
    letter, size = (svg.SMALL_LETTER, "small") if crowded else (svg.LETTER, "label")
    parts = [names, svg.y_axis(marks, y, left)]
    for index, (name, bars) in enumerate(groups):
        slot, center = _slot(room, len(bars)), left + (index + 0.5) * room
        for position, bar in enumerate(bars):
            middle = center + (position - len(bars) / 2 + 0.5) * slot
            parts.append(_vertical_bar(bar, y, middle, slot, has_text=has_texts))
        parts.append(
            svg.text((center, top + height + 16), svg.clip(name, room, letter), size, "middle")
        )
    return svg.chart(title, description, top + height + 24, parts)


def _vertical_bar(bar: Bar, y: Scale, middle: float, slot: float, *, has_text: bool) -> Markup:
    upper, lower = sorted((y(bar.value), y(0.0)))
    width = slot - 2 * min(1.5, 0.1 * slot)
    peak = min(upper, y(bar.high)) if bar.high is not None else upper
    return svg.element(
        "g",
        _tooltip(bar),
        svg.box((middle - width / 2, upper), width, lower - upper, bar.tone),
        _whisker(bar, y, middle, vertical=True),
        svg.text((middle, peak - 4), bar.text, "small", "middle") if has_text else Markup(),
    )


def _slot(room: float, num_bars: int) -> float:
    """Width of one bar with the gaps beside it, in a group as wide as ``room``."""
    return min(0.86 * room / max(num_bars, 1), 46.0)
