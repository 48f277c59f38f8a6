"""Kill a process at every single file operation it makes, and look at what is left.

The work runs in a forked process in which every operation that changes files first counts itself;
at the n-th one the process kills itself with SIGKILL, so nothing is flushed, closed or cleaned up.
A write dies after half of its bytes have reached the file, which is what a full page cache and a
power cut leave.
"""

from __future__ import annotations

import io
import os
import signal
import traceback
from collections.abc import Callable, Iterator
from typing import Any

_OPERATIONS = ("rename", "replace", "fsync", "unlink", "remove", "rmdir", "mkdir")
_MAX_OPERATIONS = 500


class _Bomb:
    """Counts operations and kills the process at the n-th."""

    def __init__(self, kill_at: int) -> None:
        self._kill_at, self._count = kill_at, 0

    def is_due(self) -> bool:
        self._count += 1
        return self._count == self._kill_at

    def tick(self) -> None:
        if self.is_due():
            _die()


class _Writer:
    """A file that can die in the middle of a write."""

    def __init__(self, stream: Any, bomb: _Bomb) -> None:
        self._stream, self._bomb = stream, bomb

    def write(self, content: Any) -> int:
        if self._bomb.is_due():
            self._stream.write(content[: len(content) // 2])
            self._stream.flush()
            _die()
        return self._stream.write(content)

    def __enter__(self) -> _Writer:
        self._stream.__enter__()
        return self

    def __exit__(self, *details: object) -> None:
        self._stream.__exit__(*details)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _arm(bomb: _Bomb) -> None:
    for name in _OPERATIONS:
        real = getattr(os, name)

        def counted(*args: Any, _real: Callable[..., Any] = real, **kwargs: Any) -> Any:
            bomb.tick()
            return _real(*args, **kwargs)

        setattr(os, name, counted)
    real_open = io.open

    def open_counted(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if not set(mode) & set("wax+"):
            return real_open(file, mode, *args, **kwargs)
        bomb.tick()
        return _Writer(real_open(file, mode, *args, **kwargs), bomb)

    io.open = open_counted  # where pathlib looks it up


def _run_and_die(work: Callable[[], None], kill_at: int) -> int:
    """Signal that ended the forked process, 0 where it came to its end."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            _arm(_Bomb(kill_at))
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return os.WTERMSIG(status)
    assert os.WEXITSTATUS(status) == 0, (
        f"the work itself failed when told to die at operation {kill_at}"
    )
    return 0


def kill_at_every_operation(prepare: Callable[[], None], work: Callable[[], None]) -> Iterator[int]:
    """For n = 1, 2, ...: ``prepare``, then ``work`` in a process killed at its n-th operation;
    yields n for the caller's look.

    Ends with the first n that ``work`` never reaches: that run was complete, and its state is
    yielded too.
    """
    for number in range(1, _MAX_OPERATIONS):
        prepare()
        ended_by = _run_and_die(work, number)
        assert ended_by in {0, signal.SIGKILL}
        yield number
        if ended_by == 0:
            return
    raise AssertionError(f"still not done after {_MAX_OPERATIONS} operations")
