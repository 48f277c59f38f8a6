"""Every table of a report for other programs: Markdown, CSV and LaTeX, a file each."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence

from leafkit.report import facts, tables
from leafkit.results import RunReport, Table

_FORMATS = {"md": Table.to_markdown, "csv": Table.to_csv, "tex": Table.to_latex}
_INTERVAL = re.compile(r"([-+]?[\d.]+)(%?) \[([-+]?[\d.]+), ([-+]?[\d.]+)\]")
_GROUPED = re.compile(r"[-+]?\d{1,3}(,\d{3})+(\.\d+)?")


def table_files(report: RunReport) -> dict[str, str]:
    """What each table's files hold, by file name. In CSV an interval is three columns and a number
    has no separators.
    """
    found = {}
    for name, table in named_tables(report):
        for ending, write in _FORMATS.items():
            shown = numbers_apart(table) if ending == "csv" else table
            found[f"{name}.{ending}"] = f"{write(shown).rstrip()}\n"
    return found


def named_tables(report: RunReport) -> list[tuple[str, Table]]:
    """The tables that have rows, with names for files that no two share."""
    found: dict[str, Table] = {}
    for name, table in _every_table(report):
        stem = re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.") or "table"
        taken = itertools.count(2)
        chosen = stem
        while chosen in found:
            chosen = f"{stem}-{next(taken)}"
        if table.rows:
            found[chosen] = table
    return list(found.items())


def _every_table(report: RunReport) -> Iterator[tuple[str, Table]]:
    for part in facts.scored(report):
        yield f"retrieval {part.name}", tables.retrieval_table(part, shares=True)
    for agreement in facts.bench(report).agreements:
        table = agreement.table()
        yield f"agreement {table.title}", table
    yield "differences", tables.differences_table(report)
    yield "tasks", tables.tasks_table(report)
    yield "indexes", tables.every_index_table(report)
    if report.inheritance is not None:
        title = f"Inheritance on {report.inheritance.collection}"
        yield "inheritance", tables.grid_table(report.inheritance.cells, title)
    for table in tables.diagnosis_tables(report):
        yield f"diagnosis {table.title}", table
    yield "latency", tables.latency_table(report)
    yield "steps", tables.steps_table(report)
    yield "training", tables.training_table(report)


def numbers_apart(table: Table) -> Table:
    """A table whose intervals are split into the value and its bounds.

    >>> wide = numbers_apart(Table("", ("n", "kept"), "rr", (("1,200", "98.5% [97.0, 100.0]"),)))
    >>> wide.header, wide.rows
    (('n', 'kept (%)', 'kept (%) low', 'kept (%) high'), (('1200', '98.5', '97.0', '100.0'),))
    """
    columns = [_spread(head, cells) for head, cells in _columns(table)]
    header = tuple(head for group in columns for head, _ in group)
    cells = [values for group in columns for _, values in group]
    return Table(table.title, header, "l" * len(header), tuple(zip(*cells, strict=True)))


def _columns(table: Table) -> Iterator[tuple[str, Sequence[str]]]:
    for place, head in enumerate(table.header):
        yield head, [row[place] for row in table.rows]


def _spread(head: str, cells: Sequence[str]) -> list[tuple[str, list[str]]]:
    parts = [_INTERVAL.fullmatch(cell) for cell in cells]
    if not any(parts):
        return [(head, [_plain(cell) for cell in cells])]
    name = f"{head} (%)" if any(part and part[2] for part in parts) else head
    heads = (name, f"{name} low", f"{name} high")
    rows = [
        (part[1], part[3], part[4]) if part else (_plain(cell), "", "")
        for cell, part in zip(cells, parts, strict=True)
    ]
    return list(zip(heads, map(list, zip(*rows, strict=True)), strict=True))


def _plain(cell: str) -> str:
    if _GROUPED.fullmatch(cell):
        return cell.replace(",", "")
    return "; ".join(cell.splitlines())
