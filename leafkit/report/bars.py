"""Bar charts: pure functions from numbers with their intervals to markup."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from leafkit.report.markup import Safe, element, join
from leafkit.report.scale import Scale, tick_text, ticks
from leafkit.report.svg import (
    LETTER,
    SMALL_LETTER,
    WIDTH,
    axis_room,
    chart,
    clip,
    legend,
    line,
    number,
    text,
    upright_axis,
)

# height of a row, of its bar, half the length of a whisker's cap
_ROW, _BAR, _CAP = (
    30.0,
    16.0,
    4.0,
)


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


def _tooltip(bar: Bar) -> Safe:
    bounds = (
        f" [{bar.low:.3f}, {bar.high:.3f}]" if bar.low is not None and bar.high is not None else ""
    )
    return element("title", f"{bar.label}: {bar.text or number(bar.value)}{bounds}")


def _whisker(bar: Bar, scale: Scale, middle: float, upright: bool) -> Safe:
    """The interval as a line with a cap at either end, centred on ``middle`` of the other axis,
    over a halo.
    """
    if bar.low is None or bar.high is None:
        return Safe("")
    low, high = scale(bar.low), scale(bar.high)
    strokes = [
        (low, middle, high, middle),
        *((end, middle - _CAP, end, middle + _CAP) for end in (low, high)),
    ]
    if upright:
        strokes = [(y1, x1, y2, x2) for x1, y1, x2, y2 in strokes]
    return join(line(*stroke, kind) for kind in ("halo", "whisker") for stroke in strokes)


def bar_chart(
    title: str, description: str, bars: Sequence[Bar], shared: Sequence[Bar] = ()
) -> Safe:
    """Horizontal bars from 0 with their intervals; the scale also holds the ``shared`` bars of
    charts beside this one.
    """
    return _rows(title, description, bars, _span([*bars, *shared]), dots=False)


def interval_chart(
    title: str, description: str, bars: Sequence[Bar], shared: Sequence[Bar] = ()
) -> Safe:
    """Estimates as dots with their intervals, beside a line at 0: for differences. ``shared`` as in
    ``bar_chart``.
    """
    return _rows(title, description, bars, _span([*bars, *shared]), dots=True)


def _rows(
    title: str, description: str, bars: Sequence[Bar], span: tuple[float, float], dots: bool
) -> Safe:
    marks = ticks(*span)
    left = min(max((len(b.label) for b in bars), default=0) * LETTER + 10, 0.42 * WIDTH)
    right = max((len(b.text) for b in bars), default=0) * LETTER + 12
    scale = Scale(marks[0], marks[-1], left, WIDTH - max(right, 14))
    bottom = len(bars) * _ROW
    parts = [
        join(
            (
                line(scale(t), 2, scale(t), bottom, "axis" if t == 0 else "grid"),
                text(scale(t), bottom + 16, tick_text(t, marks), "tick", "middle"),
            )
        )
        for t in marks
    ]
    for row, bar in enumerate(bars):
        middle = row * _ROW + _ROW / 2
        start, end = sorted((scale(0.0), scale(bar.value)))
        mark = (
            element(
                "circle",
                cx=number(scale(bar.value)),
                cy=number(middle),
                r="5",
                class_=f"tone-{bar.tone}",
            )
            if dots
            else element(
                "rect",
                x=number(start),
                y=number(middle - _BAR / 2),
                width=number(end - start),
                height=number(_BAR),
                rx="2",
                class_=f"tone-{bar.tone}",
            )
        )
        whisker = _whisker(bar, scale, middle, upright=False)
        label = text(left - 10, middle + 4, clip(bar.label, left - 10), "label", "end")
        value = text(WIDTH, middle + 4, bar.text, "value", "end")
        parts.append(
            element(
                "g", _tooltip(bar), *((whisker, mark) if dots else (mark, whisker)), label, value
            )
        )
    return chart(title, description, bottom + 24, parts)


def grouped_bars(
    title: str, description: str, groups: Sequence[tuple[str, Sequence[Bar]]], height: float = 170.0
) -> Safe:
    """Upright bars side by side in named groups; bars of one label share a colour and stand in the
    legend once.

    The texts of the bars stand above them where all are wide enough; they are in the tooltips in
    any case.
    """
    everything = [bar for _, bars in groups for bar in bars]
    names, top = legend(list(dict.fromkeys((b.label, b.tone) for b in everything)), as_line=False)
    top += 14
    low, high = _span(everything)
    marks = ticks(low, high, about=6)
    left = axis_room(marks)
    scale = Scale(marks[0], marks[-1], top + height, top)
    room = (WIDTH - left) / max(len(groups), 1)
    widest = max((len(b.text) for b in everything), default=0) * SMALL_LETTER + 3
    narrowest = min((_slot(room, len(bars)) for _, bars in groups), default=0.0)
    crowded = any(len(name) * LETTER > room for name, _ in groups)
    parts = [names, upright_axis(marks, scale, left)]
    for index, (name, bars) in enumerate(groups):
        slot = _slot(room, len(bars))
        first = left + (index + 0.5) * room - slot * len(bars) / 2
        for position, bar in enumerate(bars):
            upper, lower = sorted((scale(bar.value), scale(0.0)))
            x = first + position * slot
            gap = min(1.5, 0.1 * slot)
            rect = element(
                "rect",
                x=number(x + gap),
                y=number(upper),
                width=number(slot - 2 * gap),
                height=number(lower - upper),
                rx="2",
                class_=f"tone-{bar.tone}",
            )
            peak = min(upper, scale(bar.high)) if bar.high is not None else upper
            label = (
                text(x + slot / 2, peak - 4, bar.text, "small", "middle")
                if widest <= narrowest
                else Safe("")
            )
            parts.append(
                element(
                    "g",
                    _tooltip(bar),
                    rect,
                    _whisker(bar, scale, x + slot / 2, upright=True),
                    label,
                )
            )
        shown = clip(name, room, SMALL_LETTER if crowded else LETTER)
        parts.append(
            text(
                left + (index + 0.5) * room,
                top + height + 16,
                shown,
                "small" if crowded else "label",
                "middle",
            )
        )
    return chart(title, description, top + height + 24, parts)


def _slot(room: float, num_bars: int) -> float:
    """Width of one bar with the gaps beside it, in a group as wide as ``room``."""
    return min(0.86 * room / max(num_bars, 1), 46.0)
