"""Files that other users of the machine may read, where the umask lets them.

``tempfile`` and safetensors make files that their owner alone may read, whatever the umask says: a
model on a shared disk could be listed by the others and not loaded.
"""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

_lock = threading.Lock()


def umask() -> int:
    """The process's umask, which can only be read by setting it."""
    with _lock:
        mask = os.umask(0o077)
        os.umask(mask)
    return mask


def share(path: Path) -> None:
    """Give a file, or every file below a folder, the rights that a new file of this process has;
    rights that a file has beyond them stay, and so does a file that is somebody else's.
    """
    wanted = 0o666 & ~umask()
    for file in [path] if path.is_file() else path.rglob("*"):
        with contextlib.suppress(OSError):
            mode = file.stat().st_mode & 0o777
            if file.is_file() and not file.is_symlink() and mode | wanted != mode:
                file.chmod(mode | wanted)
