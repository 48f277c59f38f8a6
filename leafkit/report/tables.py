"""The run's figures as tables of text; page, card and console show the same cells.

A cell goes on in a second, smaller line after a line break. Besides l and r, columns of verdicts
have the letter v: the page shows them as badges.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from leafkit.report import facts, provenance
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
)
from leafkit.results.inheritance import NOT_INHERITED, NOTHING_TO_INHERIT, UNDECIDED
from leafkit.results.retrieval import METRIC_NAMES

LARGE_GRID = 20  # settings; card and console list of a larger grid what is not inherited alone
ENCODERS = ("teacher", "student")
ORDER_OF_CONCERN = (NOT_INHERITED, UNDECIDED, NOTHING_TO_INHERIT)
_TEXTS = (  # headings of columns that are no numbers
    "system collection difference metric task kind measure index queries setting precision mode "
    "scored encoder dtype step status device model texts role"
).split()


def _table(title: str, columns: Mapping[str, list[str]], notes: Iterable[str] = ()) -> Table:
    """Columns by their headings as a table."""
    align = "".join("v" if h == "verdict" else "l" if h in _TEXTS else "r" for h in columns)
    rows = tuple(zip(*columns.values(), strict=True))
    return Table(title, tuple(columns), align, rows, "\n".join(notes))


def metrics_of(part: Scored) -> list[str]:
    """Metrics that at least one system was measured by, in their usual order."""
    return [m for m in METRIC_NAMES if any(m in row.metrics for row in part.systems)]


def retrieval_table(part: Scored, narrow: bool = False, shares: bool = False) -> Table:
    """Every system's metrics with their intervals.

    Args:
        part: a collection, or the mean over all.
        narrow: leave out MAP@100, and remarks on contamination.
        shares: the share of the teacher's nDCG@10 beside it.
    """
    systems, kept = [row.system for row in part.systems], part.retention
    columns = {"system": [facts.system_name(s) for s in systems]}
    for m in metrics_of(part):
        if not (narrow and m == "map@100"):
            columns[METRIC_NAMES[m]] = [interval(part.score(s, m)) for s in systems]
        if shares and kept and m == "ndcg@10":
            of = [percent_interval(kept[s]) if s in kept else "" for s in systems]
            columns["of the teacher"] = of
    size = f", {grouped(part.num_documents)} documents" if part.collection else ""
    return _table(f"{part.title}{size}", columns, facts.notes_on(part, brief=narrow))


def difference_label(row: Difference) -> str:
    """What is subtracted from what, with its metric where that is not nDCG@10."""
    name = facts.difference_name(row).replace(" - ", " \N{MINUS SIGN} ")
    return name if row.metric == "ndcg@10" else f"{name} ({facts.metric_name(row.metric)})"


def difference_table(part: Scored) -> Table:
    """Paired differences on one collection, the p value below the verdict."""
    rows = part.differences
    what = " / ".join(dict.fromkeys(facts.metric_name(d.metric) for d in rows))
    columns = {
        "difference": [difference_label(d) for d in rows],
        what: [signed_interval(d.interval) for d in rows],
        "verdict": [noise_verdict(d.interval, d.p) + _below(p_value(d.p), "p ") for d in rows],
    }
    return _table(f"Differences in {what} on {part.title}", columns)


def _below(words: str, before: str = "") -> str:
    return f"\n{before}{words}" if words else ""


def differences_table(report: RunReport) -> Table:
    """Paired differences on all collections and tasks, and what each allows one to say."""
    found = [(part.name, d) for part in facts.scored(report) for d in part.differences]
    found += [(task.name, d) for task in bench(report).tasks for d in task.differences]
    has_p = any(d.p is not None for _, d in found)
    columns = {
        "collection": [name for name, _ in found],
        "difference": [facts.difference_name(d) for _, d in found],
        "metric": [facts.metric_name(d.metric) for _, d in found],
        "value": [signed_interval(d.interval) for _, d in found],
        **({"p": [p_value(d.p) for _, d in found]} if has_p else {}),
        "verdict": [noise_verdict(d.interval, d.p) for _, d in found],
    }
    return _table("Differences", columns)


def tasks_table(report: RunReport) -> Table:
    """Every system's score on every task without a search."""
    rows = [(t, system, cell) for t in bench(report).tasks for system, cell in t.scores.items()]
    columns = {
        "task": [task.name for task, _, _ in rows],
        "kind": [task.kind for task, _, _ in rows],
        "measure": [facts.metric_name(task.metric) for task, _, _ in rows],
        "n": [grouped(task.num_rows) for task, _, _ in rows],
        "system": [facts.system_name(system) for _, system, _ in rows],
        "score": [interval(cell) for _, _, cell in rows],
    }
    return _table("Tasks without a search", columns)


def wide_tasks_table(report: RunReport) -> Table:
    """The same with a row per task and a column per system and paired difference."""
    tasks = bench(report).tasks
    gaps = [{d.label: d.interval for d in task.differences} for task in tasks]
    columns = {
        "task": [f"{task.name}\n{task.kind}: {task.how}" for task in tasks],
        "measure": [facts.metric_name(task.metric) for task in tasks],
        "n": [grouped(task.num_rows) for task in tasks],
    }
    for system in dict.fromkeys(s for task in tasks for s in task.scores):
        columns[system] = [interval(task.scores.get(system)) for task in tasks]
    for label in dict.fromkeys(label for own in gaps for label in own):
        name = label.replace(" - ", " \N{MINUS SIGN} ")
        columns[name] = [signed_interval(own.get(label)) for own in gaps]
    return _table("Tasks without a search", columns)


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
    note = "The first setting that reaches the recall asked for; * the best one where none does."
    every, tables = bench(report).indexes, []
    for name in dict.fromkeys(row.collection for row in every):
        rows = _chosen([row for row in every if row.collection == name])
        stars = ["" if row.is_cheapest_at_target else "*" for row in rows]
        columns = {
            "index": [row.kind for row in rows],
            "queries": [row.queries for row in rows],
            "setting": [
                setting_of(row).replace("\n", " ") + star
                for row, star in zip(rows, stars, strict=True)
            ],
            "bytes": [grouped(row.bytes_per_vector) for row in rows],
            "queries/s": [grouped(row.queries_per_s) for row in rows],
            "recall@10": [interval(row.recall_at_10) for row in rows],
            **({} if narrow else {"nDCG@10": [interval(row.ndcg_at_10) for row in rows]}),
        }
        tables.append(_table(f"Indexes on {name}", columns, [note]))
    return tables


def every_index_table(report: RunReport) -> Table:
    """Every index at every setting, asked either encoder's queries."""
    rows = bench(report).indexes
    columns = {
        "collection": [row.collection for row in rows],
        "index": [row.kind for row in rows],
        "setting": [row.setting for row in rows],
        "queries": [row.queries for row in rows],
        "device": [row.device for row in rows],
        "bytes": [grouped(row.bytes_per_vector, 1) for row in rows],
        "bytes to rescore": [grouped(row.rescore_bytes_per_vector) for row in rows],
        "build s": [decimal(row.build_s, 2) for row in rows],
        "queries/s": [grouped(row.queries_per_s) for row in rows],
        "threads": [grouped(row.threads) for row in rows],
        "recall@10": [interval(row.recall_at_10) for row in rows],
        "nDCG@10": [interval(row.ndcg_at_10) for row in rows],
        "first at the recall asked for": [
            "yes" if row.is_cheapest_at_target else "no" for row in rows
        ],
    }
    return _table("Indexes", columns)


def training_table(report: RunReport) -> Table:
    """The texts that student and teacher were trained on."""
    rows = report.training
    columns = {
        "model": [row.model for row in rows],
        "texts": [row.name for row in rows],
        "role": [row.role for row in rows],
        "number": ["" if row.number is None else grouped(row.number) for row in rows],
    }
    return _table("Trained on", columns)


def _chosen(rows: Sequence[IndexRow]) -> list[IndexRow]:
    """Of every kind and encoder the settings marked as cheapest, one per device, or the best."""
    found = []
    for kind in dict.fromkeys(row.kind for row in rows):
        for encoder in ENCODERS:
            own = [row for row in rows if (row.kind, row.queries) == (kind, encoder)]
            best = sorted(own, key=lambda row: -row.recall_at_10.value)[:1]
            found += [row for row in own if row.is_cheapest_at_target] or best
    return found


def grid_table(
    cells: Sequence[GridCell],
    title: str = "Inheritance by setting",
    left_out: Collection[str] = (),
) -> Table:
    """Settings of the inheritance check with all of their figures but the columns left out."""
    columns = {
        "dim": [str(c.dim) for c in cells],
        "precision": [c.precision for c in cells],
        "mode": [c.mode for c in cells],
        "scored": [c.scoring for c in cells],
        "bytes": [grouped(c.bytes_per_vector) for c in cells],
        "teacher": [decimal(c.teacher) for c in cells],
        "student": [decimal(c.student) for c in cells],
        "teacher keeps": [percent_interval(c.teacher_retention) for c in cells],
        "over random": [signed_interval(c.gain_over_random) for c in cells],
        "student keeps": [percent_interval(c.student_retention) for c in cells],
        "gap": [signed_interval(c.gap) for c in cells],
        "allowed": [decimal(c.max_gap) for c in cells],
        "verdict": [str(c.verdict) for c in cells],
    }
    if not any(c.gain_over_random for c in cells):
        left_out = {*left_out, "over random"}
    return _table(title, {head: c for head, c in columns.items() if head not in left_out})


def inheritance_table(report: RunReport, narrow: bool = False) -> Table:
    """The settings of the inheritance check with their gap, what is allowed, and the verdict; of a
    large grid those alone that are not inherited, the undecided ones and those with nothing to
    inherit last.

    Args:
        report: of the run.
        narrow: leave out the scores of the two where another column takes their room: how a setting
            is scored, or the teacher's gain over random directions.
    """
    grid = report.inheritance
    cells, where = (grid.cells, grid.collection) if grid else ((), "")
    left_out = {"bytes", "teacher keeps", "student keeps"}
    is_plain = all(cell.scoring == "plain" for cell in cells)
    if is_plain:
        left_out |= {"scored"}
    if narrow and (not is_plain or any(cell.gain_over_random for cell in cells)):
        left_out |= {"teacher", "student"}
    if len(cells) <= LARGE_GRID:
        return grid_table(cells, f"Inheritance on {where}", left_out)
    failing = [cell for word in ORDER_OF_CONCERN for cell in cells if cell.verdict == word]
    title = f"Inheritance on {where}, all settings but the inherited"
    return grid_table(failing, title, left_out)


def diagnosis_tables(report: RunReport) -> list[Table]:
    """What low-rank maps and the teacher's first dimensions keep.

    ``gain`` is what a head keeps beyond as many dimensions of the same space turned at random.
    """
    if report.diagnosis is None:
        return []
    figures = report.diagnosis.figures
    ranks = {"rank": [str(row.rank) for row in figures.spectrum]} | _kept(figures.spectrum)
    heads = {"dim": [str(row.dim) for row in figures.dims]} | _kept(figures.dims)
    if any(row.gain for row in figures.dims):
        heads["gain"] = [signed_interval(row.gain) if row.gain else "" for row in figures.dims]
    return [_table("Best affine maps", ranks), _table("First dimensions", heads)]


def _kept(rows: Sequence[RankFigures] | Sequence[HeadFigures]) -> dict[str, list[str]]:
    kept = {"variance": [percent(row.variance) for row in rows]}
    if any(row.quality for row in rows):
        found = [(q.ndcg, q.retention) if (q := row.quality) else (None, None) for row in rows]
        kept["nDCG@10"] = [interval(score) for score, _ in found]
        kept["of the full nDCG@10"] = [percent_interval(share) for _, share in found]
    return kept


def latency_table(report: RunReport) -> Table:
    """Single queries timed per encoder."""
    rows = bench(report).latency
    columns = {
        "encoder": [row.encoder for row in rows],
        "queries/s": [decimal(row.queries_per_s, 1) for row in rows],
        "p50 ms": [decimal(row.p50_ms, 1) for row in rows],
        "p99 ms": [decimal(row.p99_ms, 1) for row in rows],
        "threads": [grouped(row.threads) for row in rows],
        "dtype": [row.dtype for row in rows],
        "queries timed": [grouped(row.num_queries) for row in rows],
    }
    return _table("Latency of single queries", columns)


def steps_table(report: RunReport) -> Table:
    """Every step's seconds and their sum, whichever run made it."""
    total = [StepTime("total", sum(step.seconds for step in report.steps), "")]
    rows = [*report.steps, *total] if report.steps else []
    notes = [note] if (note := provenance.steps_note(report)) else []
    columns = {
        "step": [step.name for step in rows],
        "status": [step.status for step in rows],
        "seconds": [decimal(step.seconds, 1) for step in rows],
    }
    return _table("Steps", columns, notes)
