"""The words for what a student can be exported to; what writes each is in ``targets``."""

from __future__ import annotations

from collections.abc import Sequence

from leafkit.core.errors import UsageError

TARGET_NAMES = ("student", "teacher", "pair", "onnx", "openvino", "web")
# a word for several: the first of them, and those of the others that a student can have
GROUPS = {"hub": ("student", "teacher", "pair")}


def check_targets(to: str | Sequence[str]) -> list[str]:
    """The words for targets, if each is known and none asks for a folder twice.

    Raises:
        UsageError: naming what there is.
    """
    names = [to] if isinstance(to, str) else list(to)
    what = f"one or more of {', '.join([*GROUPS, *TARGET_NAMES])}"
    if not names:
        raise UsageError("there is no target to export to", what)
    wanted: list[str] = []
    for name in names:
        if name not in TARGET_NAMES and name not in GROUPS:
            raise UsageError(f"target {name!r} is not known", what)
        wanted += GROUPS.get(name, (name,))
    for name in names:
        if any(wanted.count(one) > 1 for one in GROUPS.get(name, (name,))):
            raise UsageError(
                f"target {name!r} is named twice",
                f"name each target once; hub is {', '.join(GROUPS['hub'])}",
            )
    return names
