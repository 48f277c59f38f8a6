"""sha256 of files, remembered: a file that has not changed since it was read is not read again.

A file counts as unchanged while its size, its time of change, its inode and the time of its
inode's last change are what they were; see ``leafkit.core.watch``.
"""

from __future__ import annotations

import contextlib
import contextvars
import hashlib
import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

from leafkit.core.swap import draft_of_file
from leafkit.core.watch import State, is_settled, state_of, watch_file

# a comment, in HTML as in Markdown
_STAMP = re.compile(r"<!-- written by leafkit, sha256 ([0-9a-f]{64}) -->\n\Z")

FORMAT = 1  # of the file that keeps what is remembered


class HashMemory:
    """What files looked like when they were last read, and their sha256.

    It is kept in a JSON file that many processes may read and replace at once: each writes a file
    of its own and renames it. One that is missing, torn or of another format counts as empty, and
    one that cannot be written is not.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, tuple[State, str]] = {}
        self._is_changed = False
        with contextlib.suppress(
            OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError
        ):
            raw = json.loads(path.read_text(encoding="utf-8"))
            if raw.get("format") == FORMAT:
                self._known = {
                    str(name): ((int(size), int(mtime), int(ctime), int(inode)), str(sha256))
                    for name, (size, mtime, ctime, inode, sha256) in raw["files"].items()
                }

    def sha256(self, file: Path, name: str) -> str:
        """sha256 of a file, in hex.

        Args:
            file: to be read where it has changed.
            name: by which it is remembered.

        Raises:
            OSError: it cannot be read.
        """
        state = state_of(file)
        watch_file(file, state)
        if name in self._known and self._known[name][0] == state:
            return self._known[name][1]
        now_ns = time.time_ns()
        digest = read_sha256(file)
        if is_settled(state, now_ns) and state_of(file) == state:
            self._known[name] = state, digest
            self._is_changed = True
        elif self._known.pop(name, None):
            self._is_changed = True
        return digest

    def save(self) -> None:
        """Keep what is new; where the folder cannot be written nothing is kept."""
        if not self._is_changed:
            return
        files = {name: (*state, digest) for name, (state, digest) in sorted(self._known.items())}
        text = json.dumps({"format": FORMAT, "files": files})
        with contextlib.suppress(OSError):
            with draft_of_file(self._path) as draft:
                draft.write_text(text, encoding="utf-8")
            self._is_changed = False


_active: contextvars.ContextVar[HashMemory | None] = contextvars.ContextVar("active", default=None)


def read_sha256(path: Path) -> str:
    """sha256 of a file's bytes, in hex; always reads them."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_of_file(path: Path) -> str:
    """sha256 of a file's bytes, in hex; inside ``remembered_hashes`` an unchanged file is not read
    again.
    """
    memory = _active.get()
    return read_sha256(path) if memory is None else memory.sha256(path, os.path.abspath(path))


@contextlib.contextmanager
def remembered_hashes(path: Path, is_kept: bool = True) -> Iterator[None]:
    """Remember every hash of the body, from one process to the next.

    Args:
        path: of the file that keeps them.
        is_kept: whether this process writes it at the end.
    """
    memory = HashMemory(path)
    token = _active.set(memory)
    try:
        yield
    finally:
        _active.reset(token)
        if is_kept:
            memory.save()


def stamped(text: str) -> str:
    """A page or card with a last line that tells whether the rest was edited."""
    body = without_stamp(text)
    body += "" if body.endswith("\n") else "\n"
    return f"{body}<!-- written by leafkit, sha256 {_hash(body)} -->\n"


def without_stamp(text: str) -> str:
    """A page or card as it was before it was stamped."""
    return _STAMP.sub("", text)


def is_stamped(path: Path) -> bool:
    """Whether a file carries the stamp of the very text above it."""
    try:
        text = path.read_bytes().decode("utf-8")
    except (OSError, ValueError):
        return False
    found = _STAMP.search(text)
    return found is not None and found[1] == _hash(text[: found.start()])


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()
