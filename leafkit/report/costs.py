"""Charts of what a query costs against how well it is answered.

Quality is nDCG@10. Cost is bytes per stored vector, queries per second of an index, or milliseconds
to embed one query.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from leafkit.report import facts
from leafkit.report.charts.bars import Bar, bar_chart
from leafkit.report.charts.plots import Cloud, Dot, frontier_chart, pareto_front
from leafkit.report.facts import bench
from leafkit.report.format import decimal, grouped, interval, is_known
from leafkit.report.run_charts import TONES, Figure, tone_of
from leafkit.results import IndexRow, Interval, RunReport

_WHISKERS = " Whiskers are 95% intervals of what nothing beats."
# an index holds the teacher's documents
_QUERIES_OF = {"teacher": "teacher", "asymmetric": "student", "symmetric": ""}
_ENCODER_OF = {
    "teacher": "teacher",
    "reversed": "teacher",
    "symmetric": "student",
    "asymmetric": "student",
    "baseline": "baseline",
}


def cost_collections(report: RunReport) -> list[str]:
    """Collections with indexes or an inheritance grid, and the first one where encoders were timed,
    in the report's order.
    """
    order = [part.name for part in facts.scored(report) if part.collection]
    named = [row.collection for row in bench(report).indexes]
    named += [report.inheritance.collection] if report.inheritance else []
    named += order[:1] if bench(report).latency else []  # encoders take as long on any other
    place = {name: number for number, name in enumerate([*order, *named][::-1])}
    return sorted(filter(None, dict.fromkeys(named)), key=lambda name: -place[name])


def bytes_dots(report: RunReport, collection: str, system: str) -> list[Dot]:
    """nDCG@10 over bytes per vector, of indexes and of the inheritance grid."""
    rows = _index_rows(report, collection, system)
    dots = [_interval_dot(row.bytes_per_vector, row.ndcg_at_10, _index_words(row)) for row in rows]
    return dots + list(dict.fromkeys(_grid_dots(report, collection, system)))


def speed_dots(report: RunReport, collection: str, system: str) -> list[Dot]:
    """nDCG@10 over queries per second, of indexes."""
    rows = _index_rows(report, collection, system)
    return [_interval_dot(row.queries_per_s, row.ndcg_at_10, _index_words(row)) for row in rows]


def _interval_dot(x: float, cell: Interval, words: str) -> Dot:
    """A point whose y has an interval, where that is known."""
    return Dot(x, cell.value, words, *((cell.low, cell.high) if is_known(cell.low) else ()))


def encoder_dots(report: RunReport, collection: str) -> list[tuple[str, Dot]]:
    """Per system nDCG@10 over the median milliseconds that its encoder takes for one query."""
    parts = [part for part in facts.scored(report) if part.name == collection]
    timed = {row.encoder: row.p50_ms for row in reversed(bench(report).latency)}
    found = []
    for system in (row.system for part in parts for row in part.systems):
        cell, encoder = parts[0].score(system), _ENCODER_OF.get(system)
        if cell is not None and encoder in timed:
            words = f"{facts.SYSTEMS[system]}: nDCG@10 {interval(cell)}"
            text = f"{words}, {decimal(timed[encoder], 1)} ms"
            found.append((system, _interval_dot(timed[encoder], cell, text)))
    return found


def _index_rows(report: RunReport, collection: str, system: str) -> list[IndexRow]:
    rows = bench(report).indexes
    wanted = collection, _QUERIES_OF[system]
    return [row for row in rows if (row.collection, row.queries) == wanted]


def _index_words(row: IndexRow) -> str:
    """What one setting of an index costs and keeps, for a tooltip."""
    device = "" if row.device == "cpu" else f"on {row.device}"
    name = " ".join(filter(None, (row.kind, row.setting, device)))
    return (
        f"{name}, {row.queries} queries: nDCG@10 {interval(row.ndcg_at_10)}, "
        f"{grouped(row.bytes_per_vector, 1)} bytes, {grouped(row.queries_per_s)} queries/s"
    )


def _grid_dots(report: RunReport, collection: str, system: str) -> Iterator[Dot]:
    grid = report.inheritance
    for cell in grid.cells if grid and grid.collection == collection else ():
        if system in ("teacher", cell.mode):
            value = cell.teacher if system == "teacher" else cell.student
            setting = f"{cell.dim}-d {cell.precision}, {cell.scoring}"
            size = grouped(cell.bytes_per_vector)
            words = f"{setting}: nDCG@10 {decimal(value)}, {size} bytes"
            yield Dot(cell.bytes_per_vector, value, words)


def cost_charts(
    name: str, sizes: Sequence[Cloud], speeds: Sequence[Cloud], times: Sequence[Cloud]
) -> list[Figure]:
    """nDCG@10 on a collection against bytes per vector, search speed and time to embed a query;
    those that have two points or more.
    """
    charts = (
        _chart(
            f"nDCG@10 against bytes per vector on {name}",
            sizes,
            "bytes per vector",
            "From indexes and from the inheritance grid. Lines join the settings "
            "that nothing beats: better is up and to the left. Vectors that rescoring reads are "
            "not counted. Logarithmic x axis.",
        ),
        _chart(
            f"nDCG@10 against search speed on {name}",
            speeds,
            "queries searched per second",
            "Every index and setting, embedding not included. Better is up and to the right. "
            "Logarithmic x axis.",
            larger_is_better=True,
        ),
        _chart(
            f"nDCG@10 against time to embed a query on {name}",
            times,
            "ms to embed one query (median)",
            "With exact search. Better is up and to the left. The x axis starts at 0.",
            log_x=False,
        ),
    )
    return [chart for chart in charts if chart]


def _chart(
    title: str,
    clouds: Sequence[Cloud],
    x_label: str,
    caption: str,
    *,
    larger_is_better: bool = False,
    log_x: bool = True,
) -> Figure | None:
    known = (
        Cloud(c.name, [d for d in c.dots if is_known(d.x) and is_known(d.y)], c.tone)
        for c in clouds
    )
    shown = [c for c in known if c.dots]
    if sum(len(c.dots) for c in shown) < 2:
        return None
    words = "; ".join(f"{c.name}: {len(c.dots)} settings" for c in shown)
    chart = frontier_chart(
        title,
        words,
        shown,
        x_label,
        larger_is_better=larger_is_better,
        y_label="nDCG@10",
        log_x=log_x,
    )
    is_drawn = any(d.ends for c in shown for d in pareto_front(c.dots, larger_is_better))
    return Figure(chart, caption + (_WHISKERS if is_drawn else ""))


def frontiers(report: RunReport) -> list[tuple[str, list[Figure]]]:
    """The charts of every collection that has the figures, a color per system."""
    systems, found = ("teacher", "asymmetric", "symmetric"), []
    for name in cost_collections(report):
        charts = cost_charts(
            name,
            [Cloud(s, bytes_dots(report, name, s), TONES[s]) for s in systems],
            [Cloud(s, speed_dots(report, name, s), TONES[s]) for s in systems],
            [Cloud(s, [dot], tone_of(s)) for s, dot in encoder_dots(report, name)],
        )
        found += [(name, charts)] if charts else []
    return found


def latency_chart(report: RunReport) -> Figure | None:
    """Queries per second of every encoder, one query at a time."""
    bars = [
        Bar(
            row.encoder,
            row.queries_per_s,
            row.queries_per_s_low,
            row.queries_per_s_high,
            tone=1 if row.encoder == "teacher" else 3,
            text=f"{grouped(row.queries_per_s, 0 if row.queries_per_s >= 10 else 1)}/s",
        )
        for row in bench(report).latency
        if is_known(row.queries_per_s)
    ]
    words = "; ".join(f"{bar.label}: {bar.text}" for bar in bars)
    chart = bar_chart("Queries per second", words, bars)
    has_intervals = any(bar.low is not None for bar in bars)
    whiskers = " Whiskers are 95% intervals over the queries." if has_intervals else ""
    caption = f"Queries embedded per second, one at a time, from 0.{whiskers}"
    return Figure(chart, caption) if bars else None
