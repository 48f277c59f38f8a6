"""Paired bootstrap intervals: how far a mean, a difference or a ratio would move with other
queries.

Shapes: n queries, R resamples, S systems (columns of values).

R times n queries are drawn with replacement and the means are taken over those drawn (Efron,
"Bootstrap methods: another look at the jackknife", 1979; for retrieval Sakai, SIGIR 2006); the
interval is the middle 95% of the R means. A mean over a resample is (counts @ values) / n, where
counts says how often each query was drawn, so that all systems share one resample, which is what
pairs them.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from leafkit.results import Interval

Name = TypeVar("Name", bound=Hashable)

_CHUNK = 256  # resamples that one seeded generator draws
# counts are kept for the next call up to this size (10,000 x 10,000 fits), and drawn again above
_HELD_BYTES = 2**27


@dataclass(frozen=True, slots=True)
class Draws(Generic[Name]):
    """Estimates of several systems and their resampled values, drawn together so that they can be
    compared.

    Attributes:
        estimates: by name.
        resampled: by name, (R,).
        n: queries (or rows) that were resampled.
    """

    estimates: Mapping[Name, float]
    resampled: Mapping[Name, np.ndarray]
    n: int

    def mean(self, name: Name) -> Interval:
        """Interval of one system's estimate."""
        return interval(self.estimates[name], self.resampled[name], self.n)

    def difference(self, a: Name, b: Name) -> Interval:
        """Interval of a - b."""
        return interval(
            self.estimates[a] - self.estimates[b], self.resampled[a] - self.resampled[b], self.n
        )

    def ratio(self, a: Name, b: Name) -> Interval:
        """Interval of a / b; 0 where b is 0."""
        return interval(
            share(self.estimates[a], self.estimates[b]),
            share(self.resampled[a], self.resampled[b]),
            self.n,
        )


class Bootstrap:
    """Resampled means of several systems over the same queries: pairing comes from using the same
    resamples.

    Resamples are drawn in chunks of ``_CHUNK`` by generators seeded with (seed, number of the
    chunk), so that they do not depend on the memory there is: at most ``_HELD_BYTES`` of counts are
    kept for the next call, and beside them one chunk.

    Args:
        num_queries: n.
        num_resamples: R.
        seed: of the draws.

    Raises:
        ValueError: no query or no resample.
    """

    def __init__(self, num_queries: int, num_resamples: int, seed: int) -> None:
        if num_queries < 1 or num_resamples < 1:
            raise ValueError(f"{num_resamples} resamples of {num_queries} queries")
        self.num_queries, self.num_resamples = num_queries, num_resamples
        self._seed = seed
        # one query is not drawn 255 times of 255 and more
        self._dtype = np.uint8 if num_queries > 255 else np.uint16
        self._is_held = num_queries * num_resamples * np.dtype(self._dtype).itemsize <= _HELD_BYTES
        self._held: list[np.ndarray] = []

    def means(self, values: np.ndarray) -> np.ndarray:
        """Resampled means. ``values`` (n, S) -> (R, S) float64."""
        if values.ndim != 2 or len(values) != self.num_queries:
            raise ValueError(f"values of shape {values.shape} for {self.num_queries} queries")
        columns = np.ascontiguousarray(values, dtype=np.float64)
        return (
            np.concatenate([counts.astype(np.float64) @ columns for counts in self._counts()])
            / self.num_queries
        )

    def draws(self, values: Mapping[Name, np.ndarray]) -> Draws[Name]:
        """Estimates and resampled means of several systems at once; ``values`` (n,) by name."""
        stacked = np.stack(list(values.values()), axis=1)
        estimates = dict(zip(values, stacked.mean(axis=0).tolist(), strict=True))
        resampled = dict(zip(values, self.means(stacked).T, strict=True))
        return Draws(estimates, resampled, self.num_queries)

    def mean(self, values: np.ndarray) -> Interval:
        """Interval of one system's mean; ``values`` (n,)."""
        return interval(float(values.mean()), self.means(values[:, None])[:, 0], self.num_queries)

    def difference(self, a: np.ndarray, b: np.ndarray) -> Interval:
        """Interval of mean(a) - mean(b), both (n,)."""
        resampled = self.means((a - b)[:, None])[:, 0]
        return interval(float(a.mean() - b.mean()), resampled, self.num_queries)

    def ratio(self, a: np.ndarray, b: np.ndarray) -> Interval:
        """Interval of mean(a) / mean(b), both (n,); 0 where mean(b) is 0."""
        means = self.means(np.stack([a, b], axis=1))
        kept = share(means[:, 0], means[:, 1])
        return interval(share(a.mean(), b.mean()), kept, self.num_queries)

    def ratio_gap(
        self, a: np.ndarray, a_base: np.ndarray, b: np.ndarray, b_base: np.ndarray
    ) -> Interval:
        """Interval of mean(a)/mean(a_base) - mean(b)/mean(b_base): what a loses less than b, all
        (n,).
        """
        means = self.means(np.stack([a, a_base, b, b_base], axis=1))
        gap = share(a.mean(), a_base.mean()) - share(b.mean(), b_base.mean())
        resampled = share(means[:, 0], means[:, 1]) - share(means[:, 2], means[:, 3])
        return interval(gap, resampled, self.num_queries)

    def _counts(self) -> Iterator[np.ndarray]:
        """Chunks of (rows, n) counts, from memory where they are kept."""
        if self._held:
            yield from self._held
            return
        drawn = (self._draw(chunk) for chunk in range(-(-self.num_resamples // _CHUNK)))
        if self._is_held:
            self._held = list(drawn)
        yield from self._held or drawn

    def _draw(self, chunk: int) -> np.ndarray:
        """(rows, n) how often each query was drawn in the resamples of a chunk."""
        rows = min(_CHUNK, self.num_resamples - chunk * _CHUNK)
        generator = np.random.default_rng([self._seed, chunk])
        counts = np.empty((rows, self.num_queries), dtype=self._dtype)
        for row in counts:  # one resample at a time stays in the processor's cache
            # bincount's own type
            drawn = generator.integers(self.num_queries, size=self.num_queries, dtype=np.int64)
            row[:] = np.bincount(drawn, minlength=self.num_queries)
        return counts


def share(part: np.ndarray | float, whole: np.ndarray | float) -> np.ndarray | float:
    """part / whole; 0 where whole is 0."""
    return np.divide(
        part, whole, out=np.zeros_like(np.asarray(part, dtype=float)), where=np.asarray(whole) != 0
    )


def interval(
    estimate: np.ndarray | float, resampled: np.ndarray | float, n: int | None = None
) -> Interval:
    """The estimate with the middle 95% of its resampled values; ``n`` queries were resampled."""
    low, high = np.quantile(resampled, [0.025, 0.975])
    return Interval(float(estimate), float(low), float(high), n)
