"""Text in a card: what came from outside means nothing there."""

from __future__ import annotations

import re

_SPECIAL = re.compile(r"[\\`*_<>|#\[\]]")


def plain(value: object) -> str:
    """Text on one line in which Markdown and HTML mean nothing."""
    words = " ".join(str(value).split())
    return _SPECIAL.sub(r"\\\g<0>", "".join(c for c in words if c.isprintable()))


def fence(code: str, language: str = "") -> str:
    """A block of code, between more backticks than it holds."""
    longest = max((len(run) for run in re.findall("`+", code)), default=0)
    bars = "`" * max(3, longest + 1)
    return f"{bars}{language}\n{code}\n{bars}"
