"""Axes: where a value stands on the paper, and which values get a tick."""

from __future__ import annotations

import math
from dataclasses import dataclass

_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
_MAX_LOG_TICKS = 7


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps [low, high] to [start, end], linearly or by the logarithm.

    >>> Scale(0.0, 2.0, 100.0, 300.0)(0.5)
    150.0
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Position of ``value``."""
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        share = (value - low) / (high - low) if high > low else 0.5
        return self.start + share * (self.end - self.start)


def ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Round numbers that cover [low, high] in roughly ``about`` steps; the first and the last
    enclose it.

    >>> ticks(0.0, 0.57)
    [0.0, 0.2, 0.4, 0.6]
    """
    span = high - low or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / about))
    step = power * next(s for s in _STEPS if s * power * about >= span * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    digits = max(0, 2 - math.floor(math.log10(step)))
    return [round(i * step, digits) for i in range(first, max(last, first + 1) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Values 1, 2 and 5 times a power of ten inside [low, high], 0 < low <= high; fewer per power
    where the range is long.

    >>> log_ticks(90, 2100)
    [100.0, 200.0, 500.0, 1000.0, 2000.0]
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        marks = [factor * 10.0**power for power in powers for factor in factors]
        inside = [mark for mark in marks if low <= mark <= high]
        if len(inside) <= _MAX_LOG_TICKS:
            break
    return inside or [float(f"{math.sqrt(low * high):.2g}")]


def tick_text(value: float, all_ticks: list[float]) -> str:
    """A tick's number with the digits that its axis needs.

    >>> tick_text(0.5, [0.0, 0.25, 0.5]), tick_text(2000, [0, 2000])
    ('0.50', '2,000')
    """
    digits = next((d for d in range(6) if all(abs(round(t, d) - t) < 1e-9 for t in all_ticks)), 6)
    return f"{value:,.{digits}f}".replace("-", "\N{MINUS SIGN}")
