"""leafkit's commands in processes forked from one that has imported everything, so that a start
costs no imports, stopped by a signal at a moment of time or at a file that they change.

The parent may run no operation of torch on several threads and no tokenizer: a child would wait
for ever for threads that only the parent has.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import mmap
import os
import select
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
STARTING, BEFORE, TRAINING, SAVING, STORING, PUBLISHING, AFTER, ENDED = range(8)
# what a command does when it is stopped
MOMENTS = (
    "while it starts",
    "before training",
    "in training",
    "saving a state",
    "storing vectors",
    "publishing",
    "after training",
    "at its end",
)
# functions that are looked at from outside, and what a command does meanwhile
_WATCHED = (
    ("leafkit.pipeline.run", "check_shared_folder", STARTING),
    ("lightning", "Trainer.fit", TRAINING),
    ("leafkit.train.resume", "DurableIO.save_checkpoint", SAVING),
    ("leafkit.data.vector_store", "VectorStore.write", STORING),
    ("leafkit.pipeline.distill", "save_model", PUBLISHING),
    ("leafkit.pipeline.teacher.teach", "_save_model", PUBLISHING),
    ("leafkit.core.artifact", "seal", PUBLISHING),
    ("leafkit.core.artifact", "swap_in", PUBLISHING),
)
_THEN = {STARTING: BEFORE, TRAINING: AFTER}  # what comes after one of these
_CHANGES = frozenset({"os.rename", "os.remove", "os.mkdir"})
_WRITES = os.O_WRONLY | os.O_RDWR
_NOW, _AT_SIGNAL, _NUM_CHANGES = 0, 1, slice(2, 6)  # of a board
_NO_SIGNAL = 255
_CHANGE_WITHIN_S = 600.0


@dataclass(frozen=True, slots=True)
class Aim:
    """When a command gets which signal.

    Attributes:
        number: the signal.
        change: the file that it is about to change, counted from 1 (made, opened to be written,
            renamed, removed); 0 counts from its start.
        after_s: seconds after that; 0 at the very moment of a change.
    """

    number: signal.Signals
    change: int
    after_s: float


class Board:
    """What a forked process tells its parent, in memory that both have.

    Args:
        root: folder whose changes count.
    """

    def __init__(self, root: Path) -> None:
        self._bytes = mmap.mmap(-1, mmap.PAGESIZE)
        self._bytes[_AT_SIGNAL] = _NO_SIGNAL
        self._root = f"{root}{os.sep}"

    @property
    def moment(self) -> str:
        """What the process did when the signal came to it, or when it ended."""
        at_signal = self._bytes[_AT_SIGNAL]
        return MOMENTS[self._bytes[_NOW] if at_signal == _NO_SIGNAL else at_signal]

    @property
    def num_changes(self) -> int:
        """Of files, so far."""
        return int.from_bytes(self._bytes[_NUM_CHANGES], "little")

    def watch(self, aim: Aim | None, reached: int) -> None:
        """In the child: note what it does, and stop it at its change.

        Args:
            aim: None stops it nowhere.
            reached: a pipe's end that tells the parent of the change.
        """
        from leafkit.core.process.stop_signals import StopSignals

        for module, name, moment in _WATCHED:
            owner: Any = importlib.import_module(module)
            *outer, name = name.split(".")
            for part in outer:
                owner = getattr(owner, part)
            setattr(owner, name, self._told(getattr(owner, name), moment))
        handle = StopSignals.handle

        @functools.wraps(handle)
        def noted(stops: StopSignals, number: int, frame: Any) -> None:
            if self._bytes[_AT_SIGNAL] == _NO_SIGNAL:
                self._bytes[_AT_SIGNAL] = self._bytes[_NOW]
            handle(stops, number, frame)

        StopSignals.handle = noted  # type: ignore[method-assign]
        sys.addaudithook(functools.partial(self._audit, aim, reached))

    def now(self, moment: int) -> None:
        """Say what comes next."""
        self._bytes[_NOW] = moment

    def _told(self, function: Callable[..., Any], moment: int) -> Callable[..., Any]:
        """The function, which says meanwhile what it is."""

        @functools.wraps(function)
        def told(*args: Any, **named: Any) -> Any:
            before = self._bytes[_NOW]
            self._bytes[_NOW] = moment
            try:
                return function(*args, **named)
            finally:
                self._bytes[_NOW] = _THEN.get(moment, before)

        return told

    def _audit(self, aim: Aim | None, reached: int, event: str, args: tuple[Any, ...]) -> None:
        """Python calls this before it changes a file."""
        if event == "open":
            if not isinstance(args[2], int) or not args[2] & _WRITES:
                return
        elif event not in _CHANGES:
            return
        if not str(args[0]).startswith(self._root):
            return
        count = self.num_changes + 1
        self._bytes[_NUM_CHANGES] = count.to_bytes(4, "little")
        if aim is not None and aim.change == count:
            if aim.after_s:
                os.write(reached, b".")
            else:
                os.kill(os.getpid(), aim.number)


class Child:
    """A forked process that runs one command, in a session of its own.

    Args:
        words: of the command line.
        root: folder of its artifacts.
        out: file for what it prints.
        aim: when it is stopped; None lets it end.
        environment: variables set beside those of this process.
    """

    def __init__(
        self,
        words: Sequence[str],
        root: Path,
        out: Path,
        *,
        aim: Aim | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.board, self._aim = Board(root), aim
        self._started_s = time.perf_counter()
        self._read, write = os.pipe()
        # one that comes before the child has handlers of its own would find the parent's
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS[1:])
        self.process = os.fork()
        if self.process == 0:
            os.environ.update(environment or {})
            _run([*words, f"checkpoints={root}"], out, self.board, aim, reached=write)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS[1:])
        os.close(write)
        self._ends = os.pidfd_open(self.process)

    def stop(self) -> None:
        """Wait for the moment of the aim and send its signal, where the process has not ended
        before; a change that it stops at by itself needs nothing.
        """
        aim = self._aim
        if aim is None:
            return
        if aim.change:
            select.select([self._read, self._ends], [], [], _CHANGE_WITHIN_S)
        is_over = bool(select.select([self._ends], [], [], aim.after_s)[0])
        if is_over or (aim.change and not aim.after_s):
            return
        try:
            # a terminal's Ctrl-C comes to all processes of a command
            (os.killpg if aim.number == signal.SIGINT else os.kill)(self.process, aim.number)
        except ProcessLookupError:  # it has no session of its own yet
            os.kill(self.process, aim.number)

    def wait(self, limit_s: float) -> int | None:
        """The status that it ended with, negative for a signal; None where it had to be killed
        after so many seconds.
        """
        has_ended = bool(select.select([self._ends], [], [], limit_s)[0])
        if not has_ended:
            os.kill(self.process, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])
        self.seconds = time.perf_counter() - self._started_s
        os.close(self._ends)
        os.close(self._read)
        return status if has_ended else None

    def end_others(self, within_s: float) -> int:
        """Number of processes of its session that live on after so many seconds; these end now."""
        deadline_s = time.monotonic() + within_s
        while (left := members_of(self.process)) and time.monotonic() < deadline_s:
            time.sleep(0.02)
        for process in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        return len(left)


def _run(words: list[str], out: Path, board: Board, aim: Aim | None, *, reached: int) -> None:
    """In the child: run the command and end with its status."""
    status = 99
    try:
        os.setsid()
        with out.open("wb") as stream:
            os.dup2(stream.fileno(), 1)
            os.dup2(stream.fileno(), 2)
        for number in SIGNALS[1:]:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS[1:])
        sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
        sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
        from leafkit.cli import main

        board.watch(aim, reached)
        status = main.main(words)
        board.now(ENDED)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def in_child(work: Callable[[], object]) -> None:
    """Do something in a forked process, for the threads that it may start.

    Raises:
        SystemExit: it fails; it has printed its traceback.
    """
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        raise SystemExit("a forked process failed; its traceback is above")


def import_used(work: Callable[[], object]) -> None:
    """Import in this process what some work imports, which is done in a forked one."""
    with tempfile.NamedTemporaryFile("w+") as told:

        def tell() -> None:
            before = set(sys.modules)
            work()
            told.write("\n".join(name for name in sys.modules if name not in before))
            told.flush()

        in_child(tell)
        names = Path(told.name).read_text().split()
    for name in names:
        with contextlib.suppress(ImportError):  # of names that stand for nothing of their own
            importlib.import_module(name)


def members_of(session: int) -> list[int]:
    """Processes of a session that still run."""
    return [process for process, sid, state in _processes() if sid == session and state != "Z"]


def _processes() -> Iterator[tuple[int, int, str]]:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            yield int(stat.parent.name), int(fields[3]), fields[0]
