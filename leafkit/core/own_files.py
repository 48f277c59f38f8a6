"""Texts that a user may read, edit and put his own in place of: what leafkit wrote carries a stamp,
and only what carries a fitting one is replaced.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from leafkit.core.artifact import write_durably
from leafkit.core.errors import LeafkitError, explain_write_errors
from leafkit.core.file_hashes import is_stamped, stamped

_HINT = "move it elsewhere or delete it, then run the same command again"


def check_own(paths: Iterable[Path], is_own: Callable[[Path], bool] = is_stamped) -> None:
    """Refuse to replace what leafkit did not write as it stands; asked before the work, and again
    when it is done.

    Args:
        paths: of files that will be written.
        is_own: tells of one that is there.

    Raises:
        LeafkitError: there is such a file; the message names it.
    """
    for path in paths:
        if path.is_dir():
            raise LeafkitError(f"{path} is a folder where a file is to be written", _HINT)
        if os.path.lexists(path) and not is_own(path):
            raise LeafkitError(
                f"{path} was not written by leafkit, or was edited since: it will not be replaced",
                _HINT,
            )


def write_own(path: Path, text: str) -> None:
    """Write a page or card in one step, stamped, and its folder where there is none.

    Raises:
        LeafkitError: another text stands there, or it cannot be written, with what to do.
    """
    check_own([path])
    with explain_write_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_durably(path, stamped(text).encode("utf-8", "backslashreplace"))
