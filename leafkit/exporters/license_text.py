"""The text of a license beside a model, where it is known here."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

from leafkit.core.errors import UsageError

LICENSE_FILE = "LICENSE"
# those whose text names no owner and no year, and is the same for everyone
_KNOWN = ("apache-2.0",)


def write_license(license_id: str, folder: Path) -> bool:
    """Write LICENSE into a folder.

    Args:
        license_id: as the hub writes it; most licenses name their owner in the text, and of those
            nothing is written.
        folder: of the model.

    Returns:
        Whether it was written.
    """
    if license_id not in _KNOWN:
        return False
    text = resources.files("leafkit.exporters").joinpath("licenses", f"{license_id}.txt")
    (folder / LICENSE_FILE).write_text(text.read_text(encoding="utf-8"), encoding="utf-8")
    return True


def check_license(license_id: str) -> None:
    """Refuse what is no identifier of a license; "" names none.

    Raises:
        UsageError: with how the hub writes them.
    """
    if license_id and not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", license_id):
        raise UsageError(
            f"license={license_id!r} is not an identifier", "write it as the hub does: apache-2.0"
        )
