"""Errors: what a failed write is turned into, and what is left alone."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from leafkit.core.errors import LeafkitError, MissingExtra, UsageError, explain_write_errors

EXPLAINED = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "quota",
    errno.EACCES: "write permission",
    errno.EPERM: "write permission",
    errno.EROFS: "read-only",
    errno.ENOTDIR: "a file stands where a folder is needed",
    errno.EFBIG: "ulimit -f",
    errno.ENAMETOOLONG: "shorten it",
    errno.EIO: "the disk or its connection fails",
    errno.EMFILE: "ulimit -n",
    errno.ESTALE: "mount it anew",
    errno.ELOOP: "a link there leads back to itself",
    errno.ETXTBSY: "check that path",
}


@pytest.mark.parametrize(
    ("number", "hint"), EXPLAINED.items(), ids=[errno.errorcode[n] for n in EXPLAINED]
)
def test_write_error_names_file_reason_and_remedy(number: int, hint: str) -> None:
    with pytest.raises(LeafkitError) as caught, explain_write_errors(Path("/place")):
        raise OSError(number, os.strerror(number), "/place/file")
    assert str(caught.value) == f"cannot write /place/file: {os.strerror(number)}"
    assert hint in caught.value.hint
    assert isinstance(caught.value.__cause__, OSError)


def test_write_error_without_a_file_name_names_the_place() -> None:
    with (
        pytest.raises(LeafkitError, match=r"cannot write /place: "),
        explain_write_errors(Path("/place")),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "gone"),
        OSError(errno.EIO, "I/O error", "/elsewhere/corpus.jsonl"),
        PermissionError(errno.EACCES, "denied", "/elsewhere/corpus.jsonl"),
        ConnectionResetError(errno.ECONNRESET, "reset"),
        OSError("of no number"),
        ValueError("bug"),
    ],
)
def test_other_errors_keep_their_type(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, explain_write_errors(Path("/place")):
        raise error
    assert caught.value is error


def test_a_leafkit_error_passes_unchanged() -> None:
    error = LeafkitError("already explained", "do that")
    with pytest.raises(LeafkitError) as caught, explain_write_errors(Path("/place")):
        raise error
    assert caught.value is error


def test_exit_statuses() -> None:
    assert (
        LeafkitError("x").exit_status,
        UsageError("x").exit_status,
        MissingExtra("p", "e", "w").exit_status,
    ) == (1, 2, 1)
    assert issubclass(UsageError, LeafkitError)
    assert issubclass(MissingExtra, LeafkitError)


def test_missing_extra_carries_the_command_that_installs_it() -> None:
    error = MissingExtra("faiss", "cpu", "searching")
    assert str(error) == "searching needs the package 'faiss', which is not installed"
    assert error.hint == 'pip install "leafkit[cpu]"'


def test_remedy_is_optional() -> None:
    assert LeafkitError("x").hint == ""
