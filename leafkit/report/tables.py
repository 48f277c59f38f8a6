"""The run's figures as tables of text; page, card and console show the same cells.

A cell goes on in a second, smaller line after a line break. The page knows two kinds of column
besides l and r: v for a verdict, shown as a badge, and c for code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from leafkit.report import facts
from leafkit.report.facts import Scored, bench
from leafkit.report.format import (
    decimal,
    grouped,
    interval,
    noise_verdict,
    p_value,
    percent,
    percent_interval,
    signed_interval,
)
from leafkit.results import (
    Difference,
    GridCell,
    HeadFigures,
    IndexRow,
    RankFigures,
    RunReport,
    StepTime,
    Table,
    TaskScore,
)
from leafkit.results.retrieval import METRIC_NAMES

LARGE_GRID = 20  # settings; card and console list of a larger grid what is not inherited alone
ENCODERS = ("teacher", "student")

_Row = TypeVar("_Row")
_Column = tuple[str, str, Callable[[_Row], str]]  # heading, alignment, cell


def _table(
    title: str, columns: Sequence[_Column[_Row]], rows: Iterable[_Row], notes: Iterable[str] = ()
) -> Table:
    header, align = tuple(c[0] for c in columns), "".join(c[1] for c in columns)
    cells = tuple(tuple(read(row) for _, _, read in columns) for row in rows)
    return Table(title, header, align, cells, "\n".join(notes))


def metrics_of(part: Scored) -> list[str]:
    """Metrics that at least one system was measured by, in their usual order."""
    return [m for m in METRIC_NAMES if any(m in row.metrics for row in part.systems)]


def retrieval_table(part: Scored, narrow: bool = False, shares: bool = False) -> Table:
    """Every system's metrics with their intervals.

    Args:
        part: a collection, or the mean over all.
        narrow: leave out MAP, and remarks on contamination.
        shares: the share of the teacher's nDCG@10 beside it.
    """
    columns: list[_Column[str]] = [("system", "l", facts.system_name)]
    for m in metrics_of(part):
        if not (narrow and m == "map"):
            columns.append((METRIC_NAMES[m], "r", lambda s, m=m: interval(part.score(s, m))))
    kept = part.retention
    if shares and kept:
        of = lambda s: percent_interval(kept[s]) if s in kept else ""  # noqa: E731
        columns.insert(2, ("of the teacher", "r", of))
    size = f", {grouped(part.num_documents)} documents" if part.collection else ""
    systems = [row.system for row in part.systems]
    return _table(f"{part.title}{size}", columns, systems, facts.notes_on(part, brief=narrow))


def difference_label(row: Difference) -> str:
    """What is subtracted from what, with its metric where that is not nDCG@10."""
    name = facts.difference_name(row).replace(" - ", " \N{MINUS SIGN} ")
    return name if row.metric == "ndcg@10" else f"{name} ({facts.metric_name(row.metric)})"


def difference_table(part: Scored) -> Table:
    """Paired differences on one collection, the p value below the verdict."""
    what = " / ".join(dict.fromkeys(facts.metric_name(d.metric) for d in part.differences))
    columns: list[_Column[Difference]] = [
        ("difference", "l", difference_label),
        (what, "r", lambda d: signed_interval(d.interval)),
        ("verdict", "v", lambda d: noise_verdict(d.interval) + _below(p_value(d.p), "p ")),
    ]
    return _table(f"Differences in {what} on {part.title}", columns, part.differences)


def _below(words: str, before: str = "") -> str:
    return f"\n{before}{words}" if words else ""


def differences_table(report: RunReport) -> Table:
    """Paired differences on all collections and tasks, and what each allows one to say."""
    parts = (*facts.scored(report), *bench(report).tasks)
    rows = [(part.name, difference) for part in parts for difference in part.differences]
    columns: list[_Column[tuple[str, Difference]]] = [
        ("collection", "l", lambda row: row[0]),
        ("difference", "l", lambda row: facts.difference_name(row[1])),
        ("metric", "l", lambda row: facts.metric_name(row[1].metric)),
        ("value", "r", lambda row: signed_interval(row[1].interval)),
        ("p", "r", lambda row: p_value(row[1].p)),
        ("verdict", "l", lambda row: noise_verdict(row[1].interval)),
    ]
    has_p = any(difference.p is not None for _, difference in rows)
    return _table("Differences", [c for c in columns if has_p or c[0] != "p"], rows)


def tasks_table(report: RunReport) -> Table:
    """Every system's score on every task without a search."""
    rows = [(task, system) for task in bench(report).tasks for system in task.scores]
    return _table(
        "Tasks without a search",
        [
            ("task", "l", lambda row: row[0].name),
            ("kind", "l", lambda row: row[0].kind),
            ("measure", "l", lambda row: facts.metric_name(row[0].metric)),
            ("n", "r", lambda row: grouped(row[0].num_rows)),
            ("system", "l", lambda row: facts.system_name(row[1])),
            ("score", "r", lambda row: interval(row[0].scores[row[1]])),
        ],
        rows,
    )


def wide_tasks_table(report: RunReport) -> Table:
    """The same with a row per task and a column per system and paired difference."""
    tasks = bench(report).tasks
    gaps = {(t.name, d.label): d.interval for t in tasks for d in t.differences}
    columns: list[_Column[TaskScore]] = [
        ("task", "l", lambda t: f"{t.name}\n{t.kind}: {t.how}"),
        ("measure", "l", lambda t: facts.metric_name(t.metric)),
        ("n", "r", lambda t: grouped(t.num_rows)),
    ]
    for s in dict.fromkeys(system for t in tasks for system in t.scores):
        columns.append((s, "r", lambda t, s=s: interval(t.scores[s]) if s in t.scores else ""))
    for d in dict.fromkeys(d.label for t in tasks for d in t.differences):
        name = d.replace(" - ", " \N{MINUS SIGN} ")
        columns.append((name, "r", lambda t, d=d: signed_interval(gaps[t.name, d])))
    return _table("Tasks without a search", columns, tasks)


def setting_of(row: IndexRow) -> str:
    """What tells the settings of one kind of index apart: the setting, and the device in a second
    line where it is not the CPU.
    """
    return row.setting + _below("" if row.device == "cpu" else row.device)


def settings_of(rows: Iterable[IndexRow]) -> list[dict[str, IndexRow]]:
    """Rows of one kind of index by setting and device, and within by the encoder of the queries."""
    found: dict[str, dict[str, IndexRow]] = {}
    for row in rows:
        found.setdefault(setting_of(row), {})[row.queries] = row
    return list(found.values())


def index_tables(report: RunReport, narrow: bool = False) -> list[Table]:
    """For each collection and kind of index the setting that each encoder needs for the recall
    asked for.

    Where no setting of a kind reaches it, the one with the highest recall is shown and said to fall
    short. A ``narrow`` table leaves out nDCG.
    """
    columns: list[_Column[IndexRow]] = [
        ("index", "l", lambda row: row.kind),
        ("queries", "l", lambda row: row.queries),
        ("setting", "l", _marked_setting),
        ("bytes", "r", lambda row: grouped(row.bytes_per_vector)),
        ("queries/s", "r", lambda row: grouped(row.queries_per_s)),
        ("recall@10", "r", lambda row: interval(row.recall_at_10)),
        ("nDCG@10", "r", lambda row: interval(row.ndcg_at_10)),
    ][: 6 if narrow else 7]
    note = "The first setting that reaches the recall asked for; * the best one where none does."
    every = bench(report).indexes
    return [
        _table(f"Indexes on {name}", columns, _chosen([r for r in every if r.collection == name]), [note])
        for name in dict.fromkeys(row.collection for row in every)
    ]


def _marked_setting(row: IndexRow) -> str:
    return setting_of(row).replace("\n", " ") + ("" if row.is_cheapest_at_target else "*")


def _chosen(rows: Sequence[IndexRow]) -> list[IndexRow]:
    """Of every kind and encoder the settings marked as cheapest, one per device, or the best one."""
    found = []
    for kind in dict.fromkeys(row.kind for row in rows):
        for side in ENCODERS:
            own = [row for row in rows if (row.kind, row.queries) == (kind, side)]
            best = sorted(own, key=lambda row: -row.recall_at_10.value)[:1]
            found += [row for row in own if row.is_cheapest_at_target] or best
    return found


_GRID_COLUMNS: list[_Column[GridCell]] = [
    ("dim", "r", lambda cell: str(cell.dim)),
    ("precision", "l", lambda cell: cell.precision),
    ("mode", "l", lambda cell: cell.mode),
    ("scored", "l", lambda cell: cell.scoring),
    ("bytes", "r", lambda cell: grouped(cell.bytes_per_vector)),
    ("teacher", "r", lambda cell: decimal(cell.teacher)),
    ("student", "r", lambda cell: decimal(cell.student)),
    ("teacher keeps", "r", lambda cell: percent_interval(cell.teacher_retention)),
    ("student keeps", "r", lambda cell: percent_interval(cell.student_retention)),
    ("gap", "r", lambda cell: signed_interval(cell.gap)),
    ("allowed", "r", lambda cell: decimal(cell.max_gap)),
    ("verdict", "v", lambda cell: cell.verdict),
]


def grid_table(report: RunReport) -> Table:
    """Every setting of the inheritance check with all of its figures."""
    cells = report.inheritance.cells if report.inheritance else ()
    return _table("Inheritance by setting", _GRID_COLUMNS, cells)


def inheritance_table(report: RunReport, narrow: bool = False) -> Table:
    """The settings of the inheritance check with their gap, what is allowed, and the verdict; of a
    large grid those alone that are not inherited, the undecided ones last.

    Args:
        report: of the run.
        narrow: leave out the scores of the two where a column says how a setting is scored.
    """
    grid = report.inheritance
    cells, where = (grid.cells, grid.collection) if grid else ((), "")
    left_out = {"bytes", "teacher keeps", "student keeps"}
    if all(cell.scoring == "plain" for cell in cells):
        left_out |= {"scored"}
    elif narrow:
        left_out |= {"teacher", "student"}
    columns = [c for c in _GRID_COLUMNS if c[0] not in left_out]
    if len(cells) <= LARGE_GRID:
        return _table(f"Inheritance on {where}", columns, cells)
    failing = [cell for word in facts.VERDICTS[1:] for cell in cells if cell.verdict == word]
    return _table(f"Inheritance on {where}, settings that are not inherited", columns, failing)


def diagnosis_tables(report: RunReport) -> list[Table]:
    """What low-rank maps and the teacher's first dimensions keep.

    ``gain`` is what a head keeps beyond as many dimensions of the same space turned at random.
    """
    if report.diagnosis is None:
        return []
    figures = report.diagnosis.figures
    shared: list[_Column[RankFigures | HeadFigures]] = [
        ("variance", "r", lambda row: percent(row.variance)),
        ("nDCG@10", "r", lambda row: interval(row.quality and row.quality.ndcg)),
        ("of the full nDCG@10", "r", lambda r: percent_interval(r.quality and r.quality.retention)),
    ]
    kept = shared[: 3 if figures.num_queries else 1]
    ranks: list[_Column[RankFigures]] = [("rank", "r", lambda row: str(row.rank)), *kept]
    heads: list[_Column[HeadFigures]] = [("dim", "r", lambda row: str(row.dim)), *kept]
    if any(row.gain for row in figures.dims):
        heads.append(("gain", "r", lambda row: signed_interval(row.gain) if row.gain else ""))
    found = [_table("Best affine maps", ranks, figures.spectrum)]
    return [*found, _table("First dimensions", heads, figures.dims)]


def latency_table(report: RunReport) -> Table:
    """Single queries timed per encoder."""
    return _table(
        "Latency of single queries",
        [
            ("encoder", "l", lambda row: row.encoder),
            ("queries/s", "r", lambda row: decimal(row.queries_per_s, 1)),
            ("p50 ms", "r", lambda row: decimal(row.p50_ms, 1)),
            ("p99 ms", "r", lambda row: decimal(row.p99_ms, 1)),
            ("threads", "r", lambda row: grouped(row.threads)),
            ("dtype", "l", lambda row: row.dtype),
            ("queries timed", "r", lambda row: grouped(row.num_queries)),
        ],
        bench(report).latency,
    )


def steps_table(report: RunReport) -> Table:
    """Every step's seconds and their sum."""
    total = StepTime("total", sum(step.seconds for step in report.steps), "")
    return _table(
        "Steps",
        [
            ("step", "l", lambda step: step.name),
            ("status", "l", lambda step: step.status),
            ("seconds", "r", lambda step: decimal(step.seconds, 1)),
        ],
        [*report.steps, total] if report.steps else [],
    )

