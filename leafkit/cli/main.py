"""``leafkit COMMAND recipe=NAME key=value ...``: finds and runs the command, sets the status."""

from __future__ import annotations

import difflib
import importlib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

from leafkit.cli.command_table import COMMANDS
from leafkit.core.console import console, log, set_verbosity
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.core.system import keep_freed_memory, tune_gc
from leafkit.core.version import __version__

_HELP = {"help", "--help", "-h"}
_KEPT = "finished steps and shards are kept, the same command continues after them"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: words of the command line; None takes the process's own.

    Returns:
        The exit status: 0 done, 1 failed, 2 used wrongly, 130 and 143 stopped by a signal.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    set_verbosity("info")
    keep_freed_memory()
    tune_gc()
    try:
        signal.signal(signal.SIGTERM, _stop)
        if not words or words[0] in _HELP:
            return _print_commands()
        if words[0] in {"--version", "version"}:
            console.print(f"leafkit {__version__}")
            return 0
        name, *rest = words
        return _find_command(name, rest)(rest)
    except LeafkitError as err:
        _complain(str(err), err.hint)
        return err.exit_status
    except KeyboardInterrupt:
        log(f"stopped; {_KEPT}")
        return 130
    except _Terminated:
        log(f"terminated; {_KEPT}")
        return 143


class _Terminated(BaseException):
    """SIGTERM arrived."""


def _stop(number: int, frame: Any) -> None:
    raise _Terminated


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
    if rest and rest[0] in _HELP:
        return lambda _: _print_help(name)
    run: Callable[[Sequence[str]], int] = importlib.import_module(
        f"leafkit.cli.commands.{name}"
    ).run
    return run


def _complain(message: str, hint: str) -> None:
    from rich.console import Console
    from rich.markup import escape

    stderr = Console(stderr=True, highlight=False, soft_wrap=True)
    stderr.print(f"[bold red]error:[/] {escape(message)}")
    if hint:
        stderr.print(f"[bold]hint:[/] {escape(hint)}")


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
