"""What is wrong with a recipe, in one message that is read rather than scrolled past."""

from __future__ import annotations

from collections.abc import Sequence

KNOWN = "known here: "  # what a section has, after an unknown key without a near one

_MAX_LINE = 800  # characters
_MAX_LINES = 30  # shown at once


def tell_mistakes(recipe: str, problems: Sequence[str]) -> str:
    """All of a recipe's mistakes, a line each; each of them, and the keys of a section, once."""
    told = list(dict.fromkeys(problems))
    known: set[str] = set()
    lines = []
    for problem in told[:_MAX_LINES]:
        what, _, keys = problem.partition(KNOWN)
        if keys in known:
            problem = f"{what}{KNOWN}as above"
        if keys:
            known.add(keys)
        lines.append(f"  {_cut(problem)}")
    if len(told) > _MAX_LINES:
        lines.append(f"  ... and {len(told) - _MAX_LINES} more")
    return "\n".join([f"recipe {recipe} has {len(told)} mistake(s):", *lines])


def _cut(line: str) -> str:
    return line if len(line) <= _MAX_LINE else f"{line[:_MAX_LINE]} ..."
