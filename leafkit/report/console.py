"""The run's figures as tables on the console; without a terminal they are as wide as a page and plain."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from leafkit.report import figures as fig
from leafkit.report import tables

_PAGE_WIDTH = 100
_STYLES = {
    "inherited": "green", "not inherited": "red", "undecided": "yellow",
    "higher": "green", "lower": "red", "within noise": "yellow",
}  # fmt: skip


def print_summary(data: Mapping[str, Any], console: Console) -> None:
    """Print what the run measured.

    Args:
        data: what the stages measured, as in report.json. Parts that are missing or empty are left out.
        console: where to print. If it is no terminal, at least 100 columns are used.
    """
    with _wide_enough(console):
        for collection in fig.collections(data):
            _print_table(tables.retrieval_table(collection), console)
        _print_table(tables.differences_table(data), console)
        _print_table(tables.inheritance_table(data), console)
        if fig.inherit_rows(data):
            _print_text(fig.inherit_summary(data) + "\n", console)
        _print_table(tables.latency_table(data), console)
        _print_table(tables.steps_table(data), console)
        for sentence in fig.verdict_sentences(data):
            _print_text(sentence, console)


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
    """Text in which markup means nothing, broken between words also where the console does not break lines itself."""
    console.print(Text(fig.clean(text), style=style), soft_wrap=False)


def _print_table(plain: tables.PlainTable, console: Console) -> None:
    if not plain.rows:
        return
    _print_text(plain.title, console, style="bold")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for heading, kind in zip(plain.header, plain.kinds, strict=True):
        table.add_column(heading, justify="right" if kind == "n" else "left", no_wrap=kind == "n", overflow="fold")
    for row in plain.rows:
        cells = [fig.clean(cell) for cell in row]
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in cells))
    console.print(table, soft_wrap=False)
