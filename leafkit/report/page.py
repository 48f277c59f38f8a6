"""The run's report as one HTML file: no script, nothing loaded from elsewhere, for a phone and a
desk, by day and by night.
"""

from __future__ import annotations

from collections.abc import Iterator

from leafkit.report import costs, facts, provenance, run_charts, tables, training
from leafkit.report.environment import render_page
from leafkit.report.format import (
    duration,
    grouped,
    is_known,
    percent_interval,
    round_percent,
    short_count,
)
from leafkit.results import RunReport

# template of the section and its title
_SECTIONS = {
    "retrieval": "Retrieval",
    "differences": "Differences",
    "tasks": "Tasks without a search",
    "queries": "Query by query",
    "inheritance": "Inheritance",
    "indexes": "Indexes",
    "frontiers": "Quality against cost",
    "latency": "Latency",
    "diagnosis": "Diagnosis of the teacher",
    "samples": "Sample queries",
    "models": "Models",
    "spectrum": "Room in the student",
    "losses": "Losses",
    "texts": "Texts",
    "steps": "Time of each step",
    "origin": "How this was made",
}


def render_report(report: RunReport) -> str:
    """The whole report as one HTML document; parts that the run did not measure are left out."""
    return render_page(
        "run",
        _SECTIONS,
        title=f"{report.name}: leafkit report",
        version=provenance.version(report),
        report=report,
        parts=facts.scored(report),
        key_figures=list(_key_figures(report)),
        facts=facts,
        provenance=provenance,
        run_charts=run_charts,
        tables=tables,
        costs=costs,
        training=training,
    )


def _key_figures(report: RunReport) -> Iterator[tuple[str, str]]:
    """The run in a few numbers, each with what it says."""
    for place, part in enumerate(facts.headline(facts.scored(report))):
        for mode in facts.MODES if place == 0 else ("asymmetric",):
            if mode in part.retention and is_known(part.retention[mode].value):
                share, _, bounds = percent_interval(part.retention[mode]).partition(" ")
                size = (
                    f"{part.name}, n = {grouped(part.num_queries)}"
                    if part.collection
                    else part.kind
                )
                yield share, f"{bounds} of the teacher, {mode}, {size}"
    counts, faster = facts.parameters(report), facts.speed_up(report)
    if counts is not None:
        share = round_percent(counts[0] / counts[1])
        yield short_count(counts[0]), f"parameters, {share} of the teacher"
    if faster is not None:
        yield f"{faster[0]:.1f}\N{MULTIPLICATION SIGN}", "the queries per second of the teacher"
    if report.inheritance is not None:
        grid = report.inheritance
        others = [f"{n} {word}" for word in facts.VERDICTS[1:] if (n := grid.count(word))]
        kept = grid.count("inherited")
        yield f"{kept} of {len(grid.cells)}", ", ".join(["settings inherited", *others])
    if report.steps:
        yield duration(sum(step.seconds for step in report.steps)), "to make all steps"
