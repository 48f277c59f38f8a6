"""The one place where an exception becomes what a command says of it: a line, a hint, a status.

What leafkit foresaw says itself what to do. Whatever else happens ends in one line too; its
traceback goes into a file, for a report of the fault.
"""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

from leafkit.core.console import log
from leafkit.core.errors import LeafkitError, OutputFailed, remedy_of
from leafkit.core.process.stop_signals import Terminated
from leafkit.core.version import __version__

FAILED, INTERRUPTED, PIPE_CLOSED, TERMINATED = 1, 130, 141, 143
_KEPT = "finished steps and shards are kept, the same command continues after them"
_PACKAGE = Path(__file__).resolve().parents[1]
_NOT_LOADED = "Failed to load the backend extension"  # torch's words, such as of torch_npu
_MAX_SHOWN = 2000  # characters of a message


def explain(err: BaseException, words: Sequence[str]) -> int:
    """Say in one line why a command ended, and how to go on.

    Args:
        err: what ended it.
        words: of the command line, for the file with the traceback.

    Returns:
        The exit status.
    """
    if isinstance(err, OutputFailed):
        _leave_output()
        if not str(err):
            return PIPE_CLOSED
        _complain(f"cannot write to standard output: {err}", "send it somewhere with more room")
        return FAILED
    if isinstance(err, KeyboardInterrupt | Terminated):
        is_term = isinstance(err, Terminated)
        with contextlib.suppress(OutputFailed):
            log(f"{'terminated' if is_term else 'stopped'}; {_KEPT}")
        return TERMINATED if is_term else INTERRUPTED
    if isinstance(err, LeafkitError):
        _complain(str(err), err.hint)
        return err.exit_status
    if isinstance(err, OSError) and err.errno and err.filename is not None:
        _complain(f"{_names(err)}: {err.strerror}", remedy_of(err))
        return FAILED
    if isinstance(err, MemoryError):
        _complain(
            f"out of memory{_reason(err)}",
            "free some memory, or take smaller batches, fewer documents or a smaller model",
        )
        return FAILED
    if isinstance(err, RuntimeError) and _NOT_LOADED in str(err):
        _complain(
            f"torch cannot be imported: {str(err).partition('. ')[0]}{_reason(err.__cause__)}",
            "leafkit doctor tells what it lacks; TORCH_DEVICE_BACKEND_AUTOLOAD=0 in the "
            "environment leaves it out",
        )
        return FAILED
    _complain(
        f"unexpected {type(err).__name__}{_reason(err)}, at {_place(err)}",
        f"this is a fault of leafkit: please report it with {_write_log(err, words)}",
    )
    return FAILED


def _names(err: OSError) -> str:
    both = [os.fsdecode(f) for f in (err.filename, err.filename2) if isinstance(f, str | bytes)]
    return " -> ".join(both) or str(err.filename)


def _reason(err: BaseException | None) -> str:
    """What the exception says, on one line, with a colon before it; empty where that is nothing."""
    try:
        told = " ".join(str(err or "").split())
    except Exception:
        return ""  # a message that cannot be made is not worth another failure
    return f": {told}" if told else ""


def _place(err: BaseException) -> str:
    """File and line of the last call inside leafkit."""
    frames = traceback.extract_tb(err.__traceback__)
    own = [f for f in frames if Path(f.filename).is_relative_to(_PACKAGE)] or list(frames)
    if not own:
        return "an unknown place"
    path = Path(own[-1].filename)
    name = path.relative_to(_PACKAGE.parent) if path.is_relative_to(_PACKAGE) else path
    return f"{name}:{own[-1].lineno}"


def _write_log(err: BaseException, words: Sequence[str]) -> str:
    """The name of a new file with the traceback; where none can be written, words for the report.

    No value of a variable is written, for it may be a key or a text of the user's.
    """
    system = f"leafkit {__version__}, Python {platform.python_version()}, {platform.platform()}"
    told = "".join(traceback.format_exception(err))
    content = f"{system}\nleafkit {' '.join(words)}\n\n{told}"
    try:
        descriptor, name = tempfile.mkstemp(prefix="leafkit-", suffix=".log")
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(content)
    except OSError:
        return "this line and the command"
    return name


def _complain(message: str, hint: str) -> None:
    from rich.console import Console
    from rich.markup import escape

    stderr = Console(stderr=True, highlight=False, soft_wrap=True)
    with contextlib.suppress(OSError):  # nobody reads it; the status says it all
        stderr.print(f"[bold red]error:[/] {escape(_shown(message))}", emoji=False)
        if hint:
            stderr.print(f"[bold]hint:[/] {escape(_shown(hint))}", emoji=False)


def _shown(text: str) -> str:
    """The text with what a terminal obeys, or cannot show, as escapes; a long one is cut."""
    if len(text) > _MAX_SHOWN:
        text = f"{text[:_MAX_SHOWN]} ... ({len(text) - _MAX_SHOWN:,} more characters)"
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text
    )


def _leave_output() -> None:
    """Let what is still to be printed go nowhere, so that Python does not fail on it at exit."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
