"""The version, in a module that everything may import; those of the packages that decide about
numbers, and the commit.
"""

from __future__ import annotations

import contextlib
import platform
from importlib import metadata
from pathlib import Path

__version__ = "0.1.0"

_RECORDED_PACKAGES = (
    "torch",
    "transformers",
    "lightning",
    "tokenizers",
    "numpy",
    "faiss-cpu",
    "faiss-gpu",
)


def versions() -> dict[str, str]:
    """Versions of leafkit, Python and the packages that decide about numbers."""
    found = {"leafkit": __version__, "python": platform.python_version()}
    for name in _RECORDED_PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def git_commit() -> str:
    """Commit of the checkout this package runs from, read from .git without running git; "" outside
    a checkout.
    """
    git = Path(__file__).resolve().parents[2] / ".git"
    try:
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return head
        reference = head.removeprefix("ref: ")
        loose = git / reference
        if loose.is_file():
            return loose.read_text().strip()
        packed = (git / "packed-refs").read_text().splitlines()
        return next((line.split()[0] for line in packed if line.endswith(f" {reference}")), "")
    except OSError:
        return ""
