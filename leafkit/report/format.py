"""Numbers and texts in words: what page, comparison, card and console print."""

from __future__ import annotations

import json
import math
import re
import textwrap
from collections.abc import Iterator, Mapping
from typing import TypeGuard

from leafkit.results import Interval

MISSING = "n/a"
SIGNIFICANT = 0.05  # p of a difference that is said to be more than noise is below
_PRINTED_DIGITS = 3  # of scores, of differences, and of shares in percent
_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffe\uffff]")
_SIGNED_ZERO = re.compile(r"[-+](?=0\.000(?!\d))")


def clean(value: object) -> str:
    """Text that can be written as UTF-8 and as XML: lone surrogates become "?", control characters
    go.
    """
    return _CONTROLS.sub("", str(value).encode("utf-8", "replace").decode("utf-8"))


def shorten(text: str, letters: int) -> str:
    """Text on one line, cut between words where it is longer than ``letters``.

    >>> shorten("how do  I", 20), len(shorten("invert a matrix", 10))
    ('how do I', 10)
    """
    head = text[: 4 * letters]  # cleaning is slow for whole documents, and white space may go
    return textwrap.shorten(clean(head), letters, placeholder=" \N{HORIZONTAL ELLIPSIS}")


def is_known(value: float | None) -> TypeGuard[float]:
    """Whether ``value`` is a finite number; undefined figures are None or NaN."""
    return value is not None and math.isfinite(value)


def decimal(value: float | None, digits: int = 3) -> str:
    """A number with fixed digits, or "n/a"."""
    return f"{value:.{digits}f}" if is_known(value) else MISSING


def percent(value: float | None) -> str:
    """A share as a percentage with one digit.

    >>> percent(0.985)
    '98.5%'
    """
    return f"{value:.1%}" if is_known(value) else MISSING


def round_percent(share: float) -> str:
    """A share as a percentage without digits, or in two where it is small.

    >>> round_percent(0.386), round_percent(0.0034)
    ('39%', '0.34%')
    """
    return f"{share:.0%}" if share >= 0.01 else f"{100 * share:.2g}%"


def grouped(value: float | None, digits: int = 0) -> str:
    """A number with thousands separators in at most so many decimals, or "n/a".

    >>> grouped(3072.0, 1), grouped(48.25, 1), grouped(10812.6)
    ('3,072', '48.2', '10,813')
    """
    if not is_known(value):
        return MISSING
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if digits else text


def short_count(value: float | None) -> str:
    """A large count in three significant digits.

    >>> short_count(59281920), short_count(7.1e7), short_count(640)
    ('59.3M', '71.0M', '640')
    """
    if not is_known(value):
        return MISSING
    for size, unit in _UNITS:
        if value >= size:
            scaled = value / size
            return f"{scaled:.{max(0, 2 - int(math.log10(scaled)))}f}{unit}"
    return f"{value:.0f}"


def duration(seconds: float) -> str:
    """Seconds for people.

    >>> duration(14.2), duration(332), duration(7384)
    ('14.2 s', '5 min 32 s', '2 h 3 min')
    """
    if not is_known(seconds):
        return MISSING
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def interval(cell: Interval | None) -> str:
    """A score with its 95% interval, or "n/a".

    >>> interval(Interval(0.5731, 0.551, 0.596))
    '0.573 [0.551, 0.596]'
    """
    return str(cell) if cell is not None and is_known(cell.value) else MISSING


def percent_interval(cell: Interval | None) -> str:
    """A share with its 95% interval, in percent.

    >>> percent_interval(Interval(0.985, 0.97, 1.0))
    '98.5% [97.0, 100.0]'
    """
    return cell.percent() if cell is not None and is_known(cell.value) else MISSING


def signed_interval(cell: Interval | None) -> str:
    """A difference with its 95% interval, all three with their sign.

    >>> signed_interval(Interval(-0.0001, -0.01, 0.002))
    '0.000 [-0.010, +0.002]'
    """
    if cell is None or not is_known(cell.value):
        return MISSING
    return _SIGNED_ZERO.sub("", cell.signed())


def p_value(value: float | None) -> str:
    """A p value in three digits; "" where no test was made.

    >>> p_value(0.0421), p_value(1e-4), p_value(None)
    ('0.042', '<0.001', '')
    """
    if value is None:
        return ""
    return "<0.001" if value < 0.001 else decimal(value)


def noise_verdict(cell: Interval, p: float | None = None) -> str:
    """What a difference allows one to say: within noise, higher or lower.

    It is more than noise where its 95% interval, as it is printed, lies beside 0 and its p, where a
    test was made, is below ``SIGNIFICANT``.

    >>> noise_verdict(Interval(-0.01, -0.02, -0.001)), noise_verdict(Interval(-0.01, -0.02, -4e-4))
    ('lower', 'within noise')
    >>> noise_verdict(Interval(-0.01, -0.02, -0.001), p=0.056)
    'within noise'
    """
    return {-1: "lower", 0: "within noise", 1: "higher", None: "no interval"}[_side(cell, 0.0, p)]


def verdict_against_teacher(retention: Interval, p: float | None = None) -> str:
    """The same for a share of the teacher's score, which is 1 where nothing is lost; ``p`` of the
    difference.
    """
    words = {-1: "below the teacher", 0: "within noise of the teacher", 1: "above the teacher"}
    side = _side(retention, 1.0, p)
    return "" if side is None else words[side]


def _side(cell: Interval, value: float, p: float | None) -> int | None:
    """On which side of a value an interval lies, 0 for neither; None where it has no bounds."""
    if not is_known(cell.low) or not is_known(cell.high):
        return None
    low, high = round(cell.low, _PRINTED_DIGITS), round(cell.high, _PRINTED_DIGITS)
    if low <= value <= high or (p is not None and p >= SIGNIFICANT):
        return 0
    return 1 if low > value else -1


def flatten(value: object, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Leaves of nested mappings as the ``key=value`` pairs that the command line takes."""
    if isinstance(value, Mapping) and value:
        for key, child in value.items():
            yield from flatten(child, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, str) and value.isprintable():
        yield prefix, value
    else:
        yield prefix, json.dumps(value, ensure_ascii=False, default=str)
