"""Jinja2 environments: HTML and Markdown in which no text of a run becomes markup.

What an expression of a template gives is escaped unless it is ``Markup``; only templates and chart
functions make that.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from leafkit.report import format as fmt
from leafkit.results import Table

_MINUS = re.compile(r"-(?=\d)")
# in Markdown; brackets of an interval are no link and stay readable
_SPECIAL = re.compile(r"[\\`*_<>|#]|\[(?![-+]?\d)|\](?=[(\[:])")
_GOOD, _BAD, _CLOSE = (
    ("pass", "\N{CHECK MARK}"),
    ("fail", "\N{BALLOT X}"),
    ("open", "\N{ALMOST EQUAL TO}"),
)
_MARKS = {
    "inherited": _GOOD,
    "not inherited": _BAD,
    "nothing to inherit": ("void", "\N{EMPTY SET}"),
    "passed": _GOOD,
    "no failure found": ("open", "?"),
    "not passed": _BAD,
    "can be inherited": _GOOD,
    "with losses": _CLOSE,
    "cannot be inherited": _BAD,
    "within noise": _CLOSE,
    "higher": ("pass", "\N{UPWARDS ARROW}"),
    "lower": ("fail", "\N{DOWNWARDS ARROW}"),
    "relevant": _GOOD,
    "first": ("pass", "\N{BLACK STAR}"),
    "differs": ("open", "\N{NOT EQUAL TO}"),
    "warning": ("open", "!"),
}


@dataclass(frozen=True, slots=True)
class Section:
    """One part of a page: where links point, its heading and what is under it."""

    anchor: str
    title: str
    body: Markup


def render_page(
    folder: str,
    sections: Mapping[str, str],
    *,
    intervals: str = "Intervals are 95% paired-bootstrap intervals.",
    **context: object,
) -> str:
    """A page of the sections that have something to say.

    Args:
        folder: of the templates, which holds header.html.j2 and one for every section.
        sections: title of each by the name of its template.
        intervals: what the page's intervals are.
        context: what the templates use: title, version and more.
    """
    html = environment(clean_html)
    shown = []
    for anchor, title in sections.items():
        body = html.get_template(f"{folder}/{anchor}.html.j2").render(context).strip()
        if body:
            shown.append(Section(anchor, title, Markup(body)))
    page = html.get_template("page.html.j2")
    header = f"{folder}/header.html.j2"
    return page.render(context, header=header, sections=shown, intervals=intervals) + "\n"


def render_markdown(template: str, **context: object) -> str:
    """Markdown in which what is not ``Markup`` becomes text on one line that means nothing in
    Markdown and HTML; at most one line is empty in a row.
    """
    text = environment(escape_markdown).get_template(template).render(context)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def stylesheet() -> str:
    """The rules of every page, with the colors of both palettes."""
    return environment(clean_html).get_template("report.css").render()


def search_stylesheet() -> str:
    """The rules of pages that search: those of every page, then of the form and the hits."""
    return stylesheet() + environment(clean_html).get_template("search.css").render()


@functools.cache
def environment(finalize: Callable[[object], object]) -> Environment:
    """Templates whose expressions pass through ``finalize`` and are escaped where that leaves them
    plain text.
    """
    made = Environment(
        loader=PackageLoader("leafkit.report"),
        autoescape=True,
        finalize=finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    words = (fmt.decimal, fmt.duration, fmt.grouped, fmt.percent, fmt.short_count, fmt.shorten)
    cells = (fmt.flatten, fmt.interval, fmt.percent_interval, fmt.signed_interval)
    own = (fence, groups, mark, minus, pipes, two_lines)
    made.filters |= {function.__name__: function for function in (*words, *cells, *own)}
    return made


def clean_html(value: object) -> object:
    """Text without control characters, still to be escaped; ``Markup`` as it is."""
    return value if isinstance(value, Markup) else fmt.clean(value)


def escape_markdown(value: object) -> Markup:
    """Text on one line in which Markdown and HTML mean nothing; ``Markup`` as it is."""
    if isinstance(value, Markup):
        return value
    return Markup(_SPECIAL.sub(r"\\\g<0>", " ".join(fmt.clean(value).split())))


def fence(text: str, language: str = "") -> Markup:
    """A block of code in Markdown, between more backticks than it holds."""
    text = fmt.clean(text)
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    bars = "`" * max(3, longest + 1)
    return Markup(f"{bars}{language}\n{text}\n{bars}")


def pipes(table: Table, titled: bool = False) -> Markup:
    """A table in Markdown with its notes in a line below."""
    header, *rows = (map(escape_markdown, row) for row in (table.header, *table.rows))
    rule = "|".join("--:" if kind == "r" else "---" for kind in table.align)
    lines = [f"| {' | '.join(header)} |", f"|{rule}|", *(f"| {' | '.join(row)} |" for row in rows)]
    title = f"**{escape_markdown(table.title)}**" if titled else ""
    notes = escape_markdown("; ".join(table.note.splitlines()))
    return Markup("\n\n").join(Markup(p) for p in (title, "\n".join(lines), notes) if p)


def minus(text: str) -> str:
    """Numbers with true minus signs."""
    return _MINUS.sub("\N{MINUS SIGN}", text)


def mark(verdict: str) -> tuple[str, str]:
    """Class and symbol of a verdict's badge."""
    return _MARKS.get(verdict, ("open", "?"))


def groups(rows: Iterable[Any], attribute: str) -> list[tuple[Any, list[Any]]]:
    """Rows by an attribute, in order of appearance."""
    found: dict[Any, list[Any]] = {}
    for row in rows:
        found.setdefault(getattr(row, attribute), []).append(row)
    return list(found.items())


def two_lines(cell: str) -> tuple[str, str]:
    """What a cell shows large, and what small below it: the text after a line break, or the bounds
    of an interval.

    >>> two_lines("0.5 [0.4, 0.6]"), two_lines("stsb\\nsts"), two_lines("5 min 2 s")
    (('0.5', '[0.4, 0.6]'), ('stsb', 'sts'), ('5 min 2 s', ''))
    """
    first, _, second = cell.partition("\n")
    if not second and cell.endswith("]"):
        first, _, second = cell.partition(" [")
        second = second and f"[{second}"
    return first, second
