"""The report's sections on quality: retrieval, differences, tasks without a search.

A section is None where the run did not measure it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from leafkit.report import facts
from leafkit.report import figures as fig
from leafkit.report.bars import Bar, bar_chart, interval_chart
from leafkit.report.cells import (
    OTHER_TONE,
    TONES,
    bar,
    noise_badge,
    note,
    notes_on,
    stacked,
    two_lines,
)
from leafkit.report.markup import Safe, Section, element, figure, join, table
from leafkit.report.tables import metrics_of

_CLEAR_TONE, _NOISE_TONE = 1, 5

Data = Mapping[str, Any]


def retrieval(data: Data) -> Section | None:
    """nDCG@10 of every system as bars, all metrics as a table, for each collection and their mean;
    all bars on one scale.
    """
    shown = [c for c in facts.measured(data) if c.get("rows")]
    if not shown:
        return None
    everywhere = [b for c in shown for b in _retrieval_bars(c)]
    systems = [
        s for s in facts.SYSTEMS if any(row.get("system") == s for c in shown for row in c["rows"])
    ]
    legend = element("p", join(_meaning(s) for s in systems), class_="key") if systems else Safe("")
    words = note(
        "Bars are nDCG@10, whiskers the 95% interval of a paired bootstrap over the queries; a "
        "share of the teacher's nDCG@10 "
        "has an interval of its own. Contamination counts evaluation texts that training has "
        "seen, as they are or nearly so."
    )
    cards = join(_collection_card(c, everywhere) for c in shown)
    return Section("retrieval", "Retrieval", join((legend, words, cards)))


def _meaning(system: str) -> Safe:
    swatch = element("i", class_=f"swatch back-{TONES[system]}", aria_hidden="true")
    return element(
        "span",
        swatch,
        element("b", facts.system_name({"system": system})),
        f": {facts.SYSTEMS[system]}",
    )


def heading(collection: Data) -> Safe:
    """Name, kind and size of a collection above its figures."""
    kind = (
        element("span", collection.get("kind", ""), class_="kind")
        if collection.get("kind")
        else Safe("")
    )
    name = element("h3", collection.get("name", "?"), " ", kind)
    if collection.get("is_macro"):
        return name
    size = (
        f"{fig.grouped(collection.get('num_queries'))} queries, "
        f"{fig.grouped(collection.get('num_documents'))} documents"
    )
    return join((name, note(size)))


def _retrieval_bars(collection: Data) -> list[Bar]:
    measured = [(row, cell) for row in collection["rows"] if (cell := facts.score(row)) is not None]
    return [
        bar(
            facts.system_name(row),
            cell,
            TONES.get(row.get("system", ""), OTHER_TONE),
            fig.decimal(cell["mean"]),
        )
        for row, cell in measured
    ]


def _collection_card(collection: Data, everywhere: Sequence[Bar]) -> Safe:
    rows, bars = collection["rows"], _retrieval_bars(collection)
    name = f"nDCG@10 on {facts.describe(collection)}"
    description = "; ".join(
        f"{facts.system_name(row)}: {fig.interval(row.get('ndcg@10'))}" for row in rows
    )
    chart = figure(bar_chart(name, description, bars, everywhere)) if bars else Safe("")
    metrics, kept = metrics_of(collection), collection.get("retention") or {}
    header = ["system", *(facts.METRICS[m] for m in metrics)]
    cells = [[_system(row), *(stacked(fig.interval(row.get(m))) for m in metrics)] for row in rows]
    if kept:  # beside the metric whose share it is
        header.insert(2, "of the teacher")
        cells = [
            [*row[:2], _share(kept, source), *row[2:]]
            for row, source in zip(cells, rows, strict=True)
        ]
    figures = table(
        f"Metrics on {collection.get('name')}", header, "t" + "n" * (len(header) - 1), cells
    )
    words = element("div", heading(collection), chart, class_="about")
    return element("div", words, element("div", figures, notes_on(collection)), class_="split")


def _share(kept: Data, row: Data) -> Safe:
    """What the system keeps of the teacher's nDCG@10; nothing for systems that have no such share."""
    cell = kept.get(row.get("system", ""))
    return stacked(fig.percent_interval(cell)) if cell else Safe("")


def _system(row: Data) -> Safe:
    """The name of a system, with its label where that says more than the legend."""
    system, label = str(row.get("system", "?")), str(row.get("label") or "")
    is_explained = system in facts.SYSTEMS and (system != "baseline" or label.startswith(system))
    return two_lines(facts.system_name(row), "" if is_explained else label)


def differences(data: Data) -> Section | None:
    """Paired differences as dots on one scale, and what each allows one to say."""
    shown = [c for c in facts.measured(data) if c.get("differences")]
    if not shown:
        return None
    everywhere = [b for c in shown for b in _difference_bars(c)]
    has_p = any("p" in row for c in shown for row in c["differences"])
    test = (
        " p is that of a paired randomisation test: how often random signs give a difference as "
        "large."
        if has_p
        else ""
    )
    words = note(
        "Both systems answer the same queries, so their difference has an interval of its own. "
        "One that contains 0 is "
        f"within noise: this many queries cannot tell the two apart.{test}"
    )
    cards = join(_difference_card(c, everywhere) for c in shown)
    return Section(
        "differences", "Differences", join((words, element("div", cards, class_="pair")))
    )


def _difference_bars(collection: Data) -> list[Bar]:
    """Differences that the interval tells from 0 are strong, the others grey."""
    return [
        bar(
            _difference_name(row),
            row,
            _NOISE_TONE if fig.noise_verdict(row) == "within noise" else _CLEAR_TONE,
            "",
        )
        for row in collection["differences"]
        if fig.is_number(row.get("mean"))
    ]


def _difference_card(collection: Data, everywhere: Sequence[Bar]) -> Safe:
    rows, bars = collection["differences"], _difference_bars(collection)
    what = " / ".join(facts.metric_name(m) for m in fig.values_of(rows, "metric")) or "score"
    title = f"Differences in {what} on {facts.describe(collection)}"
    description = "; ".join(
        f"{facts.difference_name(row)}: {fig.signed_interval(row)}, {fig.noise_verdict(row)}"
        for row in rows
    )
    chart = figure(interval_chart(title, description, bars, everywhere)) if bars else Safe("")
    cells = [
        [_difference_name(row), stacked(fig.signed_interval(row)), _verdict(row)] for row in rows
    ]
    listed = table(title, ["difference", what, "verdict"], "tnt", cells)
    return element("div", heading(collection), chart, listed)


def _verdict(row: Data) -> Safe:
    return two_lines(noise_badge(row), f"p {fig.p_value(row)}" if "p" in row else "")


def _difference_name(row: Data) -> str:
    metric = row.get("metric", "ndcg@10")
    name = facts.difference_name(row).replace(" - ", " \N{MINUS SIGN} ")
    return name if metric == "ndcg@10" else f"{name} ({facts.metric_name(metric)})"


def tasks(data: Data) -> Section | None:
    """Tasks without a search: every system's score and the paired differences, one row per task."""
    rows = facts.rows_of(data, "tasks")
    if not rows:
        return None
    systems = fig.values_of([row for task in rows for row in task.get("rows") or []], "system")
    pairs = fig.values_of([row for task in rows for row in task.get("differences") or []], "label")
    cells = [_task_cells(task, systems, pairs) for task in rows]
    names = [
        facts.difference_name({"label": pair}).replace(" - ", " \N{MINUS SIGN} ") for pair in pairs
    ]
    header = ["task", "measure", "n", *systems, *names]
    words = note("Every text is embedded as a query.")
    listed = table(
        "Tasks without a search", header, "ttn" + "n" * (len(systems) + len(pairs)), cells
    )
    return Section("tasks", "Tasks without a search", join((words, listed)))


def _task_cells(task: Data, systems: Sequence[str], pairs: Sequence[str]) -> list[object]:
    scores = {row.get("system"): row for row in task.get("rows") or []}
    gaps = {row.get("label"): row for row in task.get("differences") or []}
    how = ": ".join(str(task[key]) for key in ("kind", "how") if task.get(key))
    return [
        two_lines(task.get("name", "?"), how),
        facts.metric_name(task.get("metric", "?")),
        fig.grouped(task.get("n")),
        *(stacked(fig.interval(scores.get(s))) for s in systems),
        *(stacked(fig.signed_interval(gaps.get(pair))) for pair in pairs),
    ]
