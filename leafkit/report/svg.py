"""What every inline SVG chart is drawn with: lines, text, markers, legends and axes, without
scripts.

Colours come from the classes ``tone-1`` ... ``tone-8`` of the page's style sheet, so they follow
its dark mode. A chart is drawn 440 units wide, which a phone shows nearly 1:1; text is in the same
units and scales with it. Series differ in dash and marker as well as in colour.
"""

from __future__ import annotations

from collections.abc import Sequence

from leafkit.report.markup import Safe, element, join
from leafkit.report.scale import Scale, tick_text

WIDTH = 440.0
# width of a letter at the 12 and the 10 units of the style sheet, for a wide font
LETTER, SMALL_LETTER = (
    7.0,
    6.0,
)


def number(value: float) -> str:
    """A coordinate in at most two decimals.

    >>> number(3.0), number(2.504)
    ('3', '2.5')
    """
    return f"{value:.2f}".rstrip("0").rstrip(".")


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Safe:
    """A straight stroke."""
    return element(
        "line", x1=number(x1), y1=number(y1), x2=number(x2), y2=number(y2), class_=class_
    )


def text(x: float, y: float, content: str, class_: str = "", anchor: str = "start") -> Safe:
    """Words whose baseline is at y."""
    return element(
        "text", content, x=number(x), y=number(y), class_=class_ or None, text_anchor=anchor
    )


def path(points: Sequence[tuple[float, float]]) -> str:
    """Coordinates as a polyline or a polygon takes them."""
    return " ".join(f"{number(x)},{number(y)}" for x, y in points)


def chart(title: str, description: str, height: float, parts: Sequence[Safe]) -> Safe:
    """The drawing with its name, also its tooltip, and a description for screen readers."""
    return element(
        "svg",
        element("title", title),
        element("desc", description),
        *parts,
        viewBox=f"0 0 {number(WIDTH)} {number(height)}",
        role="img",
        aria_label=title,
        class_="chart",
    )


def clip(label: str, width: float, letter: float = LETTER) -> str:
    """As much of a label as the width holds."""
    room = max(1, int(width / letter))
    return label if len(label) <= room else label[: room - 1] + "\N{HORIZONTAL ELLIPSIS}"


def marker(x: float, y: float, tone: int) -> Safe:
    """A dot, a square or a triangle, by the tone."""
    shape = tone % 3
    if shape == 1:
        return element("circle", cx=number(x), cy=number(y), r="3.5", class_=f"tone-{tone}")
    if shape == 2:
        return element(
            "rect",
            x=number(x - 3.2),
            y=number(y - 3.2),
            width="6.4",
            height="6.4",
            class_=f"tone-{tone}",
        )
    corners = path([(x + dx, y + dy) for dx, dy in ((0, -4.5), (4.3, 3.2), (-4.3, 3.2))])
    return element("polygon", points=corners, class_=f"tone-{tone}")


def legend(names: Sequence[tuple[str, int]], as_line: bool) -> tuple[Safe, float]:
    """Names with their swatch, wrapped to the chart's width, and the height they take."""
    parts, x, y = [], 0.0, 12.0
    for name, tone in names:
        shown = clip(name, WIDTH - 30)
        width = 30 + len(shown) * LETTER + 14
        if x and x + width > WIDTH:
            x, y = 0.0, y + 18
        swatch = (
            join((line(x, y - 4, x + 22, y - 4, f"stroke-{tone}"), marker(x + 11, y - 4, tone)))
            if as_line
            else element(
                "rect",
                x=number(x),
                y=number(y - 10),
                width="12",
                height="12",
                rx="2",
                class_=f"tone-{tone}",
            )
        )
        parts.append(join((swatch, text(x + (28 if as_line else 18), y, shown, "label"))))
        x += width
    return join(parts), y + 18


def upright_axis(marks: list[float], scale: Scale, left: float) -> Safe:
    """Horizontal grid lines with their numbers at the left."""
    return join(
        join(
            (
                line(left, scale(t), WIDTH, scale(t), "axis" if t == 0 else "grid"),
                text(left - 6, scale(t) + 4, tick_text(t, marks), "tick", "end"),
            )
        )
        for t in marks
    )


def axis_room(marks: list[float]) -> float:
    """Width that the numbers of the upright axis need."""
    return max(len(tick_text(t, marks)) for t in marks) * LETTER + 8


def lying_axis(marks: Sequence[float], scale: Scale, bottom: float, label: str) -> Safe:
    """Numbers below the plot, the crowded ones left out, and what they count."""
    parts, end = [], -WIDTH
    for mark in marks:
        shown = tick_text(mark, list(marks))
        middle, half = scale(mark), len(shown) * LETTER / 2
        if middle - half < end:
            continue
        parts.append(text(min(middle, WIDTH - half), bottom + 16, shown, "tick", "middle"))
        end = middle + half
    parts.append(text((scale.start + scale.end) / 2, bottom + 33, label, "tick", "middle"))
    return join(parts)
