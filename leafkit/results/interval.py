"""An estimate with its uncertainty, and a paired difference of two systems."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its 95% bootstrap interval.

    Attributes:
        value: the estimate.
        low: 2.5% quantile of its resampled values.
        high: 97.5% quantile.
        n: how many queries (or rows, or pairs) were resampled; None where that was not recorded.

    >>> print(Interval(0.5731, 0.551, 0.596, 320))
    0.573 [0.551, 0.596]
    """

    value: float
    low: float
    high: float
    n: int | None = None

    def __str__(self) -> str:
        """Three digits, the bounds in brackets."""
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def percent(self) -> str:
        """The same as a percentage.

        >>> Interval(0.985, 0.97, 1.0).percent()
        '98.5% [97.0, 100.0]'
        """
        return f"{self.value:.1%} [{100 * self.low:.1f}, {100 * self.high:.1f}]"

    def signed(self) -> str:
        """The same with signs, for a difference.

        >>> Interval(-0.004, -0.01, 0.002).signed()
        '-0.004 [-0.010, +0.002]'
        """
        return f"{self.value:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"

    def contains(self, value: float) -> bool:
        """Whether ``value`` lies between the bounds."""
        return self.low <= value <= self.high


@dataclass(frozen=True, slots=True)
class Difference:
    """System ``a`` minus system ``b`` on the same queries.

    Attributes:
        a: name of a system.
        b: name of the one that is subtracted.
        metric: of the two.
        interval: paired, of a - b.
        p: of the paired randomisation test, two-sided; None where none was made.
    """

    a: str
    b: str
    metric: str
    interval: Interval
    p: float | None = None

    @property
    def label(self) -> str:
        """What is subtracted from what."""
        return f"{self.a} - {self.b}"
