"""The run's report as one HTML file: no script, nothing loaded from elsewhere, for a phone and a
desk, by day and by night.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from leafkit.report import (
    diagnosis,
    facts,
    frontiers,
    indexes,
    inheritance,
    provenance,
    quality,
    queries,
)
from leafkit.report import figures as fig
from leafkit.report.markup import Safe, Section, element
from leafkit.report.theme import stylesheet

_SECTIONS = (
    quality.retrieval,
    quality.differences,
    quality.tasks,
    queries.per_query,
    inheritance.inheritance,
    indexes.indexes,
    frontiers.frontiers,
    provenance.latency,
    diagnosis.diagnosis,
    queries.samples,
    provenance.models,
    diagnosis.spectrum,
    provenance.losses,
    provenance.texts,
    provenance.steps,
    provenance.origin,
)
_HEAD = (
    '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    '<meta name="color-scheme" content="light dark">'
    '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; style-src '
    "'unsafe-inline'\">"
)


def render_report(data: Mapping[str, Any]) -> str:
    """The whole report as one HTML document.

    Args:
        data: what the stages measured, as in report.json. Parts that are missing or empty are left
            out of the page.
    """
    sections = [section for build in _SECTIONS if (section := build(data)) is not None]
    name = str(data.get("name") or "leafkit")
    version = (data.get("versions") or {}).get("leafkit")
    return page(f"{name}: leafkit report", _header(data, name), sections, str(version or ""))


def page(title: str, header: Safe, sections: Sequence[Section], version: str) -> str:
    """A whole document: header with links to the sections, the sections, and who wrote it with
    which ``version``.
    """
    head = element(
        "head", Safe(_HEAD), element("title", title), element("style", Safe(stylesheet()))
    )
    links = [element("a", section.title, href=f"#{section.anchor}") for section in sections]
    written = [element("section", element("h2", s.title), s.body, id=s.anchor) for s in sections]
    made_by = f"Written by leafkit {version}." if version else "Written by leafkit."
    footer = element("footer", made_by, " Intervals are 95% paired-bootstrap intervals.")
    main = element("main", header, element("nav", *links, aria_label="Sections"), *written, footer)
    return f'<!doctype html>\n<html lang="en">{head}{element("body", main)}</html>\n'


def _header(data: Mapping[str, Any], name: str) -> Safe:
    made = [str(data["created"])[:10]] if data.get("created") else []
    eyebrow = " \N{MIDDLE DOT} ".join([*made, *filter(None, [facts.machine(data)])])
    sentences = facts.opening_sentences(data)
    first, rest = sentences[0], " ".join(sentences[1:])
    return element(
        "header",
        element("p", eyebrow, class_="eyebrow"),
        element("h1", name),
        element("p", first, class_="lede"),
        element("p", rest) if rest else "",
        _tiles(data),
    )


def _tiles(data: Mapping[str, Any]) -> Safe:
    tiles = [
        element("div", element("b", big), element("span", small), class_="tile")
        for big, small in _key_figures(data)
    ]
    return element("div", *tiles, class_="tiles") if tiles else Safe("")


def _key_figures(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    found = []
    everything, average = facts.measured(data), facts.macro(data)
    for position, collection in enumerate([*everything[:1], average] if average else everything):
        for mode in facts.MODES if position == 0 else ("asymmetric",):
            cell = facts.score(collection.get("retention") or {}, mode)
            if cell:
                bounds = fig.percent_interval(cell).partition(" ")[2]
                size = f"n = {fig.grouped(collection.get('num_queries'))}"
                where = (
                    collection["kind"]
                    if collection is average
                    else f"{collection.get('name', '?')}, {size}"
                )
                found.append(
                    (fig.percent(cell["mean"]), f"{bounds} of the teacher, {mode}, {where}".strip())
                )
    share, faster, rows = (
        facts.parameter_share(data),
        facts.speed_up(data),
        facts.inherit_rows(data),
    )
    if share is not None:
        found.append(
            (
                fig.short_count(data["student"]["parameters"]),
                f"parameters, {share:.0%} of the teacher",
            )
        )
    if faster is not None:
        found.append(
            (f"{faster[0]:.1f}\N{MULTIPLICATION SIGN}", "the queries per second of the teacher")
        )
    if rows:
        kept = sum(row.get("verdict") == "inherited" for row in rows)
        found.append((f"{kept} of {len(rows)}", "dimensions and precisions inherited"))
    spent = [
        step["seconds"] for step in data.get("steps") or [] if fig.is_number(step.get("seconds"))
    ]
    if spent:
        found.append((fig.duration(sum(spent)), "in all steps"))
    return found
