"""The report's sections on single queries: one dot for each, those that the student loses, and
sample rankings.

A section is None where the run did not measure it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from leafkit.report import facts
from leafkit.report import figures as fig
from leafkit.report.cells import note
from leafkit.report.markup import Safe, Section, badge, element, figure, join
from leafkit.report.plots import Cloud, Dot, square_scatter
from leafkit.report.quality import heading

_STUDENTS = ("asymmetric", "symmetric")  # the first that was measured is drawn
_LOSS_TONE, _SAME_TONE, _GAIN_TONE = 4, 5, 3
_SAME = 1e-9  # scores closer than this are equal
_HIT_LETTERS, _DOT_LETTERS, _SUMMARY_LETTERS = 180, 90, 120
_OPEN, _CLOSE = "\N{LEFT DOUBLE QUOTATION MARK}", "\N{RIGHT DOUBLE QUOTATION MARK}"

Data = Mapping[str, Any]


def per_query(data: Data) -> Section | None:
    """The student's nDCG@10 over the teacher's, one dot per query, and the queries that the student
    loses.
    """
    cards = [card for collection in facts.collections(data) if (card := _card(collection))]
    if not cards:
        return None
    words = note(
        "One dot per query: below the diagonal the student ranks worse than the teacher, above "
        "it better. Dots of equal scores "
        "are spread around their place, so a larger patch is more queries. Pointing at a dot "
        "shows its query."
    )
    return Section("queries", "Query by query", join((words, *cards)))


def _card(collection: Data) -> Safe:
    plot, lost = _scatter(collection), _lost_queries(collection.get("lost") or [])
    if not plot and not lost:
        return Safe("")
    return element(
        "div",
        heading(collection),
        element("div", plot, lost, class_="pair") if plot else lost,
        class_="collection",
    )


def _scatter(collection: Data) -> Safe:
    found = collection.get("per_query") or {}
    mode = next((m for m in _STUDENTS if found.get(m)), None)
    if mode is None or not found.get("teacher"):
        return Safe("")
    texts = found.get("texts") or found.get("ids") or []
    dots = [
        Dot(
            teacher, student, _tooltip(texts[place] if place < len(texts) else "", teacher, student)
        )
        for place, (teacher, student) in enumerate(zip(found["teacher"], found[mode], strict=False))
        if fig.is_number(teacher) and fig.is_number(student)
    ]
    if not dots:
        return Safe("")
    sides: tuple[tuple[str, int, list[Dot]], ...] = (
        ("student worse", _LOSS_TONE, [d for d in dots if d.y < d.x - _SAME]),
        ("equal", _SAME_TONE, [d for d in dots if abs(d.y - d.x) <= _SAME]),
        ("student better", _GAIN_TONE, [d for d in dots if d.y > d.x + _SAME]),
    )
    clouds = [Cloud(f"{name}: {fig.grouped(len(kept))}", kept, tone) for name, tone, kept in sides]
    title = f"nDCG@10 per query on {facts.describe(collection)}"
    chart = square_scatter(
        title, "; ".join(c.name for c in clouds), clouds, "nDCG@10 of the teacher"
    )
    total = collection.get("num_queries")
    sample = (
        f" A sample of {fig.grouped(len(dots))} queries."
        if fig.is_number(total) and len(dots) < total
        else ""
    )
    return figure(chart, f"Upwards: nDCG@10 of the student ({mode}).{sample}")


def _tooltip(text: object, teacher: float, student: float) -> str:
    return f"{fig.shorten(text, _DOT_LETTERS)} ({_change(teacher, student)})"


def _change(teacher: object, student: object) -> str:
    return f"teacher {fig.decimal(teacher, 2)}, student {fig.decimal(student, 2)}"


def _lost_queries(rows: Sequence[Data]) -> Safe:
    """The queries with the largest losses, each folded, with both rankings."""
    if not rows:
        return Safe("")
    items = [
        element(
            "details",
            element(
                "summary",
                _OPEN,
                fig.shorten(row.get("query", ""), _SUMMARY_LETTERS),
                _CLOSE,
                " ",
                element(
                    "span",
                    _change(row.get("teacher_ndcg"), row.get("student_ndcg")),
                    class_="score",
                ),
            ),
            _wanted(row),
            _rankings(row),
            class_="lost",
        )
        for row in rows
    ]
    return element("div", element("h4", f"the {len(rows)} largest losses"), *items)


def _wanted(row: Data) -> Safe:
    """The ids of the relevant documents, which may be in neither ranking."""
    ids = row.get("relevant") or []
    return (
        note("relevant: ", join(join((" ", element("code", i))) for i in ids)) if ids else Safe("")
    )


def samples(data: Data) -> Section | None:
    """Queries with the teacher's and the student's first documents side by side."""
    rows = facts.rows_of(data, "samples")
    if not rows:
        return None
    cards = [
        element(
            "article",
            element("h3", _OPEN, row.get("query", ""), _CLOSE),
            _rankings(row),
            class_="sample",
        )
        for row in rows
    ]
    return Section("samples", "Sample queries", join(cards))


def _rankings(row: Data) -> Safe:
    return element(
        "div", *(_ranking(row, system) for system in ("teacher", "student")), class_="pair tight"
    )


def _ranking(sample: Data, system: str) -> Safe:
    hits = sample.get(system) or []
    name = element("h4", system)
    if not hits:
        return element("div", name, note("no ranking"))
    missed = (
        Safe("")
        if any(hit.get("relevant") for hit in hits)
        else note(f"No relevant document among the first {len(hits)}.")
    )
    return element("div", name, element("ol", *map(_hit, hits), class_="hits"), missed)


def _hit(hit: Data) -> Safe:
    relevant = bool(hit.get("relevant"))
    head = [
        element("code", hit.get("id", "?")),
        " ",
        element("span", fig.decimal(hit.get("score")), class_="score"),
    ]
    if relevant:
        head += [" ", badge("pass", "\N{CHECK MARK}", "relevant")]
    text = fig.shorten(hit.get("text", ""), _HIT_LETTERS)
    return element(
        "li", element("div", *head), element("p", text), class_="relevant" if relevant else None
    )
