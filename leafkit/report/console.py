"""The run's figures as tables on the console; without a terminal they are as wide as a page and
plain.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from leafkit.report import facts, tables
from leafkit.report import figures as fig

_PAGE_WIDTH = 100
_MAX_SETTINGS = 40  # of the inheritance check
_STYLES = {
    "inherited": "green",
    "not inherited": "red",
    "undecided": "yellow",
    "higher": "green",
    "lower": "red",
    "within noise": "yellow",
}


def print_summary(data: Mapping[str, Any], console: Console) -> None:
    """Print what the run measured.

    Args:
        data: what the stages measured, as in report.json. Parts that are missing or empty are left
            out.
        console: where to print. If it is no terminal, at least 100 columns are used.
    """
    with _wide_enough(console):
        for collection in facts.measured(data):
            _print_table(tables.retrieval_table(collection, narrow=True), console)
        _print_table(tables.differences_table(data), console)
        _print_table(tables.tasks_table(data), console)
        for table in tables.index_tables(data, narrow=True):
            _print_table(table, console)
        _print_table(tables.inheritance_table(data, narrow=True), console, _MAX_SETTINGS)
        if facts.inherit_rows(data):
            _print_text(facts.inherit_summary(data) + "\n", console)
        _print_diagnosis(data, console)
        _print_table(tables.latency_table(data), console)
        _print_table(tables.steps_table(data), console)
        for sentence in facts.verdict_sentences(data):
            _print_text(sentence, console)


def _print_diagnosis(data: Mapping[str, Any], console: Console) -> None:
    if not facts.diagnosis(data):
        return
    for part in ("spectrum", "dims"):
        _print_table(tables.diagnosis_table(data, part), console)
    for term, found in facts.diagnosis_facts(data):
        _print_text(f"{term}: {found}", console)
    for sentence in facts.diagnosis(data).get("findings") or []:
        _print_text(f"- {sentence}", console)
    _print_text(facts.diagnosis_sentence(data) + "\n", console)


@contextlib.contextmanager
def _wide_enough(console: Console) -> Iterator[None]:
    """A file has no width of its own, and rich's guess of 80 columns would cut figures off."""
    width = console.width
    if console.is_terminal or width >= _PAGE_WIDTH:
        yield
        return
    console.width = _PAGE_WIDTH
    try:
        yield
    finally:
        console.width = width


def _print_text(text: str, console: Console, style: str = "") -> None:
    """Text in which markup means nothing, broken between words also where the console does not
    break lines itself.
    """
    console.print(Text(fig.clean(text), style=style), soft_wrap=False)


def _print_table(plain: tables.PlainTable, console: Console, max_rows: int | None = None) -> None:
    """A table with its title and notes; rows beyond ``max_rows`` are counted."""
    if not plain.rows:
        return
    _print_text(plain.title, console, style="bold")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for heading, kind in zip(plain.header, plain.kinds, strict=True):
        table.add_column(
            heading,
            justify="right" if kind == "n" else "left",
            no_wrap=kind == "n",
            overflow="fold",
        )
    for row in plain.rows[:max_rows]:
        cells = [fig.clean(cell) for cell in row]
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in cells))
    console.print(table, soft_wrap=False)
    if max_rows is not None and len(plain.rows) > max_rows:
        _print_text(
            f"... and {len(plain.rows) - max_rows} more, all of them in the report.\n", console
        )
    for note in plain.notes:
        _print_text(note, console, style="dim")
    if plain.notes:
        _print_text("", console)
