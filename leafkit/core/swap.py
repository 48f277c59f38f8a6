"""A finished draft takes the place of what stands there, with no moment in which nothing does.

Linux exchanges the two in one call. Where the file system cannot, the old folder is moved aside
first; a writer that dies in between leaves it there, and the next writer puts it back. A reader
never does: it cannot know whether that writer is still at work.
"""

from __future__ import annotations

import contextlib
import ctypes
import glob
import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from leafkit.core.errors import LeafkitError
from leafkit.core.process.workers import is_running

_HERE, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of renameat2(2)
_WAIT_S, _LOOK_EVERY_S = 1.0, 0.01  # for a writer between its two renames


@contextlib.contextmanager
def draft_of_file(path: Path) -> Iterator[Path]:
    """A path beside ``path``, to be written by the body, whose file then takes the place of what is
    at ``path``. What killed processes of this machine left of the same attempt is removed.

    Raises:
        OSError: the folder cannot be written; what was at ``path`` is still there.
    """
    host = socket.gethostname().replace("/", "-")
    writer = f"{os.getpid()}-{threading.get_native_id()}"  # two threads may write at once
    for left in path.parent.glob(f".{glob.escape(path.name)}.{glob.escape(host)}.*.tmp"):
        owner = left.name.split(".")[-2].partition("-")[0]
        if owner.isdecimal() and not is_running(int(owner)):
            left.unlink(missing_ok=True)
    draft = path.with_name(f".{path.name}.{host}.{writer}.tmp")
    try:
        yield draft
        os.replace(draft, path)
    except BaseException:  # a signal too
        draft.unlink(missing_ok=True)
        raise


def swap_in(draft: Path, target: Path) -> None:
    """Let ``draft`` become ``target``, and remove what was there.

    Raises:
        OSError: it cannot be renamed; what was at ``target`` is still there.
    """
    if not target.exists():
        os.rename(draft, target)
        _fsync_folder(target.parent)
    elif _exchange(draft, target):
        _fsync_folder(target.parent)
        shutil.rmtree(draft)
    else:
        old = _old(target)
        if old.exists():
            shutil.rmtree(old)
        os.rename(target, old)
        os.rename(draft, target)
        _fsync_folder(target.parent)
        shutil.rmtree(old)


def recover(target: Path) -> None:
    """Undo a swap that was cut short between its two renames; for the one process that may write
    there.
    """
    old = _old(target)
    if old.exists() and not target.exists():
        os.rename(old, target)


def wait_for(target: Path) -> None:
    """Wait out a swap between its two renames, for readers.

    Raises:
        LeafkitError: the writer seems to have died there.
    """
    end_s = time.monotonic() + _WAIT_S
    while _old(target).exists() and not target.exists():
        if time.monotonic() > end_s:
            raise LeafkitError(
                f"{target} was being replaced when its writer was stopped",
                f"run the command that writes it again: it puts back what {_old(target)} keeps",
            )
        time.sleep(_LOOK_EVERY_S)


def _old(target: Path) -> Path:
    return target.with_name(f".{target.name}.old")


def _exchange(one: Path, other: Path) -> bool:
    """Whether the two changed places; False where the system or the file system cannot do it."""
    if sys.platform != "linux":
        return False
    try:
        renameat2 = ctypes.CDLL(None).renameat2
    except (OSError, AttributeError):
        return False
    return bool(renameat2(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0)


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
