"""Tables and charts of a comparison: runs are columns, and each has one color everywhere."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from markupsafe import Markup

from leafkit.report import costs, facts, provenance
from leafkit.report.charts.bars import grouped_bars
from leafkit.report.charts.plots import Cloud, Dot
from leafkit.report.charts.svg import element
from leafkit.report.facts import Scored
from leafkit.report.format import flatten, grouped, interval, percent_interval, signed_interval
from leafkit.report.run_charts import Figure, Line, interval_bar, kept_by_dim, matryoshka_chart
from leafkit.results import Contamination, GridCell, Interval, Overlap, RunReport

MAX_RUNS = 8  # tones of the style sheet
ABSENT = "\N{EN DASH}"
_ALWAYS_DIFFERENT = ("created", "peak memory")

_Name = TypeVar("_Name", bound=Hashable)
_Value = TypeVar("_Value")
Row = list[str]


@dataclass(frozen=True, slots=True)
class Run:
    """A run with a name that no other one has, and its color."""

    name: str
    report: RunReport
    tone: int

    @property
    def head(self) -> Markup:
        """Its name with a patch of its color, above a column."""
        patch = element("i", class_=f"swatch back-{self.tone}", aria_hidden="true")
        return element("span", patch, self.name, class_="run")


def _united(lists: Iterable[Iterable[_Name]]) -> list[_Name]:
    """Every name once, in order of appearance."""
    return list(dict.fromkeys(name for names in lists for name in names))


def _each(found: Iterable[Mapping[_Name, _Value]], name: _Name) -> list[_Value | None]:
    """What every run has under a name."""
    return [own.get(name) for own in found]


@dataclass(frozen=True, slots=True)
class Compared:
    """One collection in every run, or the mean over all collections.

    Attributes:
        name: of the collection.
        warning: what makes the figures hard to compare; "" for nothing.
        groups: scores, shares and sizes, a column per run.
        chart: nDCG@10 of every system, a color per run.
    """

    name: str
    warning: str
    groups: list[tuple[str, list[Row]]]
    chart: Figure | None


def retrieval(runs: Sequence[Run]) -> list[Compared]:
    """What every system scored in every run, by collection; the mean over all comes last."""
    by_run = [
        {(part.collection is None, part.name): part for part in facts.scored(run.report)}
        for run in runs
    ]
    keys = sorted(_united(by_run), key=lambda key: key[0])
    return [_compared(runs, key[1], _each(by_run, key)) for key in keys]


def _compared(runs: Sequence[Run], name: str, found: Sequence[Scored | None]) -> Compared:
    parts = [part for part in found if part]
    systems = _united([row.system for row in part.systems] for part in parts)
    scores = [
        [facts.system_name(s), *(_written(interval, p.score(s) if p else None) for p in found)]
        for s in systems
    ]
    shares = [
        [mode, *(_written(percent_interval, p.retention.get(mode) if p else None) for p in found)]
        for mode in _united(part.retention for part in parts)
    ]
    about = [
        ["queries", *(grouped(p.num_queries) if p else ABSENT for p in found)],
        ["documents", *(grouped(p.num_documents) if p else ABSENT for p in found)],
        ["queries seen in training", *(_seen(p, lambda c: c.queries) for p in found)],
        ["documents seen in training", *(_seen(p, lambda c: c.documents) for p in found)],
    ]
    groups = [("nDCG@10", scores), ("share of the teacher", shares)]
    groups += [("", about)] if parts[0].collection else []
    groups = [group for group in groups if group[1]]
    warning = ""
    if len({(p.num_queries, p.num_documents) for p in parts}) > 1:
        warning = "not the same queries and documents in every run"
    if len({p.num_collections for p in parts}) > 1:
        warning = "not the same collections in every run"
    return Compared(name, warning, groups, _system_bars(runs, name, systems, found))


def _written(write: Callable[[Interval], str], cell: Interval | None) -> str:
    return write(cell) if cell else ABSENT


def _seen(part: Scored | None, read: Callable[[Contamination], Overlap | None]) -> str:
    """Contamination in short; the report of the run itself says more."""
    if part is None or part.collection is None:
        return ABSENT
    found = part.collection.contamination
    overlap = read(found) if found else None
    if overlap is None:
        return "unknown"
    return f"{grouped(overlap.exact)} exact, {grouped(overlap.near)} near"


def _system_bars(
    runs: Sequence[Run], name: str, systems: Sequence[str], found: Sequence[Scored | None]
) -> Figure | None:
    groups = []
    for system in systems:
        cells = [(run, p.score(system)) for run, p in zip(runs, found, strict=True) if p]
        bars = [interval_bar(r.name, c, r.tone, ".2f") for r, c in cells if c]
        groups += [(facts.system_name(system), bars)] if bars else []
    words = "; ".join(
        f"{s}: " + ", ".join(f"{bar.label} {bar.text}" for bar in bars) for s, bars in groups
    )
    return Figure(grouped_bars(f"nDCG@10 on {name}", words, groups)) if groups else None


def outcomes(runs: Sequence[Run]) -> list[Row]:
    """Where the inheritance check was made, and how many settings have which verdict."""
    grids = [run.report.inheritance for run in runs]
    return [
        ["collection", *(grid.collection if grid else ABSENT for grid in grids)],
        *(
            [word, *(grouped(grid.count(word)) if grid else ABSENT for grid in grids)]
            for word in facts.VERDICTS
        ),
    ]


def curves(runs: Sequence[Run]) -> list[Figure]:
    """The student's retention over dimensions, a chart per mode and a line per run."""
    own = [(run, run.report.inheritance.cells) for run in runs if run.report.inheritance]
    charts = []
    for mode in _united([cell.mode for cell in cells] for _, cells in own):
        lines = [
            Line(run.name, run.tone, line.shares)
            for run, cells in own
            for line in kept_by_dim([cell for cell in cells if cell.mode == mode])[1:]
        ]
        title = f"nDCG@10 that the student keeps over Matryoshka dimensions, {mode}"
        charts.append(matryoshka_chart(title, lines))
    return [chart for chart in charts if chart]


def disagreements(runs: Sequence[Run]) -> list[Row]:
    """Settings that two runs at least were measured on and whose verdicts differ."""
    grids = [run.report.inheritance for run in runs]
    found = [{_setting(cell): cell for cell in grid.cells} if grid else {} for grid in grids]
    rows = []
    for setting in _united(found):
        cells = _each(found, setting)
        if len({cell.verdict for cell in cells if cell}) > 1:
            rows.append([setting, *(_verdict(cell) for cell in cells)])
    return rows


def _setting(cell: GridCell) -> str:
    return f"{cell.dim}-d {cell.precision}, {cell.mode}, {cell.scoring}"


def _verdict(cell: GridCell | None) -> str:
    return f"{cell.verdict}\ngap {signed_interval(cell.gap)}" if cell else ABSENT


def frontiers(runs: Sequence[Run]) -> list[tuple[str, list[Figure]]]:
    """Quality against bytes, search speed and time to embed a query, a color per run."""
    found = []
    for name in _united(costs.cost_collections(run.report) for run in runs):
        charts = costs.cost_charts(
            name,
            [Cloud(r.name, costs.bytes_dots(r.report, name, "asymmetric"), r.tone) for r in runs],
            [Cloud(r.name, costs.speed_dots(r.report, name, "asymmetric"), r.tone) for r in runs],
            [Cloud(r.name, _encoder_dots(r.report, name), r.tone) for r in runs],
        )
        found += [(name, charts)] if charts else []
    return found


def _encoder_dots(report: RunReport, name: str) -> list[Dot]:
    return [dot for _, dot in costs.encoder_dots(report, name)]


def recipes(runs: Sequence[Run]) -> list[Row] | None:
    """The keys of the recipes that have not the same value in every run; None where fewer than two
    runs have a recipe.
    """
    flat = [dict(flatten(run.report.recipe)) if run.report.recipe else {} for run in runs]
    known = [own for own in flat if own]
    if len(known) < 2:
        return None
    keys = sorted(key for key in _united(flat) if len(set(_each(known, key))) > 1)
    return [
        [key, *(ABSENT if value is None else value for value in _each(flat, key))] for key in keys
    ]


def origins(runs: Sequence[Run]) -> list[tuple[bool, Row]]:
    """Versions and hardware, and whether they differ between runs and could matter."""
    own = [dict(provenance.origin(run.report)) for run in runs]
    rows = [(term, _each(own, term)) for term in _united(own)]
    return [
        (
            term not in _ALWAYS_DIFFERENT and len(set(facts)) > 1,
            [term, *(fact or ABSENT for fact in facts)],
        )
        for term, facts in rows
    ]
