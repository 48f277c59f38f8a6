"""Rows that cannot be used, and the checks that find them."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any, TypeGuard

from leafkit.core.errors import LeafkitError
from leafkit.data.records import clean_text


class BadRows:
    """The policy for rows that cannot be used: stop at the first, or skip, count, stop at a cap.

    Args:
        policy: "stop" or "skip".
        max_bad_rows: the cap.
        counts: gets the number of rows skipped.
    """

    def __init__(self, policy: str, max_bad_rows: int, counts: Counter[str]) -> None:
        self._skip, self._cap, self._counts = policy == "skip", max_bad_rows, counts
        self._seen = 0

    def refuse(self, where: str, reason: str) -> None:
        """Record one bad row.

        Raises:
            LeafkitError: the policy is to stop, or the cap is reached.
        """
        self._seen += 1
        if not self._skip:
            raise LeafkitError(
                f"{where}: {reason}", "correct the row, or drop such rows with data.on_bad_row=skip"
            )
        if self._seen > self._cap:
            raise LeafkitError(
                f"{where}: {reason}; that is bad row number {self._seen}, more than "
                f"data.max_bad_rows={self._cap}",
                "correct the file or raise data.max_bad_rows",
            )
        self._counts["bad rows skipped"] += 1


def text_of(
    row: dict[str, Any], key: str, where: str, bad: BadRows, *, counts: Counter[str]
) -> str | None:
    """The cleaned text under a key of a row; None, and one bad row more, where there is none."""
    value = row.get(key)
    if not isinstance(value, str):
        bad.refuse(where, f"{key!r} is {'missing' if value is None else 'not text'}")
        return None
    text = clean_text(value, counts)
    if not text:
        bad.refuse(where, f"{key!r} is empty")
        return None
    return text


def is_number(value: Any) -> TypeGuard[float]:
    """A finite number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
