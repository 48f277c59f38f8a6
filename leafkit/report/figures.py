"""Putting numbers into words; the HTML report, the comparison, the card and the console all use it.

Every function here bears undefined figures: JSON carries them as null or NaN.
"""

from __future__ import annotations

import json
import math
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeGuard

MISSING = "n/a"
_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_SMALLEST_P = 0.001
_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffe\uffff]")


def clean(value: object) -> str:
    """Text that can be written as UTF-8 and as XML: lone surrogates become "?", control characters
    go.
    """
    return _CONTROLS.sub("", str(value).encode("utf-8", "replace").decode("utf-8"))


def shorten(text: object, letters: int) -> str:
    """Text on one line, cut between words where it is longer than ``letters``.

    >>> shorten("how do  I", 20), len(shorten("invert a matrix", 10))
    ('how do I', 10)
    """
    head = str(text)[: 4 * letters]  # cleaning is slow for whole documents, and white space may go
    return textwrap.shorten(clean(head), letters, placeholder=" \N{HORIZONTAL ELLIPSIS}")


def is_number(value: object) -> TypeGuard[float]:
    """Whether ``value`` is a finite number; JSON carries undefined figures as null or NaN."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def decimal(value: object, digits: int = 3) -> str:
    """A number with fixed digits, or "n/a"."""
    return f"{value:.{digits}f}" if is_number(value) else MISSING


def percent(value: object) -> str:
    """A share as a percentage with one digit.

    >>> percent(0.985)
    '98.5%'
    """
    return f"{value:.1%}" if is_number(value) else MISSING


def grouped(value: object) -> str:
    """A count with thousands separators, or "n/a"."""
    return f"{value:,}" if is_number(value) else MISSING


def grouped_to(value: object, digits: int) -> str:
    """A number with thousands separators in at most so many decimals, or "n/a".

    >>> grouped_to(3072.0, 1), grouped_to(48.25, 1), grouped_to(10812.6, 0)
    ('3,072', '48.2', '10,813')
    """
    if not is_number(value):
        return MISSING
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if digits else text


def short_count(value: Any) -> str:
    """A large count in three significant digits.

    >>> short_count(59281920), short_count(7.1e7), short_count(640)
    ('59.3M', '71.0M', '640')
    """
    if not is_number(value):
        return MISSING
    for size, unit in _UNITS:
        if value >= size:
            scaled = value / size
            return f"{scaled:.{max(0, 2 - int(math.log10(scaled)))}f}{unit}"
    return f"{value:.0f}"


def duration(seconds: Any) -> str:
    """Seconds for people.

    >>> duration(14.2), duration(332), duration(7384)
    ('14.2 s', '5 min 32 s', '2 h 3 min')
    """
    if not is_number(seconds):
        return MISSING
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def has_interval(cell: Any) -> bool:
    """Whether ``cell`` holds finite ``low`` and ``high``."""
    return isinstance(cell, Mapping) and is_number(cell.get("low")) and is_number(cell.get("high"))


def interval(cell: Any) -> str:
    """A score with its 95% interval.

    >>> interval({"mean": 0.5731, "low": 0.551, "high": 0.596})
    '0.573 [0.551, 0.596]'
    """
    if not isinstance(cell, Mapping) or not is_number(cell.get("mean")):
        return MISSING
    return decimal(cell["mean"]) + (
        f" [{decimal(cell['low'])}, {decimal(cell['high'])}]" if has_interval(cell) else ""
    )


def signed_interval(cell: Any, value: str = "mean") -> str:
    """A difference with its 95% interval, all three with their sign; ``value`` names the key of the
    estimate.

    >>> signed_interval({"mean": -0.004, "low": -0.01, "high": 0.002})
    '-0.004 [-0.010, +0.002]'
    """
    if not isinstance(cell, Mapping) or not is_number(cell.get(value)):
        return MISSING
    return _signed(cell[value]) + (
        f" [{_signed(cell['low'])}, {_signed(cell['high'])}]" if has_interval(cell) else ""
    )


def percent_interval(cell: Any) -> str:
    """A share with its 95% interval, in percent.

    >>> percent_interval({"mean": 0.985, "low": 0.97, "high": 1.0})
    '98.5% [97.0, 100.0]'
    """
    if not isinstance(cell, Mapping) or not is_number(cell.get("mean")):
        return MISSING
    return percent(cell["mean"]) + (
        f" [{cell['low']:.1%}, {cell['high']:.1%}]".replace("%", "") if has_interval(cell) else ""
    )


def _signed(value: float) -> str:
    text = f"{value:+.3f}"
    return "0.000" if float(text) == 0 else text


def p_value(row: Mapping[str, Any]) -> str:
    """The p value of a row in three digits; "" where no test was made.

    >>> p_value({"p": 0.0421}), p_value({"p": 1e-4}), p_value({})
    ('0.042', '<0.001', '')
    """
    if "p" not in row:
        return ""
    value = row["p"]
    return "<0.001" if is_number(value) and value < _SMALLEST_P else decimal(value)


def bounded(row: Mapping[str, Any], value: str) -> dict[str, Any] | None:
    """The estimate of that name as a cell, with the bounds NAME_low and NAME_high where they are
    numbers.

    >>> bounded({"kept": 0.9, "kept_low": 0.8, "kept_high": 1.0}, "kept")
    {'mean': 0.9, 'low': 0.8, 'high': 1.0}
    """
    if not is_number(row.get(value)):
        return None
    bounds = {
        end: row[f"{value}_{end}"]
        for end in ("low", "high")
        if is_number(row.get(f"{value}_{end}"))
    }
    return {"mean": row[value], **bounds}


def noise_verdict(cell: Any) -> str:
    """What a difference's 95% interval allows one to say: within noise, higher or lower."""
    if not has_interval(cell):
        return "no interval"
    if cell["low"] > 0:
        return "higher"
    return "lower" if cell["high"] < 0 else "within noise"


def verdict_against_teacher(retention: Any) -> str:
    """The same for a share of the teacher's score, which is 1 where nothing is lost."""
    if not has_interval(retention):
        return ""
    if retention["low"] > 1:
        return "above the teacher"
    return "below the teacher" if retention["high"] < 1 else "within noise of the teacher"


def flatten(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Leaves of nested mappings as the ``key=value`` pairs that the command line takes."""
    if isinstance(value, Mapping) and value:
        for key, child in value.items():
            yield from flatten(child, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, str) and value.isprintable():
        yield prefix, value
    else:
        yield prefix, json.dumps(value, ensure_ascii=False, default=str)


def by_name(rows: Iterable[Mapping[str, Any]], key: str) -> dict[str, list[Mapping[str, Any]]]:
    """The rows by the name that they have under ``key``, "?" where they have none, in order of
    appearance.
    """
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault(str(row.get(key, "?")), []).append(row)
    return found


def values_of(rows: Sequence[Mapping[str, Any]], key: str) -> list[Any]:
    """Distinct values of ``key`` over the rows, in order of appearance."""
    return list(dict.fromkeys(row[key] for row in rows if key in row))
