"""Paired bootstrap intervals: how far a mean, a difference or a ratio would move with other queries."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

_CHUNK = 500  # resamples counted at a time, so that memory stays flat in their number


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its 95% interval."""

    mean: float
    low: float
    high: float

    def to_plain(self) -> dict[str, float]:
        """As a dict of numbers."""
        return asdict(self)


class Bootstrap:
    """Resampled means of several systems over the same queries: pairing comes from using the same resamples.

    Args:
        num_queries: n.
        num_resamples: how many times n queries are drawn with replacement.
        seed: of the draws.
    """

    def __init__(self, num_queries: int, num_resamples: int, seed: int) -> None:
        generator = np.random.default_rng(seed)
        self._counts = np.empty((num_resamples, num_queries), dtype=np.uint8)  # how often each query was drawn
        for start in range(0, num_resamples, _CHUNK):
            rows = min(_CHUNK, num_resamples - start)
            drawn = generator.integers(num_queries, size=(rows, num_queries), dtype=np.int64)
            drawn += np.arange(rows)[:, None] * num_queries
            counts = np.bincount(drawn.ravel(), minlength=rows * num_queries)
            self._counts[start : start + rows] = counts.reshape(rows, num_queries)

    def means(self, values: np.ndarray) -> np.ndarray:
        """Resampled means. ``values`` (n, systems) -> (num_resamples, systems)."""
        num_resamples, num_queries = self._counts.shape
        out = np.empty((num_resamples, values.shape[1]))
        for start in range(0, num_resamples, _CHUNK):
            out[start : start + _CHUNK] = self._counts[start : start + _CHUNK].astype(np.float64) @ values / num_queries
        return out

    def mean(self, values: np.ndarray) -> Interval:
        """Interval of one system's mean; ``values`` (n,)."""
        return _interval(float(values.mean()), self.means(values[:, None])[:, 0])

    def difference(self, a: np.ndarray, b: np.ndarray) -> Interval:
        """Interval of mean(a) - mean(b), both (n,)."""
        return _interval(float(a.mean() - b.mean()), self.means((a - b)[:, None])[:, 0])

    def ratio(self, a: np.ndarray, b: np.ndarray) -> Interval:
        """Interval of mean(a) / mean(b), both (n,)."""
        means = self.means(np.stack([a, b], axis=1))
        return _interval(_share(a.mean(), b.mean()), _share(means[:, 0], means[:, 1]))

    def ratio_gap(self, a: np.ndarray, a_base: np.ndarray, b: np.ndarray, b_base: np.ndarray) -> Interval:
        """Interval of mean(a)/mean(a_base) - mean(b)/mean(b_base): what a loses less than b, all (n,)."""
        means = self.means(np.stack([a, a_base, b, b_base], axis=1))
        gap = _share(a.mean(), a_base.mean()) - _share(b.mean(), b_base.mean())
        return _interval(gap, _share(means[:, 0], means[:, 1]) - _share(means[:, 2], means[:, 3]))


def _share(part: np.ndarray | float, whole: np.ndarray | float) -> np.ndarray | float:
    return np.divide(part, whole, out=np.zeros_like(np.asarray(part, dtype=float)), where=np.asarray(whole) != 0)


def _interval(estimate: np.ndarray | float, resampled: np.ndarray | float) -> Interval:
    low, high = np.quantile(resampled, [0.025, 0.975])
    return Interval(float(estimate), float(low), float(high))
