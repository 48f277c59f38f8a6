"""HTML and SVG elements as strings that cannot be injected into: what is not ``Safe`` is escaped.

Only ``element``, ``as_html`` and ``join`` make ``Safe`` strings from text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from leafkit.report.figures import clean

_MINUS = re.compile(r"-(?=\d)")


class Safe(str):
    """Markup that is written as it stands."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Section:
    """One part of the report: where links point, its heading and what is under it."""

    anchor: str
    title: str
    body: Safe


def as_html(value: object) -> Safe:
    """``Safe`` as it is, anything else escaped."""
    return value if isinstance(value, Safe) else Safe(escape(clean(value)))


def join(parts: Iterable[object]) -> Safe:
    """The parts one after the other."""
    return Safe("".join(as_html(part) for part in parts))


def element(name: str, *children: object, **attributes: object) -> Safe:
    """One element. ``class_`` is written class, ``stroke_width`` stroke-width; attributes that are
    None are left out.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(clean(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Safe(f"<{name}{written}>{join(children)}</{name}>")


def table(
    label: str, header: Sequence[object], kinds: str, rows: Iterable[Sequence[object]]
) -> Safe:
    """A table in a box of its own that scrolls sideways.

    Args:
        label: what the table holds, for screen readers.
        header: one heading per column.
        kinds: one letter per column: t is text, n is a number (aligned right, true minus signs).
        rows: cells; the first of each row is its heading.
    """
    return grouped_table(label, header, kinds, [("", rows)])


def grouped_table(
    label: str,
    header: Sequence[object],
    kinds: str,
    groups: Iterable[tuple[object, Iterable[Sequence[object]]]],
) -> Safe:
    """A table like ``table`` whose rows stand in groups with a heading each; a group whose heading
    is empty has none.
    """
    head = element(
        "tr",
        *(
            element("th", cell, class_=kind, scope="col")
            for cell, kind in zip(header, kinds, strict=True)
        ),
    )
    bodies = [
        element("tbody", _group(name, len(kinds)), *(_row(row, kinds) for row in rows))
        for name, rows in groups
    ]
    inner = element("table", element("thead", head), *bodies)
    return element("div", inner, class_="scroll", role="region", aria_label=label, tabindex="0")


def _group(name: object, num_columns: int) -> Safe:
    if not name:
        return Safe("")
    return element("tr", element("th", name, colspan=num_columns, scope="rowgroup"), class_="group")


def _row(row: Sequence[object], kinds: str) -> Safe:
    return element("tr", *(_cell(*cell) for cell in enumerate(zip(row, kinds, strict=True))))


def _cell(position: int, content: tuple[object, str]) -> Safe:
    value, kind = content
    if kind == "n":
        value = Safe(_MINUS.sub("\N{MINUS SIGN}", as_html(value)))
    if position == 0:
        return element("th", value, class_=kind, scope="row")
    return element("td", value, class_=kind)


def badge(kind: str, symbol: str, words: str) -> Safe:
    """A verdict told three ways: by colour (``kind``), by symbol and in words."""
    return element(
        "span", element("span", symbol, aria_hidden="true"), " ", words, class_=f"badge {kind}"
    )


def definitions(pairs: Iterable[tuple[str, object]]) -> Safe:
    """A list of terms and what they are; pairs without content are left out."""
    shown = [(term, content) for term, content in pairs if content not in ("", None)]
    items = [element("div", element("dt", term), element("dd", content)) for term, content in shown]
    return element("dl", *items) if items else Safe("")


def figure(chart: Safe, caption: object = "") -> Safe:
    """A chart with its caption."""
    return element("figure", chart, element("figcaption", caption) if caption else Safe(""))
