"""A finished draft takes the place of what stands there, with no moment in which nothing does.

Linux exchanges the two in one call. Where the file system cannot, the old folder is moved aside
first; a writer that dies in between leaves it there, and the next writer puts it back. A reader
never does: it cannot know whether that writer is still at work.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
import time
from pathlib import Path

from leafkit.core.errors import LeafkitError

_HERE, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of renameat2(2)
_WAIT_S, _LOOK_EVERY_S = 1.0, 0.01  # for a writer between its two renames


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
