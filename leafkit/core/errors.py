"""Errors a user can act on. Everything else is a bug and keeps its traceback."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path


class LeafkitError(Exception):
    """Something failed for a reason the user can remove; ``hint`` says how. The command exits with
    status 1.
    """

    exit_status = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(LeafkitError):
    """The command, the recipe or one of its values is wrong. The command exits with status 2."""

    exit_status = 2


class MissingExtra(LeafkitError):
    """An optional package is not installed; the message carries the command that installs it."""

    def __init__(self, package: str, extra: str, why: str) -> None:
        super().__init__(
            f"{why} needs the package {package!r}, which is not installed",
            f'pip install "leafkit[{extra}]"',
        )


@contextlib.contextmanager
def explain_write_errors(path: Path) -> Iterator[None]:
    """Turn the ``OSError`` of a failed write below ``path`` into a LeafkitError that says what to
    do.

    Raises:
        LeafkitError: the disk is full, permission is denied, or the write failed for another reason
            of the system's.
    """
    remedies = {
        errno.ENOSPC: (
            "free some space or choose another place with checkpoints=DIR; finished stages are "
            "intact"
        ),
        errno.EDQUOT: (
            "your disk quota is used up; free some space or choose another place with "
            "checkpoints=DIR"
        ),
        errno.EACCES: (
            "give yourself write permission there or choose another place with checkpoints=DIR"
        ),
        errno.EPERM: (
            "give yourself write permission there or choose another place with checkpoints=DIR"
        ),
        errno.EROFS: "the file system is read-only; choose another place with checkpoints=DIR",
        errno.ENOTDIR: (
            "a file stands where a folder is needed; move it or choose another place with "
            "checkpoints=DIR"
        ),
        errno.EEXIST: (
            "a file stands where a folder is needed; move it or choose another place with "
            "checkpoints=DIR"
        ),
        errno.EISDIR: (
            "a folder stands where a file is needed; move it or choose another place with "
            "checkpoints=DIR"
        ),
    }
    try:
        yield
    except OSError as err:
        if err.errno not in remedies:
            raise
        where = err.filename or path
        raise LeafkitError(f"cannot write {where}: {err.strerror}", remedies[err.errno]) from err
