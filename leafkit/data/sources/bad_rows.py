"""Rows that cannot be used, and the checks that find them."""

from __future__ import annotations

from collections import Counter
from typing import Any

from leafkit.core.errors import LeafkitError
from leafkit.data.records import clean_text
from leafkit.data.values import describe, is_nan

_NAN = "fields that are NaN read as empty"
_NUMBERS_AS_IDS = "ids that are numbers read as text"


class BadRows:
    """The policy for rows that cannot be used: stop at the first, or skip, count, stop at a cap.

    Args:
        policy: "stop" or "skip".
        max_bad_rows: the cap.
        counts: gets the number of rows skipped.
        num_before: of them that were skipped before reading was interrupted, under the same cap.
    """

    def __init__(
        self, policy: str, max_bad_rows: int, counts: Counter[str], num_before: int = 0
    ) -> None:
        self._skip, self._cap, self.counts = policy == "skip", max_bad_rows, counts
        self._seen = num_before

    def refuse(self, where: str, reason: str, hint: str = "") -> None:
        """Record one bad row.

        Raises:
            LeafkitError: the policy is to stop, or the cap is reached.
        """
        self._seen += 1
        if not self._skip:
            remedy = "correct the row, or drop such rows with data.on_bad_row=skip"
            raise LeafkitError(f"{where}: {reason}", f"{hint}; or {remedy}" if hint else remedy)
        if self._seen > self._cap:
            raise LeafkitError(
                f"{where}: {reason}; that is bad row number {self._seen}, more than "
                f"data.max_bad_rows={self._cap}",
                "correct the file or raise data.max_bad_rows",
            )
        self.counts["bad rows skipped"] += 1


def text_of(
    row: dict[str, Any], key: str, where: str, bad: BadRows, *, counts: Counter[str]
) -> str | None:
    """The cleaned text under a key of a row; None, and one bad row more, where there is none."""
    value = row.get(key)
    if not isinstance(value, str):
        what = "missing" if value is None else "NaN" if is_nan(value) else describe(value)
        bad.refuse(where, f"{key!r} is {what}")
        return None
    text = clean_text(value, counts)
    if not text:
        bad.refuse(where, f"{key!r} is empty")
        return None
    return text


def optional_text(
    row: dict[str, Any], key: str, where: str, bad: BadRows, *, counts: Counter[str]
) -> str | None:
    """The cleaned text under a key, "" where there is none; None, and one bad row more, where
    something else stands there.

    NaN, which pandas writes for a cell without a value, is no text and is counted.
    """
    value = row.get(key)
    if value is None or is_nan(value):
        counts[_NAN] += value is not None
        return ""
    if not isinstance(value, str):
        bad.refuse(where, f"{key!r} is {describe(value)}")
        return None
    return clean_text(value, counts)


def id_of(
    row: dict[str, Any], key: str, where: str, bad: BadRows, *, counts: Counter[str]
) -> str | None:
    """The id under a key, "" where there is none; None, and one bad row more, where something else
    than text or a whole number stands there. Numbers become text, and are counted.
    """
    value = row.get(key)
    if value is None or is_nan(value):
        counts[_NAN] += value is not None
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        counts[_NUMBERS_AS_IDS] += 1
        return str(value)
    if not isinstance(value, str):
        what = describe(value).removeprefix("not text but ")
        bad.refuse(where, f"{key!r} is {what}, neither text nor a whole number")
        return None
    return clean_text(value, counts)
