"""Inline SVG charts without scripts: pure functions from numbers to markup.

Colours come from the classes ``tone-1`` ... ``tone-6`` of the page's style sheet, so they follow its dark mode. A chart is
drawn 440 units wide, which a phone shows nearly 1:1; text is in the same units and scales with it. Series differ in dash
and marker as well as in colour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from leafkit.report.markup import Safe, element, join
from leafkit.report.scale import Scale, tick_text, ticks

WIDTH = 440.0
_ROW, _BAR, _CAP = 30.0, 16.0, 4.0  # height of a row, of its bar, half the length of a whisker's cap
_LETTER = 7.0  # width of a letter at the 12 units of the style sheet, for a wide font
_MAX_MARKED_POINTS = 16


@dataclass(frozen=True, slots=True)
class Bar:
    """A value with its 95% interval, if it has one. ``text`` is what is printed beside it."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    tone: int = 1
    text: str = ""


@dataclass(frozen=True, slots=True)
class Series:
    """Points of one line, x rising."""

    name: str
    points: Sequence[tuple[float, float]]
    tone: int = 1


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Safe:
    return element("line", x1=_number(x1), y1=_number(y1), x2=_number(x2), y2=_number(y2), class_=class_)


def _text(x: float, y: float, content: str, class_: str = "", anchor: str = "start") -> Safe:
    return element("text", content, x=_number(x), y=_number(y), class_=class_ or None, text_anchor=anchor)


def _chart(title: str, description: str, height: float, parts: Sequence[Safe]) -> Safe:
    return element(
        "svg", element("title", title), element("desc", description), *parts,
        viewBox=f"0 0 {_number(WIDTH)} {_number(height)}", role="img", aria_label=title, class_="chart",
    )  # fmt: skip


def _clip(label: str, width: float) -> str:
    room = max(1, int(width / _LETTER))
    return label if len(label) <= room else label[: room - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _span(bars: Sequence[Bar]) -> tuple[float, float]:
    """Smallest range that holds 0, every value and every interval."""
    ends = [0.0, *(end for b in bars for end in (b.value, b.low, b.high) if end is not None)]
    return min(ends), max(ends)


def _tooltip(bar: Bar) -> Safe:
    bounds = f" [{bar.low:.3f}, {bar.high:.3f}]" if bar.low is not None and bar.high is not None else ""
    return element("title", f"{bar.label}: {bar.text or _number(bar.value)}{bounds}")


def _whisker(bar: Bar, scale: Scale, middle: float, upright: bool) -> Safe:
    """The interval as a line with a cap at either end, centred on ``middle`` of the other axis, over a halo."""
    if bar.low is None or bar.high is None:
        return Safe("")
    low, high = scale(bar.low), scale(bar.high)
    strokes = [(low, middle, high, middle), *((end, middle - _CAP, end, middle + _CAP) for end in (low, high))]
    if upright:
        strokes = [(y1, x1, y2, x2) for x1, y1, x2, y2 in strokes]
    return join(_line(*stroke, kind) for kind in ("halo", "whisker") for stroke in strokes)


def bar_chart(title: str, description: str, bars: Sequence[Bar], shared: Sequence[Bar] = ()) -> Safe:
    """Horizontal bars from 0 with their intervals; the scale also holds the ``shared`` bars of charts beside this one."""
    return _rows(title, description, bars, _span([*bars, *shared]), dots=False)


def interval_chart(title: str, description: str, bars: Sequence[Bar], shared: Sequence[Bar] = ()) -> Safe:
    """Estimates as dots with their intervals, beside a line at 0: for differences. ``shared`` as in ``bar_chart``."""
    return _rows(title, description, bars, _span([*bars, *shared]), dots=True)


def _rows(title: str, description: str, bars: Sequence[Bar], span: tuple[float, float], dots: bool) -> Safe:
    marks = ticks(*span)
    left = min(max((len(b.label) for b in bars), default=0) * _LETTER + 10, 0.42 * WIDTH)
    right = max((len(b.text) for b in bars), default=0) * _LETTER + 12
    scale = Scale(marks[0], marks[-1], left, WIDTH - max(right, 14))
    bottom = len(bars) * _ROW
    parts = [
        join((_line(scale(t), 2, scale(t), bottom, "axis" if t == 0 else "grid"),
              _text(scale(t), bottom + 16, tick_text(t, marks), "tick", "middle")))
        for t in marks
    ]  # fmt: skip
    for row, bar in enumerate(bars):
        middle = row * _ROW + _ROW / 2
        start, end = sorted((scale(0.0), scale(bar.value)))
        mark = (
            element("circle", cx=_number(scale(bar.value)), cy=_number(middle), r="5", class_=f"tone-{bar.tone}")
            if dots
            else element(
                "rect", x=_number(start), y=_number(middle - _BAR / 2), width=_number(end - start), height=_number(_BAR),
                rx="2", class_=f"tone-{bar.tone}",
            )
        )  # fmt: skip
        whisker = _whisker(bar, scale, middle, upright=False)
        label = _text(left - 10, middle + 4, _clip(bar.label, left - 10), "label", "end")
        value = _text(WIDTH, middle + 4, bar.text, "value", "end")
        parts.append(element("g", _tooltip(bar), *((whisker, mark) if dots else (mark, whisker)), label, value))
    return _chart(title, description, bottom + 24, parts)


def _legend(names: Sequence[tuple[str, int]], as_line: bool) -> tuple[Safe, float]:
    """Names with their swatch, wrapped to the chart's width, and the height they take."""
    parts, x, y = [], 0.0, 12.0
    for name, tone in names:
        shown = _clip(name, WIDTH - 30)
        width = 30 + len(shown) * _LETTER + 8
        if x and x + width > WIDTH:
            x, y = 0.0, y + 18
        swatch = (
            join((_line(x, y - 4, x + 22, y - 4, f"stroke-{tone}"), _marker(x + 11, y - 4, tone)))
            if as_line
            else element("rect", x=_number(x), y=_number(y - 10), width="12", height="12", rx="2", class_=f"tone-{tone}")
        )
        parts.append(join((swatch, _text(x + (28 if as_line else 18), y, shown, "label"))))
        x += width
    return join(parts), y + 18


def _marker(x: float, y: float, tone: int) -> Safe:
    shape = tone % 3
    if shape == 1:
        return element("circle", cx=_number(x), cy=_number(y), r="3.5", class_=f"tone-{tone}")
    if shape == 2:
        return element("rect", x=_number(x - 3.2), y=_number(y - 3.2), width="6.4", height="6.4", class_=f"tone-{tone}")
    corners = " ".join(f"{_number(x + dx)},{_number(y + dy)}" for dx, dy in ((0, -4.5), (4.3, 3.2), (-4.3, 3.2)))
    return element("polygon", points=corners, class_=f"tone-{tone}")


def _upright_axis(marks: list[float], scale: Scale, left: float) -> Safe:
    return join(
        join((_line(left, scale(t), WIDTH, scale(t), "axis" if t == 0 else "grid"),
              _text(left - 6, scale(t) + 4, tick_text(t, marks), "tick", "end")))
        for t in marks
    )  # fmt: skip


def _axis_room(marks: list[float]) -> float:
    return max(len(tick_text(t, marks)) for t in marks) * _LETTER + 8


def grouped_bars(title: str, description: str, groups: Sequence[tuple[str, Sequence[Bar]]], height: float = 170.0) -> Safe:
    """Upright bars side by side in named groups; bars of one label share a colour and stand in the legend once."""
    everything = [bar for _, bars in groups for bar in bars]
    legend, top = _legend(list(dict.fromkeys((b.label, b.tone) for b in everything)), as_line=False)
    top += 14
    low, high = _span(everything)
    marks = ticks(low, high)
    left = _axis_room(marks)
    scale = Scale(marks[0], marks[-1], top + height, top)
    room = (WIDTH - left) / max(len(groups), 1)
    parts = [legend, _upright_axis(marks, scale, left)]
    for index, (name, bars) in enumerate(groups):
        slot = min(0.86 * room / max(len(bars), 1), 46.0)
        first = left + (index + 0.5) * room - slot * len(bars) / 2
        for position, bar in enumerate(bars):
            upper, lower = sorted((scale(bar.value), scale(0.0)))
            x = first + position * slot
            rect = element(
                "rect", x=_number(x + 1.5), y=_number(upper), width=_number(slot - 3), height=_number(lower - upper),
                rx="2", class_=f"tone-{bar.tone}",
            )  # fmt: skip
            peak = min(upper, scale(bar.high)) if bar.high is not None else upper
            label = _text(x + slot / 2, peak - 4, bar.text, "small", "middle")
            parts.append(element("g", _tooltip(bar), rect, _whisker(bar, scale, x + slot / 2, upright=True), label))
        parts.append(_text(left + (index + 0.5) * room, top + height + 16, _clip(name, room), "label", "middle"))
    return _chart(title, description, top + height + 24, parts)


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
        x_marks: where x gets a tick; round numbers where empty.
        from_zero: let the y axis start at 0 and not near the smallest value.
        height: of the plot, in the units of the drawing.
    """
    points = [point for s in series for point in s.points]
    if not points:
        return _chart(title, description, 1.0, [])
    legend, top = _legend([(s.name, s.tone) for s in series], as_line=True) if len(series) > 1 else (Safe(""), 8.0)
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    y_marks = ticks(min(0.0, *ys) if from_zero else min(ys), max(ys))
    left = _axis_room(y_marks)
    y = Scale(y_marks[0], y_marks[-1], top + height, top)
    x = Scale(min(xs), max(xs), left + 10, WIDTH - 18, log_x)
    shown = list(x_marks) or [t for t in ticks(min(xs), max(xs)) if min(xs) <= t <= max(xs)]
    parts = [legend, _upright_axis(y_marks, y, left)]
    parts += [_text(x(t), top + height + 16, tick_text(t, list(shown)), "tick", "middle") for t in shown]
    parts.append(_text((left + WIDTH) / 2, top + height + 33, x_label, "tick", "middle"))
    for s in series:
        path = " ".join(f"{_number(x(px))},{_number(y(py))}" for px, py in s.points)
        marked = len(s.points) <= _MAX_MARKED_POINTS
        markers = [_marker(x(px), y(py), s.tone) for px, py in s.points] if marked else []
        parts.append(
            element("g", element("title", s.name), element("polyline", points=path, class_=f"stroke-{s.tone}"), *markers)
        )
    return _chart(title, description, top + height + 40, parts)
