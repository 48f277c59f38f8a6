"""The law of a curve of retention over the number of texts, with what it promises beyond them.

Shapes: P points, R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from leafkit.evaluation.bootstrap import interval
from leafkit.results import Interval

FAR_TEXTS = 6_200_000  # what LEAF trained on (arXiv 2509.12539)
TARGETS = (0.85, 0.92, 0.97)


@dataclass(frozen=True)
class Law:
    """1 - retention = a n^-b through the points of a curve.

    Attributes:
        exponent: b.
        far: retention that it promises of ``FAR_TEXTS``.
        needed: texts for each target, (estimate, low, high); infinite where it never gets there.
        error: root mean square of what the points differ from it, a share.
    """

    exponent: Interval
    far: Interval
    needed: dict[float, tuple[float, float, float]]
    error: float


def fit_law(counts: Sequence[int], lost: np.ndarray, resampled: np.ndarray) -> Law:
    """Least squares of the logarithms.

    Args:
        counts: (P,) texts.
        lost: (P,) 1 - retention.
        resampled: (R, P) of the bootstrap over queries.
    """
    log_n = np.log(np.asarray(counts, dtype=np.float64))

    def solve(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        y = np.log(np.maximum(values, 1e-6))
        centred = log_n - log_n.mean()
        slope = (y - y.mean(-1, keepdims=True)) @ centred / (centred @ centred)
        return y.mean(-1) - slope * log_n.mean(), slope

    start, slope = solve(lost)
    starts, slopes = solve(resampled)

    def promised(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return 1 - np.exp(a + b * np.log(FAR_TEXTS))

    needed = {}
    for target in TARGETS:
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            each = np.where(slopes < 0, np.exp((np.log(1 - target) - starts) / slopes), np.inf)
            one = np.exp((np.log(1 - target) - start) / slope) if slope < 0 else np.inf
        # order statistics: between a number and infinity nothing can be interpolated
        ends = np.quantile(each, [0.025, 0.975], method="closest_observation")
        needed[target] = (float(one), float(ends[0]), float(ends[1]))
    told = 1 - np.exp(start + slope * log_n)
    error = float(np.sqrt(np.mean((told - (1 - lost)) ** 2)))
    return Law(
        interval(-slope, -slopes),
        interval(promised(start, slope), promised(starts, slopes)),
        needed,
        error,
    )
