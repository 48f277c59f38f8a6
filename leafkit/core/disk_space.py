"""Room on a disk, asked for before the work whose result needs it."""

from __future__ import annotations

import shutil
from pathlib import Path

from leafkit.core.errors import LeafkitError


def require_space(
    folder: Path, num_bytes: int, what: str, elsewhere: str = "checkpoints=DIR"
) -> None:
    """Refuse work whose result would not fit.

    Args:
        folder: below which it is written; the nearest one above it that exists counts.
        num_bytes: that are written at least.
        what: is written, for the message.
        elsewhere: what chooses another place.

    Raises:
        LeafkitError: fewer bytes are free there.
    """
    place = next((p for p in (folder, *folder.absolute().parents) if p.is_dir()), Path("/"))
    free = shutil.disk_usage(place).free
    if num_bytes > free:
        raise LeafkitError(
            f"{what} take {_mib(num_bytes)}, and {place} has {_mib(free)} left",
            f"free some space or choose another place with {elsewhere}",
        )


def _mib(num_bytes: int) -> str:
    return f"{num_bytes / 2**20:,.1f} MiB"
