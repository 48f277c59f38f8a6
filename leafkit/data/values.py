"""What stands where a text or a number belongs."""

from __future__ import annotations

import math
from typing import Any, TypeAlias, TypeGuard

Row: TypeAlias = dict[str, Any]  # as it was read: anything may stand under a name
_MAX_SHOWN = 40  # characters of a wrong value in a message
_KINDS = {
    bool: "true or false",
    int: "a number",
    float: "a number",
    list: "a list",
    dict: "an object",
}


def describe(value: object) -> str:
    """What stands where a text belongs.

    >>> describe([1]), describe(True)
    ('not text but a list: [1]', 'not text but true or false: True')
    """
    shown = ascii(value)
    shown = shown if len(shown) <= _MAX_SHOWN else f"{shown[:_MAX_SHOWN]}..."
    kind = _KINDS.get(type(value), type(value).__name__)
    return f"not text but {kind}: {shown}"


def is_nan(value: object) -> bool:
    """Not a number, as JSON written by Python has it for a missing cell."""
    return isinstance(value, float) and math.isnan(value)


def is_number(value: Any) -> TypeGuard[float]:
    """A finite number; true and false are none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond the floats
        return False
