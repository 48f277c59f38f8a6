"""Errors a user can act on. Everything else is a bug: the command line puts its traceback into a
file.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
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


class OutputFailed(Exception):
    """Standard output takes no more.

    The message is the system's reason; empty where nobody reads any more, which is no error.
    """


class MissingExtra(LeafkitError):
    """An optional package is not installed; the message carries the command that installs it."""

    def __init__(self, package: str, extra: str, why: str) -> None:
        super().__init__(
            f"{why} needs the package {package!r}, which is not installed",
            f'pip install "leafkit[{extra}]"',
        )


_ELSEWHERE = "choose another place with checkpoints=DIR"
# what the user can do about a write that the system refused
_WRITE_REMEDIES = {
    errno.ENOSPC: f"free some space or {_ELSEWHERE}; finished stages are intact",
    errno.EDQUOT: f"your disk quota is used up; free some space or {_ELSEWHERE}",
    errno.EFBIG: f"the file would exceed what ulimit -f or the file system allows; {_ELSEWHERE}",
    errno.EACCES: f"give yourself write permission there or {_ELSEWHERE}",
    errno.EPERM: f"give yourself write permission there or {_ELSEWHERE}",
    errno.EROFS: f"the file system is read-only; {_ELSEWHERE}",
    errno.ENOTDIR: f"a file stands where a folder is needed; move it or {_ELSEWHERE}",
    errno.EEXIST: f"a file stands where a folder is needed; move it or {_ELSEWHERE}",
    errno.EISDIR: f"a folder stands where a file is needed; move it or {_ELSEWHERE}",
}
# numbers that no reading gives
_OF_WRITES = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})
_RUSTS_NUMBER = re.compile(r"\(os error (\d+)\)")
_TORCHS_WORDS = ("PytorchStreamWriter failed", "inline_container.cc", "iostream error")
# what holds whether the file was to be read or written
_REMEDIES = {
    errno.ENOENT: "check the path; something may have removed it while leafkit was at work",
    errno.EACCES: "check the permissions of the file and of the folders above it",
    errno.EPERM: "check the permissions of the file and of the folders above it",
    errno.EISDIR: "a folder stands where a file is needed: check the path",
    errno.ENOTDIR: "a file stands where a folder is needed: check the path",
    errno.ENOSPC: "free some space on that disk",
    errno.ENAMETOOLONG: "a part of the path is longer than the file system allows: shorten it",
    errno.ELOOP: "a link there leads back to itself: remove it",
    errno.EMFILE: "too many files are open at once: raise the limit with ulimit -n 4096",
    errno.ENFILE: "too many files are open on this machine: close some programs",
    errno.EIO: "the disk or its connection fails: check the system's log (dmesg)",
    errno.ESTALE: "the network file system has lost the file: mount it anew, then run again",
    errno.ENOMEM: "free some memory, then run again",
}


def remedy_of(err: OSError, *, is_write: bool = False) -> str:
    """What a user can do about an error of the system's."""
    number = err.errno or 0
    general = _REMEDIES.get(number, "check that path and the disk it lies on, then run again")
    return _WRITE_REMEDIES.get(number, general) if is_write else general


@contextlib.contextmanager
def explain_write_errors(path: Path) -> Iterator[None]:
    """Turn the ``OSError`` of a failed write below ``path`` into a LeafkitError that says what to
    do.

    An error that names a file elsewhere, or one that is not there, is not of a write below
    ``path`` and passes as it is; so do errors of the network.

    Raises:
        LeafkitError: the disk is full, permission is denied, or the write failed for another reason
            of the system's.
    """
    try:
        yield
    except OSError as err:
        if isinstance(err, ConnectionError | TimeoutError) or not err.errno:
            raise
        is_named = isinstance(err.filename, str | bytes | os.PathLike)
        named = Path(os.fsdecode(err.filename)) if is_named else path
        if err.errno == errno.ENOENT or not _is_of(named, path):
            raise
        raise LeafkitError(
            f"cannot write {named}: {err.strerror}", remedy_of(err, is_write=True)
        ) from err
    except Exception as err:
        reason = _refused_write(err)
        if not reason:
            raise
        raise LeafkitError(f"cannot write {path}: {reason}", _WRITE_REMEDIES[errno.ENOSPC]) from err


def _refused_write(err: Exception) -> str:
    """Why the system refused a write to a library with exceptions of its own: safetensors and
    tokenizers tell the number in their words, torch that a write failed; else empty.
    """
    if isinstance(err, LeafkitError):
        return ""
    told = _RUSTS_NUMBER.search(str(err))
    if told and int(told[1]) in _OF_WRITES:
        return os.strerror(int(told[1]))
    is_torchs = isinstance(err, RuntimeError) and any(w in str(err) for w in _TORCHS_WORDS)
    return "the disk is full or fails" if is_torchs else ""


def _is_of(file: Path, target: Path) -> bool:
    """Whether a file lies in ``target``, above it, or in the draft of it that stands beside it."""
    file, target = Path(os.path.abspath(file)), Path(os.path.abspath(target))
    if target.is_relative_to(file) or file.is_relative_to(target):
        return True
    beside = file.relative_to(target.parent).parts if file.is_relative_to(target.parent) else ()
    return bool(beside) and target.name in beside[0]
