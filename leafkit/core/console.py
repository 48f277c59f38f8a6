"""What a person sees while leafkit works: bars with throughput and time left on a terminal, plain
lines elsewhere.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

console = Console(highlight=False, soft_wrap=True)
PLAIN_LINE_EVERY_S = 10.0


def is_main_process() -> bool:
    """Only the process of global rank 0 speaks."""
    return os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) == "0"


def log(text: str, style: str = "") -> None:
    """Print one line of plain text (no markup) from the main process."""
    if is_main_process():
        console.print(text, style=style or None, markup=False, emoji=False)


def show_table(title: str, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Print some columns of ``rows`` as a table from the main process; whole numbers get
    separators, others three digits.
    """
    if not is_main_process():
        return
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name in columns:
        is_number = all(isinstance(row[name], int | float) for row in rows)
        table.add_column(name, justify="right" if is_number else "left", no_wrap=is_number)
    for row in rows:
        table.add_row(*(escape(_cell(row[name])) for name in columns))
    console.print(table)


def _cell(value: Any) -> str:
    return (
        f"{value:,}"
        if isinstance(value, int)
        else f"{value:.3f}"
        if isinstance(value, float)
        else str(value)
    )


class Bar:
    """Counts finished items of one long step. ``advance`` is cheap enough to call for every batch."""

    def __init__(self, title: str, total: int, unit: str, live: Progress | None) -> None:
        self._title, self._total, self._unit, self._live = title, total, unit, live
        self._task = live.add_task(escape(title), total=total, note="") if live else None
        self._done = 0
        self._started_s = self._spoken_s = time.perf_counter()

    def advance(self, count: int = 1, note: str = "") -> None:
        """Add ``count`` finished items; ``note`` is shown beside the throughput (the current loss,
        say).
        """
        self._done += count
        now_s = time.perf_counter()
        elapsed_s = max(now_s - self._started_s, 1e-9)
        rate = self._done / elapsed_s
        text = f"{rate:,.1f} {self._unit}/s {note}".rstrip()
        if self._live is not None and self._task is not None:
            self._live.update(self._task, completed=self._done, note=escape(text))
        elif now_s - self._spoken_s >= PLAIN_LINE_EVERY_S and self._done < self._total:
            self._spoken_s = now_s
            left_s = (self._total - self._done) / rate if rate else 0.0
            log(
                f"  {self._title}: {self._done:,}/{self._total:,} {self._unit}, {text}, "
                f"{left_s:.0f} s left"
            )


@contextlib.contextmanager
def progress_bar(title: str, total: int, unit: str) -> Iterator[Bar]:
    """A progress bar for ``total`` items, closed by a line that says how long it took."""
    started_s = time.perf_counter()
    if not is_main_process():
        yield _SilentBar(title, total, unit, None)
        return
    if console.is_terminal:
        columns = (
            SpinnerColumn(),
            TextColumn("  {task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=console, transient=True) as live:
            yield Bar(title, total, unit, live)
    else:
        yield Bar(title, total, unit, None)
    elapsed_s = time.perf_counter() - started_s
    log(
        f"  {title}: {total:,} {unit} in {elapsed_s:.1f} s ({total / max(elapsed_s, 1e-9):,.0f} "
        f"{unit}/s)"
    )


class _SilentBar(Bar):
    def advance(self, count: int = 1, note: str = "") -> None:
        """Other processes than the first say nothing."""
