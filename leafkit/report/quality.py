"""The report's sections on quality: retrieval, differences, inheritance, what a low-rank map keeps, sample queries.

A section is None where the run did not measure it.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from leafkit.report import figures as fig
from leafkit.report.markup import Safe, Section, badge, element, figure, join, table
from leafkit.report.svg import Bar, Series, bar_chart, grouped_bars, interval_chart, line_chart
from leafkit.report.tables import metrics_of

TONES = {"teacher": 1, "symmetric": 2, "asymmetric": 3, "baseline": 4, "bm25": 5}
_OTHER_TONE = 6
_CLEAR_TONE, _NOISE_TONE = 1, 5
_NOISE_BADGES = {
    "within noise": ("open", "\N{ALMOST EQUAL TO}"),
    "higher": ("pass", "\N{UPWARDS ARROW}"),
    "lower": ("fail", "\N{DOWNWARDS ARROW}"),
}
_INHERIT_BADGES = {"inherited": ("pass", "\N{CHECK MARK}"), "not inherited": ("fail", "\N{BALLOT X}")}
_SAMPLE_LETTERS = 180

Data = Mapping[str, Any]


def _bar(label: str, cell: Data, tone: int, text: str) -> Bar:
    low, high = (cell["low"], cell["high"]) if fig.has_interval(cell) else (None, None)
    return Bar(label, cell["mean"], low, high, tone, text)


def retrieval(data: Data) -> Section | None:
    """nDCG@10 of every system as bars, all metrics as a table, for each collection; all bars on one scale."""
    shown = [c for c in fig.collections(data) if c.get("rows")]
    if not shown:
        return None
    everywhere = [bar for c in shown for bar in _retrieval_bars(c)]
    systems = [s for s in fig.SYSTEMS if any(row.get("system") == s for c in shown for row in c["rows"])]
    legend = element("p", join(_meaning(s) for s in systems), class_="key") if systems else Safe("")
    note = element("p", "Bars are nDCG@10, whiskers the 95% interval of a paired bootstrap over the queries.", class_="note")
    cards = join(_collection_card(c, everywhere) for c in shown)
    return Section("retrieval", "Retrieval", join((legend, note, element("div", cards, class_="pair"))))


def _meaning(system: str) -> Safe:
    swatch = element("i", class_=f"swatch back-{TONES[system]}", aria_hidden="true")
    return element("span", swatch, element("b", fig.system_name({"system": system})), f": {fig.SYSTEMS[system]}")


def _heading(collection: Data) -> Safe:
    facts = f"{fig.grouped(collection.get('num_queries'))} queries, {fig.grouped(collection.get('num_documents'))} documents"
    kind = element("span", collection.get("kind", ""), class_="kind") if collection.get("kind") else Safe("")
    return join((element("h3", collection.get("name", "?"), " ", kind), element("p", facts, class_="note")))


def _retrieval_bars(collection: Data) -> list[Bar]:
    measured = [(row, row["ndcg@10"]) for row in collection["rows"] if fig.is_number((row.get("ndcg@10") or {}).get("mean"))]
    return [
        _bar(fig.system_name(row), cell, TONES.get(row.get("system", ""), _OTHER_TONE), fig.decimal(cell["mean"]))
        for row, cell in measured
    ]


def _collection_card(collection: Data, everywhere: Sequence[Bar]) -> Safe:
    rows, bars = collection["rows"], _retrieval_bars(collection)
    name = f"nDCG@10 on {fig.describe(collection)}"
    description = "; ".join(f"{fig.system_name(row)}: {fig.interval(row.get('ndcg@10'))}" for row in rows)
    chart = figure(bar_chart(name, description, bars, everywhere)) if bars else Safe("")
    metrics = metrics_of(collection)
    cells = [[_system(row), *(_stacked(fig.interval(row.get(m))) for m in metrics)] for row in rows]
    header = ["system", *(fig.METRICS[m] for m in metrics)]
    figures = table(f"Metrics on {collection.get('name')}", header, "t" + "n" * len(metrics), cells)
    return element("div", _heading(collection), chart, figures)


def _two_lines(first: object, second: object) -> Safe:
    return join((first, " ", element("small", second))) if second else join((first,))


def _system(row: Data) -> Safe:
    label = str(row.get("label") or "")
    return _two_lines(fig.system_name(row), label if label != fig.system_name(row) else "")


def _stacked(text: str) -> Safe:
    """An estimate with its interval in a second, smaller line."""
    estimate, _, bounds = text.partition(" ")
    return _two_lines(estimate, bounds)


def differences(data: Data) -> Section | None:
    """Paired differences as dots on one scale, and what each allows one to say."""
    shown = [c for c in fig.collections(data) if c.get("differences")]
    if not shown:
        return None
    everywhere = [bar for c in shown for bar in _difference_bars(c)]
    note = element(
        "p", "Both systems answer the same queries, so their difference has an interval of its own. One that contains 0 is "
        "within noise: this many queries cannot tell the two apart.", class_="note",
    )  # fmt: skip
    cards = join(_difference_card(c, everywhere) for c in shown)
    return Section("differences", "Differences", join((note, element("div", cards, class_="pair"))))


def _difference_bars(collection: Data) -> list[Bar]:
    """Differences that the interval tells from 0 are strong, the others grey."""
    return [
        _bar(_difference_name(row), row, _NOISE_TONE if fig.noise_verdict(row) == "within noise" else _CLEAR_TONE, "")
        for row in collection["differences"]
        if fig.is_number(row.get("mean"))
    ]


def _difference_card(collection: Data, everywhere: Sequence[Bar]) -> Safe:
    rows, bars = collection["differences"], _difference_bars(collection)
    what = " / ".join(fig.METRICS.get(m, str(m)) for m in fig.values_of(rows, "metric")) or "score"
    title = f"Differences in {what} on {fig.describe(collection)}"
    description = "; ".join(f"{fig.difference_name(row)}: {fig.signed_interval(row)}, {fig.noise_verdict(row)}" for row in rows)
    chart = figure(interval_chart(title, description, bars, everywhere)) if bars else Safe("")
    cells = [[_difference_name(row), _stacked(fig.signed_interval(row)), _noise_badge(row)] for row in rows]
    listed = table(title, ["difference", what, "verdict"], "tnt", cells)
    return element("div", _heading(collection), chart, listed)


def _difference_name(row: Data) -> str:
    metric = row.get("metric", "ndcg@10")
    name = fig.difference_name(row).replace(" - ", " \N{MINUS SIGN} ")
    return name if metric == "ndcg@10" else f"{name} ({fig.METRICS.get(metric, metric)})"


def _noise_badge(row: Data) -> Safe:
    words = fig.noise_verdict(row)
    return badge(*_NOISE_BADGES.get(words, ("open", "?")), words)


def inheritance(data: Data) -> Section | None:
    """Scores over Matryoshka dimensions and precisions, and the verdict of every setting."""
    rows = fig.inherit_rows(data)
    if not rows:
        return None
    check = data["inherit"]
    where = f"Measured on {check.get('collection', '?')} with {fig.grouped(check.get('num_queries'))} queries. "
    note = element(
        "p", where, "Retention is the score under a setting over the same system's score at full size and float32. The gap is "
        "the teacher's retention minus the student's. A setting is inherited where the gap is no larger than allowed, not "
        "inherited where its whole interval is larger, and undecided in between.",
        class_="note",
    )  # fmt: skip
    kind, symbol = ("pass", "\N{CHECK MARK}") if check.get("passed") else ("fail", "\N{BALLOT X}")
    outcome = element("p", badge(kind, symbol, fig.inherit_summary(data)), class_="outcome")
    charts = element("div", _matryoshka_curves(rows), _precision_bars(rows), class_="pair")
    return Section("inheritance", "Inheritance", join((outcome, note, charts, _inherit_table(rows))))


def _by_mode(rows: Sequence[Data], key: str) -> list[tuple[str, int, dict[Any, float]]]:
    """Name, tone and scores by ``key`` of the teacher and of the student in either mode."""
    lines = [("teacher", TONES["teacher"], {row[key]: row["teacher"] for row in rows if fig.is_number(row.get("teacher"))})]
    for mode in fig.values_of(rows, "mode"):
        scores = {row[key]: row["student"] for row in rows if row.get("mode") == mode and fig.is_number(row.get("student"))}
        lines.append((f"student, {mode}", TONES.get(mode, _OTHER_TONE), scores))
    return [line for line in lines if line[2]]


def _matryoshka_curves(rows: Sequence[Data]) -> Safe:
    plain = [row for row in rows if row.get("precision") == "float32" and fig.is_number(row.get("dim"))]
    dims = sorted(fig.values_of(plain, "dim"))
    if len(dims) < 2:
        return Safe("")
    lines = _by_mode(plain, "dim")
    series = [Series(name, sorted(scores.items()), tone) for name, tone, scores in lines]
    description = "; ".join(
        f"{name}: " + ", ".join(f"{dim}-d {fig.decimal(score)}" for dim, score in sorted(scores.items()))
        for name, _, scores in lines
    )
    chart = line_chart(
        "nDCG@10 over Matryoshka dimensions", description, series, "dimensions kept (float32)", log_x=True, x_marks=dims
    )
    return figure(chart, "nDCG@10 when only the first dimensions of every vector are kept. The y axis does not start at 0.")


def _precision_bars(rows: Sequence[Data]) -> Safe:
    full = max((row["dim"] for row in rows if fig.is_number(row.get("dim"))), default=None)
    whole = [row for row in rows if row.get("dim") == full]
    precisions = fig.values_of(whole, "precision")
    if full is None or len(precisions) < 2:
        return Safe("")
    lines = _by_mode(whole, "precision")
    groups = [
        (str(p), [Bar(name, scores[p], tone=tone, text=f"{scores[p]:.2f}") for name, tone, scores in lines if p in scores])
        for p in precisions
    ]
    description = "; ".join(f"{p}: " + ", ".join(f"{b.label} {fig.decimal(b.value)}" for b in bars) for p, bars in groups)
    chart = grouped_bars("nDCG@10 by precision", description, groups)
    return figure(chart, f"nDCG@10 by the precision of the vectors, all {full} dimensions.")


def _inherit_table(rows: Sequence[Data]) -> Safe:
    header = ["dim", "precision", "mode", "teacher", "student", "teacher keeps", "student keeps", "gap", "allowed", "verdict"]
    cells = [
        [
            row.get("dim", "?"), row.get("precision", "?"), row.get("mode", "?"),
            fig.decimal(row.get("teacher")), fig.decimal(row.get("student")),
            fig.percent(row.get("teacher_retention")), fig.percent(row.get("student_retention")),
            fig.signed_interval(row, "gap"), fig.decimal(row.get("max_gap")),
            badge(*_INHERIT_BADGES.get(row.get("verdict", ""), ("open", "?")), str(row.get("verdict", "undecided"))),
        ]
        for row in rows
    ]  # fmt: skip
    return table("Inheritance by setting", header, "nttnnnnnnt", cells)


def spectrum(data: Data) -> Section | None:
    """How much of the teacher a student of this width can express at all."""
    found = data.get("spectrum") or {}
    labels = {"variance_kept": "variance kept", "ridge_cosine": "ridge cosine"}
    bars = [Bar(label, found[key], tone=3, text=fig.percent(found[key]) if key == "variance_kept" else fig.decimal(found[key]))
            for key, label in labels.items() if fig.is_number(found.get(key))]  # fmt: skip
    if not bars:
        return None
    dim = (data.get("teacher") or {}).get("dim")
    texts = f", measured on {fig.grouped(found['num_texts'])} texts" if "num_texts" in found else ""
    sentence = (
        f"The student's output passes through {found.get('rank', '?')} hidden dimensions, the teacher's vectors have "
        f"{dim or '?'}. The first bar is the variance that the best affine map of that rank keeps, the second the mean cosine "
        f"to the teacher at the closed-form ridge start of the last layer{texts}."
    )
    chart = bar_chart("What a low-rank map keeps", "; ".join(f"{b.label}: {b.text}" for b in bars), bars, [Bar("all", 1.0)])
    return Section("spectrum", "Room in the student", join((element("p", sentence, class_="note"), figure(chart))))


def samples(data: Data) -> Section | None:
    """Queries with the teacher's and the student's first documents side by side."""
    rows = fig.rows_of(data, "samples")
    if not rows:
        return None
    cards = join(
        element(
            "article", element("h3", "\N{LEFT DOUBLE QUOTATION MARK}", row.get("query", ""), "\N{RIGHT DOUBLE QUOTATION MARK}"),
            element("div", *(_ranking(row, system) for system in ("teacher", "student")), class_="pair tight"), class_="sample",
        )
        for row in rows
    )  # fmt: skip
    return Section("samples", "Sample queries", cards)


def _ranking(sample: Data, system: str) -> Safe:
    hits = sample.get(system) or []
    heading = element("h4", system)
    if not hits:
        return element("div", heading, element("p", "no ranking", class_="note"))
    items = [_hit(hit) for hit in hits]
    missed = Safe("") if any(hit.get("relevant") for hit in hits) else element(
        "p", f"No relevant document among the first {len(hits)}.", class_="note"
    )  # fmt: skip
    return element("div", heading, element("ol", *items, class_="hits"), missed)


def _hit(hit: Data) -> Safe:
    relevant = bool(hit.get("relevant"))
    head = [element("code", hit.get("id", "?")), " ", element("span", fig.decimal(hit.get("score")), class_="score")]
    if relevant:
        head += [" ", badge("pass", "\N{CHECK MARK}", "relevant")]
    text = textwrap.shorten(fig.clean(hit.get("text", "")), _SAMPLE_LETTERS, placeholder=" \N{HORIZONTAL ELLIPSIS}")
    return element("li", element("div", *head), element("p", text), class_="relevant" if relevant else None)
