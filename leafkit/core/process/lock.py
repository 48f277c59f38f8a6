"""One process at a time: the lock on a folder, and claims on parts of a work that several share."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from leafkit.core.checkpoint_layout import LOCK_FILE
from leafkit.core.console import log
from leafkit.core.errors import LeafkitError, explain_write_errors

# descriptors of the locks that this process holds
_held: set[int] = set()


def _let_go_in_child() -> None:
    """A forked process shares the lock with its parent, which a killed parent would leave to it:
    closing the child's copy leaves the parent's alone.
    """
    for descriptor in _held:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_let_go_in_child)


@contextlib.contextmanager
def exclusive(folder: Path, *, is_shared: bool = False) -> Iterator[None]:
    """Hold ``folder`` for this process alone; the lock goes when the process does, however it ends,
    and no process that it starts inherits it.

    Args:
        folder: made where it is not there.
        is_shared: hold it beside others that ask for the same, and keep out who wants it alone.

    Raises:
        LeafkitError: another process holds it; the message names the process.
    """
    with _hold(folder / LOCK_FILE, is_shared=is_shared) as holder:
        if holder is not None:
            raise LeafkitError(
                f"{folder} is in use by {holder}",
                "wait for it to end, or give this run its own place with checkpoints=DIR",
            )
        yield


@contextlib.contextmanager
def in_turn(file: Path, what: str) -> Iterator[None]:
    """Hold ``file`` for this process alone, after whoever holds it now.

    Args:
        file: nothing but a lock; made where it is not there.
        what: it stands for, for the line that says who is waited for.
    """
    with _hold(file, f"  waiting for {what}, which {{}} is at work on"):
        yield


@contextlib.contextmanager
def claimed(file: Path) -> Iterator[str]:
    """Hold ``file`` for this process alone where nobody else does; yields who has it, "" where this
    process has it now. A claim goes with its process, however that ends.

    Args:
        file: nothing but a claim; made where it is not there. Who deletes it must know that nobody
            will ask for the work that it stands for.
    """
    with _hold(file) as holder:
        yield holder or ""


@contextlib.contextmanager
def _hold(file: Path, waiting: str = "", *, is_shared: bool = False) -> Iterator[str | None]:
    """Lock a file. Where another process has it, wait and say so where there are words for that,
    else yield who it is.
    """
    kind = fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX
    with explain_write_errors(file.parent):
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    # registered before it is locked: a thread may fork at any moment
    _held.add(descriptor)
    owner = os.getpid()
    try:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except OSError as err:
            if err.errno not in {errno.EWOULDBLOCK, errno.EAGAIN}:
                raise LeafkitError(
                    f"{file.parent} lies on a file system that locks no files "
                    f"({os.strerror(err.errno or 0)}), so that two runs could write there at once",
                    "mount it with locks (Lustre: -o flock; NFS: a running lock daemon), or give "
                    "another place with checkpoints=DIR",
                ) from err
            told = os.pread(descriptor, 200, 0).decode("utf-8", "replace").strip()
            if not waiting:
                yield told or "another process"
                return
            log(waiting.format(told or "another process"), style="dim")
            fcntl.flock(descriptor, kind)
        with explain_write_errors(file.parent):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        yield None
        if os.getpid() == owner:
            os.ftruncate(descriptor, 0)
    finally:
        if os.getpid() == owner:  # in a forked process it is closed, and its number another file's
            _held.discard(descriptor)
            os.close(descriptor)
