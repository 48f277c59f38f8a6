"""The report's section on inheritance: curves over dimensions, bars over precisions, a matrix of
verdicts, every setting.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from leafkit.report import facts
from leafkit.report import figures as fig
from leafkit.report.bars import Bar, grouped_bars
from leafkit.report.cells import (
    INHERIT_BADGES,
    OPEN_BADGE,
    OTHER_TONE,
    TONES,
    bar,
    inherit_badge,
    note,
    stacked,
)
from leafkit.report.curves import Series, line_chart
from leafkit.report.markup import Safe, Section, badge, element, figure, join, table

_MAX_OPEN_ROWS = 20  # a longer table is folded
_MAX_GROUPS = 4  # of bars in one chart
_DASH = "\N{EN DASH}"

Data = Mapping[str, Any]
Cells = dict[Any, Data]


def inheritance(data: Data) -> Section | None:
    """Shares of the full score over Matryoshka dimensions and precisions, and the verdict of every
    setting.
    """
    rows = facts.inherit_rows(data)
    if not rows:
        return None
    check = data["inherit"]
    size = f", {fig.grouped(check['num_documents'])} documents" if "num_documents" in check else ""
    where = (
        f"Measured on {check.get('collection', '?')} with "
        f"{fig.grouped(check.get('num_queries'))} queries{size}. "
    )
    # older runs judged by the estimate
    rule = "the whole interval of the gap is" if "strict" in check else "the gap is"
    words = note(
        where,
        "Retention is the score under a setting over the same system's score at full size and "
        "float32. The gap is the "
        f"teacher's retention minus the student's. A setting is inherited where {rule} no larger "
        f"than allowed, not "
        "inherited where its whole interval is larger, and undecided in between.",
    )
    kind, symbol = INHERIT_BADGES["inherited" if check.get("passed") else "not inherited"]
    outcome = element("p", badge(kind, symbol, facts.inherit_summary(data)), class_="outcome")
    charts = element("div", matryoshka_curves(rows), *_precision_bars(rows), class_="pair")
    return Section(
        "inheritance",
        "Inheritance",
        join((outcome, words, charts, _matrices(rows), _full_table(rows))),
    )


def plain_rows(rows: Sequence[Data]) -> list[Data]:
    """The settings with float queries and without rescoring."""
    return [row for row in rows if facts.scoring(row) == "plain"]


def kept_by_system(rows: Sequence[Data], key: str) -> list[tuple[str, int, Cells]]:
    """Name, tone and retention by ``key`` of the teacher and of the student in either mode, where
    there are figures.

    Args:
        rows: settings that differ in ``key`` and in their mode alone.
        key: dim or precision.
    """
    lines = [("teacher", TONES["teacher"], _kept(rows, key, "teacher_retention"))]
    for mode in fig.values_of(rows, "mode"):
        own = [row for row in rows if row.get("mode") == mode]
        lines.append(
            (f"student, {mode}", TONES.get(mode, OTHER_TONE), _kept(own, key, "student_retention"))
        )
    return [line for line in lines if line[2]]


def _kept(rows: Sequence[Data], key: str, value: str) -> Cells:
    return {
        row[key]: cell
        for row in rows
        if key in row and (cell := fig.bounded(row, value)) is not None
    }


def retention_series(name: str, tone: int, cells: Cells) -> Series:
    """Retention in percent over dimensions, with the band of its intervals where every point has
    one.
    """
    points = [(dim, 100 * cell["mean"]) for dim, cell in sorted(cells.items())]
    band = [
        (dim, 100 * c["low"], 100 * c["high"])
        for dim, c in sorted(cells.items())
        if fig.has_interval(c)
    ]
    return Series(name, points, tone, band if len(band) == len(points) else ())


def matryoshka_curves(rows: Sequence[Data]) -> Safe:
    """What is left of nDCG@10 over the dimensions kept, in float32."""
    plain = [
        r
        for r in plain_rows(rows)
        if r.get("precision") == "float32" and fig.is_number(r.get("dim"))
    ]
    return retention_chart("nDCG@10 kept over Matryoshka dimensions", kept_by_system(plain, "dim"))


def retention_chart(title: str, lines: Sequence[tuple[str, int, Cells]]) -> Safe:
    """Lines of retention over the dimensions kept; nothing where there is one dimension alone."""
    dims = sorted({dim for _, _, cells in lines for dim in cells})
    if len(dims) < 2:
        return Safe("")
    series = [retention_series(*line) for line in lines]
    description = "; ".join(
        f"{name}: "
        + ", ".join(f"{dim}-d {fig.percent_interval(cell)}" for dim, cell in sorted(cells.items()))
        for name, _, cells in lines
    )
    chart = line_chart(
        title, description, series, "dimensions kept (float32)", log_x=True, x_marks=dims
    )
    bands = " Bands are 95% intervals." if any(s.band for s in series) else ""
    return figure(
        chart,
        f"Percent of the own nDCG@10 at full size that is left when only the first dimensions of "
        f"every vector are "
        f"kept.{bands} The y axis does not start at 0.",
    )


def _precision_bars(rows: Sequence[Data]) -> list[Safe]:
    """Charts of the precisions with float queries, as they are and rescored; the matrices show the
    other settings.
    """
    full = max((row["dim"] for row in rows if fig.is_number(row.get("dim"))), default=None)
    whole = [row for row in rows if row.get("dim") == full]
    ways = [way for way in _ways(whole) if "quantized" not in way]
    return [
        chart
        for way in ways
        for chart in _bars_of([row for row in whole if facts.scoring(row) == way], way, full)
    ]


def _ways(rows: Sequence[Data]) -> list[str]:
    """How the settings are scored, in order of appearance."""
    return list(dict.fromkeys(map(facts.scoring, rows)))


def _bars_of(rows: Sequence[Data], way: str, full: object) -> list[Safe]:
    """Bars for every precision, on as many charts as it takes to read them."""
    precisions = fig.values_of(rows, "precision")
    num_charts = -(-len(precisions) // _MAX_GROUPS)
    parts = [
        precisions[len(precisions) * i // num_charts : len(precisions) * (i + 1) // num_charts]
        for i in range(num_charts)
    ]
    lines = kept_by_system(rows, "precision")
    return (
        [_bar_chart(lines, part, way, full) for part in parts]
        if len(precisions) > 1 and lines
        else []
    )


def _bar_chart(
    lines: Sequence[tuple[str, int, Cells]], precisions: Sequence[Any], way: str, full: object
) -> Safe:
    groups = [
        (str(p), [_percent_bar(name, tone, cells[p]) for name, tone, cells in lines if p in cells])
        for p in precisions
    ]
    description = "; ".join(
        f"{p}: "
        + ", ".join(
            f"{name} {fig.percent_interval(cells[p])}" for name, _, cells in lines if p in cells
        )
        for p in precisions
    )
    how = "" if way == "plain" else f", {way}"
    chart = grouped_bars(
        f"nDCG@10 kept by precision ({', '.join(map(str, precisions))}){how}", description, groups
    )
    whiskers = (
        "; whiskers are 95% intervals"
        if any(b.low is not None for _, bars in groups for b in bars)
        else ""
    )
    return figure(
        chart, f"Percent of the own nDCG@10 that is left, all {full} dimensions{how}{whiskers}."
    )


def _percent_bar(name: str, tone: int, cell: Data) -> Bar:
    scaled = {key: 100 * value for key, value in cell.items()}
    return bar(name, scaled, tone, f"{scaled['mean']:.0f}")


def _matrices(rows: Sequence[Data]) -> Safe:
    """Verdicts as dimensions x precisions, one table per mode and way to score."""
    grids = [
        _matrix(
            [r for r in rows if r.get("mode") == mode and facts.scoring(r) == way], str(mode), way
        )
        for way in _ways(rows)
        for mode in fig.values_of(rows, "mode")
    ]
    symbols = [*INHERIT_BADGES.items(), ("undecided", OPEN_BADGE)]
    key = note(
        "Verdicts, with the share of its own nDCG@10 that the student keeps: ",
        join(join((badge(*how, words), " ")) for words, how in symbols),
    )
    return join((key, element("div", *(grid for grid in grids if grid), class_="pair tight")))


def _matrix(rows: Sequence[Data], mode: str, way: str) -> Safe:
    if not rows:
        return Safe("")
    precisions = fig.values_of(rows, "precision")
    cells = {(row.get("dim"), row.get("precision")): row for row in rows}
    grid = [
        [dim, *(_verdict_cell(cells[dim, p]) if (dim, p) in cells else _DASH for p in precisions)]
        for dim in fig.values_of(rows, "dim")
    ]
    name = f"{mode}, {way}" if way != "plain" else mode
    listed = table(f"Verdicts, {name}", ["dim", *precisions], "n" + "t" * len(precisions), grid)
    return element("div", element("h4", name), listed, class_="matrix")


def _verdict_cell(row: Data) -> Safe:
    """A badge that shows symbol and share; the words are in its tooltip and for screen readers."""
    words = str(row.get("verdict", "undecided"))
    kind, symbol = INHERIT_BADGES.get(words, OPEN_BADGE)
    kept, gap = (
        fig.percent_interval(fig.bounded(row, "student_retention")),
        fig.signed_interval(row, "gap"),
    )
    share = row.get("student_retention")
    short = f" {100 * share:.0f}" if fig.is_number(share) else ""
    return element(
        "span",
        element("span", symbol, aria_hidden="true"),
        short,
        class_=f"badge {kind}",
        role="img",
        title=f"{words}: the student keeps {kept}, gap {gap}",
        aria_label=f"{words}, {short.strip() or fig.MISSING}%",
    )


def _full_table(rows: Sequence[Data]) -> Safe:
    """Every setting with all of its figures, folded where there are many."""
    columns = [c for c in _COLUMNS if c.key is None or any(c.key in row for row in rows)]
    cells = [[column.read(row) for column in columns] for row in rows]
    listed = table(
        "Inheritance by setting", [c.name for c in columns], "".join(c.kind for c in columns), cells
    )
    opened = "" if len(rows) <= _MAX_OPEN_ROWS else None
    return element(
        "details",
        element("summary", f"All {len(rows)} settings with their figures"),
        listed,
        open=opened,
    )


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of the full table: its heading, its kind, how it is read, and the key without which
    it is left out.
    """

    name: str
    kind: str
    read: Callable[[Data], object]
    key: str | None = None


_COLUMNS = (
    _Column("dim", "n", lambda row: row.get("dim", "?")),
    _Column("precision", "t", lambda row: row.get("precision", "?")),
    _Column("mode", "t", lambda row: row.get("mode", "?")),
    _Column("scored", "t", facts.scoring, "rescoring"),
    _Column("bytes", "n", lambda row: fig.grouped(row.get("bytes_per_vector")), "bytes_per_vector"),
    _Column("teacher", "n", lambda row: fig.decimal(row.get("teacher"))),
    _Column("student", "n", lambda row: fig.decimal(row.get("student"))),
    _Column(
        "teacher keeps",
        "n",
        lambda row: stacked(fig.percent_interval(fig.bounded(row, "teacher_retention"))),
    ),
    _Column(
        "student keeps",
        "n",
        lambda row: stacked(fig.percent_interval(fig.bounded(row, "student_retention"))),
    ),
    _Column("gap", "n", lambda row: stacked(fig.signed_interval(row, "gap"))),
    _Column("allowed", "n", lambda row: fig.decimal(row.get("max_gap"))),
    _Column("verdict", "t", inherit_badge),
)
