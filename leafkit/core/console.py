"""What leafkit says while it works, through ``logging`` and one kind of progress bar.

Every line is a record of the logger "leafkit". As a library it has no handler, so nothing is
printed; ``set_verbosity("info")`` shows what the command line shows: plain lines, and bars with
throughput and time left on a terminal. Only the process of global rank 0 speaks.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from rich.console import Console, RenderableType
from rich.markup import escape

from leafkit.core.errors import OutputFailed, UsageError
from leafkit.core.printable import printable, printable_lines

if TYPE_CHECKING:
    from rich.progress import Progress


class _Output(Console):
    """Standard output; what it cannot take is an error of its own, and of no file that was being
    written.
    """

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as rich does, texts without what a terminal obeys.

        Raises:
            OutputFailed: standard output is full, or nobody reads it.
        """
        shown = (printable_lines(o) if isinstance(o, str) else o for o in objects)
        with _explain_output_errors():
            super().print(*shown, **options)

    def on_broken_pipe(self) -> None:
        """Leave it to the command: rich ends the process here."""
        raise OutputFailed


@contextlib.contextmanager
def _explain_output_errors() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError as err:
        raise OutputFailed from err
    except OSError as err:
        raise OutputFailed(str(err.strerror)) from err


def flush(stream: TextIO) -> None:
    """Hand on what waits in a stream's buffer.

    Raises:
        OutputFailed: they cannot be handed on.
    """
    with _explain_output_errors():
        stream.flush()


console = _Output(highlight=False, soft_wrap=True)
PLAIN_LINE_EVERY_S = 10.0
LEVELS = {
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "silent": logging.CRITICAL + 1,
}
_logger = logging.getLogger("leafkit")
# without a handler of its own Python would print warnings to stderr
_logger.addHandler(logging.NullHandler())


class _ConsoleHandler(logging.Handler):
    """Prints records as they are, without time or level, in the style that they ask for."""

    def emit(self, record: logging.LogRecord) -> None:
        table: RenderableType | None = getattr(record, "table", None)
        if table is not None:
            console.print(table)
            return
        style = getattr(record, "style", "") or None
        console.print(record.getMessage(), style=style, markup=False, emoji=False)


_handler = _ConsoleHandler()


def set_verbosity(level: str) -> None:
    """Say what leafkit prints; nothing is printed until this is called.

    Args:
        level: "info" prints each step and shows progress bars; "warning" prints what deserves
            attention, "error" and "silent" less, all three without bars. Records go to the logger
            "leafkit" in any case; handlers of your own see them until leafkit prints itself.

    Raises:
        UsageError: there is no such level.

    Examples:
        >>> import leafkit
        >>> leafkit.set_verbosity("silent")
    """
    if level not in LEVELS:
        raise UsageError(f"verbosity {level!r} is not known", f"one of {', '.join(LEVELS)}")
    _logger.setLevel(LEVELS[level])
    if _handler not in _logger.handlers:
        _logger.addHandler(_handler)
    # a root handler beside ours would print every line twice
    _logger.propagate = False


def _shows_progress() -> bool:
    return _handler in _logger.handlers and _logger.isEnabledFor(logging.INFO)


def is_main_process() -> bool:
    """Only the process of global rank 0 speaks."""
    return os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) == "0"


def log(text: str, style: str = "") -> None:
    """Say one line of plain text (no markup) from the main process, at level INFO."""
    _emit(logging.INFO, text, style=style)


def warn(text: str) -> None:
    """Say one line that deserves attention from the main process, at level WARNING."""
    _emit(logging.WARNING, text, style="yellow")


def _emit(level: int, text: str, **extra: Any) -> None:
    if is_main_process() and _logger.isEnabledFor(level):
        # "%s": a text may hold percent signs
        _logger.log(level, "%s", text, extra=extra)


def show_table(title: str, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Say some columns of ``rows`` as a table from the main process; whole numbers get separators,
    others three digits.
    """
    from rich.table import Table

    table = Table(title=escape(printable(title)), title_justify="left", box=None, pad_edge=False)
    for name in columns:
        is_number = all(isinstance(row[name], int | float) for row in rows)
        table.add_column(
            escape(printable(name)), justify="right" if is_number else "left", no_wrap=is_number
        )
    for row in rows:
        table.add_row(*(escape(printable(_cell(row[name]))) for name in columns))
    lines = ["  ".join(_cell(row[name]) for name in columns) for row in rows]
    _emit(logging.INFO, "\n".join([title, "  ".join(columns), *lines]), table=table)


def _cell(value: Any) -> str:
    return (
        f"{value:,}"
        if isinstance(value, int)
        else f"{value:.3f}"
        if isinstance(value, float)
        else str(value)
    )


class Bar(Protocol):
    """Counts finished items of one long step."""

    def advance(self, count: int = 1, note: str = "") -> None:
        """Add ``count`` finished items; ``note`` is shown beside the throughput (the current loss,
        say). Cheap enough to call for every batch.
        """


class _SilentBar:
    """The bar of a library that was not asked to speak, and of other processes than the first."""

    def __init__(self) -> None:
        self.num_done: int | None = None

    def advance(self, count: int = 1, note: str = "") -> None:
        """Show nothing."""
        self.num_done = (self.num_done or 0) + count


class _ShownBar:
    """A bar on a terminal, or a line now and then where there is none."""

    def __init__(self, title: str, total: int, unit: str, live: Progress | None) -> None:
        self._title, self._total, self._unit, self._live = title, total, unit, live
        self._task = live.add_task(escape(printable(title)), total=total, note="") if live else None
        self.num_done: int | None = None
        self._started_s = self._spoken_s = time.perf_counter()

    def advance(self, count: int = 1, note: str = "") -> None:
        """Add ``count`` finished items."""
        self.num_done = (self.num_done or 0) + count
        now_s = time.perf_counter()
        elapsed_s = max(now_s - self._started_s, 1e-9)
        rate = self.num_done / elapsed_s
        text = f"{pace(rate, self._unit)} {note}".rstrip()
        if self._live is not None and self._task is not None:
            self._live.update(self._task, completed=self.num_done, note=escape(printable(text)))
        elif now_s - self._spoken_s >= PLAIN_LINE_EVERY_S and self.num_done < self._total:
            self._spoken_s = now_s
            left_s = (self._total - self.num_done) / rate if rate else 0.0
            log(
                f"  {self._title}: {self.num_done:,}/{self._total:,} {self._unit}, {text}, "
                f"{left_s:.0f} s left"
            )


@contextlib.contextmanager
def progress_bar(title: str, total: int, unit: str) -> Iterator[Bar]:
    """A progress bar for ``total`` items, closed by a line that says how long it took."""
    started_s = time.perf_counter()
    bar: _SilentBar | _ShownBar
    if not is_main_process() or not _shows_progress():
        yield (bar := _SilentBar())
    elif console.is_terminal:
        with _live_progress(unit) as live:
            yield (bar := _ShownBar(title, total, unit, live))
    else:
        yield (bar := _ShownBar(title, total, unit, None))
    elapsed_s = time.perf_counter() - started_s
    # others may have done a part of it, or left more; a bar that never moved counted nothing
    count = total if bar.num_done is None else bar.num_done
    speed = f" ({pace(count / max(elapsed_s, 1e-9), unit)})" if count else ""
    log(f"  {title}: {count:,} {unit} in {elapsed_s:.1f} s{speed}")


def pace(rate: float, unit: str) -> str:
    """Items per second in two significant digits at least: a slow step is not "0 steps/s".

    >>> pace(1234.5, "texts"), pace(0.347, "steps"), pace(2.96, "steps")
    ('1,234 texts/s', '0.35 steps/s', '3.0 steps/s')
    """
    if not rate:
        return f"no {unit} yet"
    digits = max(0, 1 - math.floor(math.log10(rate))) if rate < 100 else 0
    return f"{rate:,.{digits}f} {unit}/s"


def _live_progress(unit: str) -> Progress:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        SpinnerColumn(),
        TextColumn("  {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    return Progress(*columns, console=console, transient=True)
