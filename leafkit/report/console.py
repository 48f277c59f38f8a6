"""The run's figures as tables on the console; without a terminal they are as wide as a page and
plain.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from leafkit.report import facts, tables
from leafkit.report.format import clean
from leafkit.results import RunReport, Table

_PAGE_WIDTH = 100
_MAX_ROWS = 40
_STYLES = {
    "inherited": "green",
    "not inherited": "red",
    "undecided": "yellow",
    "nothing to inherit": "dim",
    "higher": "green",
    "lower": "red",
    "within noise": "yellow",
}


def print_summary(report: RunReport, console: Console) -> None:
    """Print what the run measured; parts that it did not measure are left out.

    Args:
        report: of the run.
        console: where to print. If it is no terminal, at least 100 columns are used.
    """
    with _wide_enough(console):
        for part in facts.scored(report):
            _print_table(tables.retrieval_table(part, narrow=True), console)
        for agreement in facts.bench(report).agreements:
            _print_table(agreement.table(), console)
        _print_table(tables.differences_table(report), console)
        _print_table(tables.tasks_table(report), console)
        for table in tables.index_tables(report, narrow=True):
            _print_table(table, console)
        _print_table(tables.inheritance_table(report, narrow=True), console)
        _print_lines([facts.inherit_summary(report)], console)
        for table in tables.diagnosis_tables(report):
            _print_table(table, console)
        found = [f"{term}: {fact}" for term, fact in facts.diagnosis_facts(report)]
        found += [f"- {f}" for f in (report.diagnosis.findings if report.diagnosis else ())]
        _print_lines([*found, facts.diagnosis_sentence(report)], console)
        _print_table(tables.latency_table(report), console)
        _print_table(tables.steps_table(report), console)
        for sentence in facts.cut_sentences(report):
            _print_text(sentence, console, style="yellow")
        for sentence in facts.verdict_sentences(report):
            _print_text(sentence, console)


@contextlib.contextmanager
def _wide_enough(console: Console) -> Iterator[None]:
    """A file has no width of its own, and rich's guess of 80 columns would cut figures off."""
    width = console.width
    if not console.is_terminal:
        console.width = max(width, _PAGE_WIDTH)
    try:
        yield
    finally:
        console.width = width


def _print_lines(lines: list[str], console: Console) -> None:
    """A paragraph of lines, those that say something, with space below."""
    for line in filter(None, lines):
        _print_text(line, console)
    if any(lines):
        _print_text("", console)


def _print_text(text: str, console: Console, style: str = "") -> None:
    """Text in which markup means nothing, broken between words also where the console does not
    break lines itself.
    """
    console.print(Text(clean(text), style=style), soft_wrap=False)


def _print_table(table: Table, console: Console) -> None:
    """A table with its title and notes; rows beyond a number are counted."""
    if not table.rows:
        return
    _print_text(table.title, console, style="bold")
    drawn = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for heading, kind in zip(table.header, table.align, strict=True):
        is_number = kind == "r"
        drawn.add_column(
            heading,
            justify="right" if is_number else "left",
            no_wrap=is_number,
            overflow="fold",
        )
    for row in table.rows[:_MAX_ROWS]:
        drawn.add_row(*(Text(clean(cell), style=_STYLES.get(cell, "")) for cell in row))
    console.print(drawn, soft_wrap=False)
    if len(table.rows) > _MAX_ROWS:
        more = len(table.rows) - _MAX_ROWS
        _print_lines([f"... and {more} more, all of them in the report."], console)
    for note in table.note.splitlines():
        _print_text(note, console, style="dim")
    if table.note:
        _print_text("", console)
