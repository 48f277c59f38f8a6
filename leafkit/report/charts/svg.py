"""What every chart is drawn with: elements, text, markers, legends and drawn axes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from markupsafe import Markup, escape

from leafkit.report.charts.axes import Scale, tick_text
from leafkit.report.format import clean

WIDTH = 440.0
# width of a letter at the 12 and the 10 units of the style sheet, for a wide font
LETTER, SMALL_LETTER = 7.0, 6.0

Point = tuple[float, float]


def element(name: str, *children: str, **attributes: object) -> Markup:
    """One element; what is not ``Markup`` is escaped.

    ``class_`` is written class, ``stroke_width`` stroke-width; numbers get at most two decimals;
    attributes that are None are left out.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_attribute(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{written}>{join(children)}</{name}>")


def join(parts: Iterable[str]) -> Markup:
    """The parts one after the other, escaped where they are not ``Markup``."""
    return Markup("").join(p if isinstance(p, Markup) else clean(p) for p in parts)


def number(value: float) -> str:
    """A coordinate in at most two decimals.

    >>> number(3.0), number(2.504)
    ('3', '2.5')
    """
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _attribute(value: object) -> str:
    return number(value) if isinstance(value, float) else clean(value)


def line(start: Point, end: Point, class_: str) -> Markup:
    """A straight stroke."""
    return element("line", x1=start[0], y1=start[1], x2=end[0], y2=end[1], class_=class_)


def box(
    corner: Point, width: float, height: float, tone: int, *, radius: str | None = "2"
) -> Markup:
    """A filled rectangle whose upper left corner is ``corner``."""
    x, y = corner
    return element("rect", x=x, y=y, width=width, height=height, rx=radius, class_=f"tone-{tone}")


def text(place: Point, content: str, class_: str, anchor: str = "start") -> Markup:
    """Words whose baseline is at the place."""
    return element("text", content, x=place[0], y=place[1], class_=class_, text_anchor=anchor)


def path(points: Iterable[Point]) -> str:
    """Coordinates as a polyline or a polygon takes them."""
    return " ".join(f"{number(x)},{number(y)}" for x, y in points)


def chart(title: str, description: str, height: float, parts: Iterable[Markup]) -> Markup:
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


def marker(place: Point, tone: int) -> Markup:
    """A dot, a square or a triangle, by the tone."""
    x, y = place
    if tone % 3 == 1:
        return element("circle", cx=x, cy=y, r="3.5", class_=f"tone-{tone}")
    if tone % 3 == 2:
        return box((x - 3.2, y - 3.2), 6.4, 6.4, tone, radius=None)
    corners = path((x + dx, y + dy) for dx, dy in ((0, -4.5), (4.3, 3.2), (-4.3, 3.2)))
    return element("polygon", points=corners, class_=f"tone-{tone}")


def legend(names: Iterable[tuple[str, int]], as_line: bool) -> tuple[Markup, float]:
    """Names with their swatch, wrapped to the chart's width, and the height they take."""
    parts: list[Markup] = []
    x, y = 0.0, 12.0
    for name, tone in names:
        shown = clip(name, WIDTH - 30)
        width = 30 + len(shown) * LETTER + 14
        if x and x + width > WIDTH:
            x, y = 0.0, y + 18
        if as_line:
            parts += [line((x, y - 4), (x + 22, y - 4), f"stroke-{tone}")]
            parts += [marker((x + 11, y - 4), tone)]
        else:
            parts += [box((x, y - 10), 12.0, 12.0, tone)]
        parts.append(text((x + (28 if as_line else 18), y), shown, "label"))
        x += width
    return join(parts), y + 18


def axis_room(marks: list[float]) -> float:
    """Width that the numbers of the y axis need."""
    return max(len(tick_text(t, marks)) for t in marks) * LETTER + 8


def y_axis(marks: list[float], scale: Scale, left: float) -> Markup:
    """Horizontal grid lines with their numbers at the left."""
    parts: list[Markup] = []
    for t in marks:
        y = scale(t)
        parts.append(line((left, y), (WIDTH, y), "grid" if t else "axis"))
        parts.append(text((left - 6, y + 4), tick_text(t, marks), "tick", "end"))
    return join(parts)


def y_title(label: str, top: float) -> tuple[Markup, float]:
    """What the y axis counts, above its numbers, and where the plot below it starts."""
    if not label:
        return Markup(), top
    return text((0.0, top + 4), label, "tick"), top + 18


def x_axis(marks: Sequence[float], scale: Scale, bottom: float, label: str) -> Markup:
    """Numbers below the plot, the crowded ones left out, and what they count."""
    parts, end = [], -WIDTH
    for mark in marks:
        shown = tick_text(mark, list(marks))
        middle, half = scale(mark), len(shown) * LETTER / 2
        if middle - half < end:
            continue
        parts.append(text((min(middle, WIDTH - half), bottom + 16), shown, "tick", "middle"))
        end = middle + half
    parts.append(text(((scale.start + scale.end) / 2, bottom + 33), label, "tick", "middle"))
    return join(parts)
