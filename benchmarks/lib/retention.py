"""What a student keeps of its teacher, with paired intervals over queries.

Shapes: Q queries of a collection.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from leafkit.evaluation.bootstrap import Bootstrap, interval, share
from leafkit.results import Interval

NUM_RESAMPLES, SEED = 10_000, 42
Values = Mapping[str, Sequence[float]]  # nDCG per query by collection


def mean_of_seeds(found: Sequence[Values]) -> dict[str, np.ndarray]:
    """(Q,) mean over seeds, by collection."""
    return {name: np.mean([np.asarray(one[name]) for one in found], axis=0) for name in found[0]}


class Retention:
    """Means over the same queries, and what is computed of them; collections count alike.

    Args:
        teacher: (Q,) nDCG per query by collection.
        names: of the collections that are averaged.
        num_resamples: of the bootstrap; ``NUM_RESAMPLES`` unless given.
    """

    def __init__(self, teacher: Values, names: Sequence[str], num_resamples: int = 0) -> None:
        self._names = list(names)
        self._teacher = {name: np.asarray(teacher[name], dtype=np.float64) for name in names}
        # collections are resampled apart, however many queries they share by number
        self._bootstraps = {
            name: Bootstrap(len(self._teacher[name]), num_resamples or NUM_RESAMPLES, SEED + i)
            for i, name in enumerate(names)
        }

    @property
    def num_queries(self) -> int:
        """Of all collections."""
        return sum(len(values) for values in self._teacher.values())

    def of(self, values: Values) -> Interval:
        """Share of the teacher's mean, averaged over collections."""
        kept = [self._kept(name, values[name], self._teacher[name]) for name in self._names]
        return self._average(kept)

    def resampled(self, values: Sequence[Values]) -> np.ndarray:
        """(R, S) shares of the teacher's mean of S systems, on the same resamples."""
        by_collection = [
            np.stack(
                [self._kept(name, one[name], self._teacher[name])[1] for one in values], axis=1
            )
            for name in self._names
        ]
        return np.asarray(np.mean(by_collection, axis=0))

    def difference(self, a: Values, b: Values) -> Interval:
        """What a keeps of the teacher minus what b keeps, on the same resamples."""
        gaps = []
        for name in self._names:
            of_a, kept_a = self._kept(name, a[name], self._teacher[name])
            of_b, kept_b = self._kept(name, b[name], self._teacher[name])
            gaps.append((of_a - of_b, kept_a - kept_b))
        return self._average(gaps)

    def _kept(
        self, name: str, values: Sequence[float], whole: np.ndarray
    ) -> tuple[float, np.ndarray]:
        """Ratio of the means, and its resampled values."""
        columns = np.stack([np.asarray(values, dtype=np.float64), whole], axis=1)
        means = self._bootstraps[name].means(columns)
        ratio = float(share(columns[:, 0].mean(), columns[:, 1].mean()))
        return ratio, np.asarray(share(means[:, 0], means[:, 1]))

    def _average(self, parts: Sequence[tuple[float, np.ndarray]]) -> Interval:
        estimate = float(np.mean([value for value, _ in parts]))
        resampled = np.mean([values for _, values in parts], axis=0)
        return interval(estimate, resampled, self.num_queries)


def points(found: Interval) -> str:
    """A difference of shares in percentage points.

    >>> points(Interval(0.012, -0.003, 0.027))
    '+1.2 [-0.3, +2.7]'
    """
    return f"{100 * found.value:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"


def verdict(found: Interval) -> str:
    """What a difference says.

    >>> verdict(Interval(0.02, 0.01, 0.03)), verdict(Interval(0.02, -0.01, 0.03))
    ('better', 'no difference')
    """
    if found.low > 0:
        return "better"
    return "worse" if found.high < 0 else "no difference"
