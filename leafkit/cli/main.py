"""``leafkit COMMAND recipe=NAME key=value ...``: finds and runs the command, sets the status."""

from __future__ import annotations

import difflib
import importlib
import io
import os
import sys
from collections.abc import Callable, Sequence

from leafkit.cli.command_table import COMMANDS
from leafkit.cli.failures import explain
from leafkit.cli.requeue import requeue_job
from leafkit.cli.word_hints import asks_for_help, check_words
from leafkit.core.console import console, flush, set_verbosity
from leafkit.core.errors import UsageError
from leafkit.core.process.stop_signals import ignore_stops, stop_signals
from leafkit.core.system import keep_freed_memory, tune_gc
from leafkit.core.version import __version__

_HELP = {"help", "--help", "-h"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: words of the command line; None takes the process's own.

    Returns:
        The exit status: 0 done, 1 failed, 2 used wrongly, 130 and 143 stopped by a signal, 141
        where nobody reads what it prints any more.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    with stop_signals() as stops:
        try:
            _prepare_process()
            status = _run(words)
            if sys.stdout is not None:
                flush(sys.stdout)
            return status
        except BaseException as err:
            ignore_stops()
            # no name keeps it: what its frames hold is cleaned up before other handlers are back
            if isinstance(stops.cause_of(err), SystemExit):
                raise
            status = explain(stops.cause_of(err), words)
            if stops.wants_requeue:
                requeue_job()
            return status


def _run(words: Sequence[str]) -> int:
    for word in words:
        if "\0" in word:  # no file's name may hold one
            raise UsageError(f"{word!a} holds a NUL character", "leave it out")
    if not words or words[0] in _HELP:
        return _print_commands()
    if words[0] in {"--version", "version"}:
        console.print(f"leafkit {__version__}")
        return 0
    name, *rest = words
    return _find_command(name, rest)(rest)


def _prepare_process() -> None:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    set_verbosity("info")
    keep_freed_memory()
    tune_gc()
    # a file's name may hold bytes, and a document characters, that the terminal's encoding lacks
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _find_command(name: str, rest: Sequence[str]) -> Callable[[Sequence[str]], int]:
    """What runs the command, or prints its help where the words ask for that.

    Raises:
        UsageError: there is no such command.
    """
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        raise UsageError(
            f"unknown command {name!r}",
            f"did you mean {near[0]}?" if near else f"commands: {', '.join(COMMANDS)}",
        )
    if asks_for_help(rest):
        return lambda _: _print_help(name)
    check_words(name, rest)
    run: Callable[[Sequence[str]], int] = importlib.import_module(
        f"leafkit.cli.commands.{name}"
    ).run
    return run


def _print_help(name: str) -> int:
    command = COMMANDS[name]
    console.print(f"leafkit {name} {command.usage}\n  {command.does}", markup=False)
    return 0


def _print_commands() -> int:
    from rich.table import Table

    table = Table(
        box=None,
        pad_edge=False,
        title=f"leafkit {__version__}: leafkit COMMAND recipe=NAME key=value ...",
        title_justify="left",
    )
    table.add_column("command", style="bold", no_wrap=True)
    table.add_column("does")
    for name, command in COMMANDS.items():
        table.add_row(name, command.does)
    console.print(table)
    return 0
