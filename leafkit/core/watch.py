"""What a run read and what it wrote: with it, the next run can tell from stats alone that nothing
has changed.

A file is watched with the state that it had when it was read, so that a change in the middle of a
long run shows in the next one. Only what the run publishes itself is watched as it is at the end.
"""

from __future__ import annotations

import contextlib
import contextvars
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

State = tuple[int, int, int, int]  # size, mtime, ctime, inode
_FINE_TICK_NS, _COARSE_TICK_NS = 20_000_000, 2_000_000_000  # of a local clock; of whole seconds


def state_of(path: Path) -> State:
    """What changes when a file or a folder's list of entries does.

    The last two cannot be set by a program that puts an old time of change back.

    Raises:
        OSError: it is not there.
    """
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def is_settled(state: State, now_ns: int) -> bool:
    """Whether a later change would show in the times: as in git's index, what was changed in the
    very moment of reading is not trusted, for a clock with coarse ticks would say nothing.
    """
    last_ns = max(state[1], state[2])
    tick_ns = _COARSE_TICK_NS if last_ns % 10**9 == 0 else _FINE_TICK_NS
    return last_ns + tick_ns < now_ns


class Watch:
    """Files with their states, and values that were found by other means.

    Args:
        root: what lies below is the run's own: the state that counts is the last.
    """

    def __init__(self, root: Path) -> None:
        self._root = f"{os.path.abspath(root)}{os.sep}"
        self.files: dict[str, State] = {}
        self.values: dict[str, str] = {}

    def add(self, path: Path, state: State) -> None:
        """Watch a file or folder that was read in this state."""
        name = os.path.abspath(path)
        if name.startswith(self._root):
            self.files[name] = state
        else:
            self.files.setdefault(name, state)

    def is_settled(self) -> bool:
        """Whether every later change would show."""
        now_ns = time.time_ns()
        return all(is_settled(state, now_ns) for state in self.files.values())


def is_as_watched(files: dict[str, State]) -> bool:
    """Whether every file is in the state that it was read in."""
    try:
        return all(state_of(Path(name)) == tuple(state) for name, state in files.items())
    except OSError:
        return False


_active: contextvars.ContextVar[Watch | None] = contextvars.ContextVar("active", default=None)


@contextlib.contextmanager
def watching(root: Path) -> Iterator[Watch]:
    """Watch everything that the body reads through the functions below."""
    watch = Watch(root)
    token = _active.set(watch)
    try:
        yield watch
    finally:
        _active.reset(token)


def watch_file(path: Path, state: State | None = None) -> None:
    """Watch a file, or a folder for what is added or removed, where a run is watching."""
    watch = _active.get()
    if watch is not None:
        watch.add(path, state or state_of(path))


def watch_tree(folder: Path) -> None:
    """Watch a folder, everything below it and what is added there, hidden files left out."""
    if _active.get() is None:
        return
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if not name.startswith("."):
                watch_file(Path(place, name))


def watch_folders(folder: Path) -> None:
    """Watch a folder and all below it for what is added or removed."""
    if _active.get() is not None:
        for place, _, _ in os.walk(folder):
            watch_file(Path(place))


def watched_value(question: str, find: Callable[[], str]) -> str:
    """A value that is found by other means than reading a file; asked once where a run is
    watching.
    """
    watch = _active.get()
    if watch is None:
        return find()
    if question not in watch.values:
        watch.values[question] = find()
    return watch.values[question]
