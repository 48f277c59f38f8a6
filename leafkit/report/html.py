"""The run's report as one HTML file: no script, nothing loaded from elsewhere, for a phone and a desk, by day and by night."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from leafkit.report import figures as fig
from leafkit.report import provenance, quality
from leafkit.report.markup import Safe, Section, element
from leafkit.report.theme import stylesheet

_SECTIONS = (
    quality.retrieval, quality.differences, quality.inheritance, provenance.latency, quality.samples, provenance.models,
    quality.spectrum, provenance.losses, provenance.texts, provenance.steps, provenance.origin,
)  # fmt: skip
_HEAD = (
    '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    '<meta name="color-scheme" content="light dark">'
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
)


def render_report(data: Mapping[str, Any]) -> str:
    """The whole report as one HTML document.

    Args:
        data: what the stages measured, as in report.json. Parts that are missing or empty are left out of the page.
    """
    sections = [section for build in _SECTIONS if (section := build(data)) is not None]
    name = str(data.get("name") or "leafkit")
    head = element("head", Safe(_HEAD), element("title", f"{name}: leafkit report"), element("style", Safe(stylesheet())))
    body = element("body", element("main", _header(data, name, sections), *map(_written, sections), _footer(data)))
    return f'<!doctype html>\n<html lang="en">{head}{body}</html>\n'


def _written(section: Section) -> Safe:
    return element("section", element("h2", section.title), section.body, id=section.anchor)


def _header(data: Mapping[str, Any], name: str, sections: list[Section]) -> Safe:
    made = [str(data["created"])[:10]] if data.get("created") else []
    eyebrow = " \N{MIDDLE DOT} ".join([*made, *filter(None, [fig.machine(data)])])
    sentences = fig.verdict_sentences(data) or ["This run measured no retrieval."]
    first, rest = sentences[0], " ".join(sentences[1:])
    links = [element("a", section.title, href=f"#{section.anchor}") for section in sections]
    return element(
        "header", element("p", eyebrow, class_="eyebrow"), element("h1", name), element("p", first, class_="lede"),
        element("p", rest) if rest else "", _tiles(data), element("nav", *links, aria_label="Sections"),
    )  # fmt: skip


def _tiles(data: Mapping[str, Any]) -> Safe:
    tiles = [element("div", element("b", big), element("span", small), class_="tile") for big, small in _key_figures(data)]
    return element("div", *tiles, class_="tiles") if tiles else Safe("")


def _key_figures(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    found = []
    for position, collection in enumerate(fig.collections(data)):
        for mode in fig.MODES if position == 0 else ("asymmetric",):
            cell = (collection.get("retention") or {}).get(mode)
            if cell and fig.is_number(cell.get("mean")):
                bounds = fig.percent_interval(cell).partition(" ")[2]
                where = f"{collection.get('name', '?')}, n = {fig.grouped(collection.get('num_queries'))}"
                found.append((fig.percent(cell["mean"]), f"{bounds} of the teacher, {mode}, {where}".strip()))
    share, faster, rows = fig.parameter_share(data), fig.speed_up(data), fig.inherit_rows(data)
    if share is not None:
        found.append((fig.short_count(data["student"]["parameters"]), f"parameters, {share:.0%} of the teacher"))
    if faster is not None:
        found.append((f"{faster[0]:.1f}\N{MULTIPLICATION SIGN}", "the queries per second of the teacher"))
    if rows:
        kept = sum(row.get("verdict") == "inherited" for row in rows)
        found.append((f"{kept} of {len(rows)}", "dimensions and precisions inherited"))
    spent = [step["seconds"] for step in data.get("steps") or [] if fig.is_number(step.get("seconds"))]
    if spent:
        found.append((fig.duration(sum(spent)), "in all steps"))
    return found


def _footer(data: Mapping[str, Any]) -> Safe:
    version = (data.get("versions") or {}).get("leafkit")
    made_by = f"Written by leafkit {version}." if version else "Written by leafkit."
    return element("footer", made_by, " Intervals are 95% paired-bootstrap intervals.")
