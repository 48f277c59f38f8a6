"""From a probe's figures to a share of the teacher's nDCG@10, by finished runs.

A ridge regression of the logit of the share that a run kept, of ``CEILING``, on the logits of its
probe's figures, with an offset for students that were trained. Its error is that of corpora that
were left out whole, and the interval Student's, with a degree of freedom for each corpus but one:
runs on one corpus share its queries, and are no independent witnesses. Scale and figures were
chosen by what corpora that are left out of the shipped table get from the others, their outcomes
known: see docs/predict.md.

The ceiling is there for runs that kept more than all by the chance of their queries. What is
expected ends at 100%, where the slope would go on: a student that finds all that its teacher finds
keeps all of it. Of corpora that are left out of the shipped table the errors are the same with this
bound as without it, and larger where figures themselves end at the table's.

Shapes: R runs, F features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from leafkit.core.errors import LeafkitError
from leafkit.results import FinishedRun, FinishedRuns, Forecast, ProbeFigures
from leafkit.results.codec import read_json
from leafkit.results.prediction import DOCUMENTS_ALONE, GIVEN_QUERIES, MADE_QUERIES, TRAINED

TABLE_FILE = "finished_runs.json"
FEATURES = {
    MADE_QUERIES: ("query_overlap", "document_cosine"),
    GIVEN_QUERIES: ("query_overlap", "document_cosine"),
    DOCUMENTS_ALONE: ("document_overlap", "document_cosine"),
}
_RIDGE = 0.1  # runs that say "no slope", of R
CEILING = 1.25  # of a share: no run of the shipped table kept more than 1.05
WHOLE = float(np.log(1 / (CEILING - 1)))  # logit of 100%
SMALLEST_SHARE = 1e-3  # and as far below the ceiling
SMALLEST = 0.01  # of a figure, and of what it lacks of 1
_FEWEST_CORPORA = 2
_MARGIN = 0.02  # beyond the table's range, in units of a figure, that is still inside
_FARTHER = 1.1  # times the table's growth, likewise
# 95% quantiles of Student's t, for a 90% interval, of 1 to 12 degrees of freedom
T95 = (6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833, 1.812, 1.796, 1.782)
# of a figure that is outside
_WORDS = {
    "query_overlap": "the neighbors of queries",
    "document_overlap": "the neighbors of documents",
    "document_cosine": "the cosine of documents",
}


@lru_cache(maxsize=1)
def shipped_runs() -> tuple[FinishedRun, ...]:
    """The table in the package.

    Raises:
        LeafkitError: it is damaged.
    """
    path = Path(__file__).with_name(TABLE_FILE)
    return FinishedRuns.from_json(read_json(path, FinishedRuns.made_by), str(path)).runs


@dataclass(frozen=True, slots=True)
class Calibration:
    """A fitted regression.

    Attributes:
        features: names of the figures, F.
        mean: (F + 1,) of the features, the last one of the offset.
        weight: (F + 1,) of centred features.
        base: mean of the logits of the shares.
        spread: (F + 1, F + 1) inverse of the penalised products: leverage.
        error: standard deviation of corpora left out, of the logit.
        trained_error: that of students that took steps, never less.
        freedom: degrees of freedom.
        low: (F,) smallest value of each figure in the table.
        high: (F,) largest.
        corpora: of the runs.
        num_runs: R.
        has_trained: whether some of them took steps.
        growth: most texts that a student of them was fitted to, in times of its largest probe's.
        trained_growth: likewise, of those that took steps; 0 where none did.
    """

    features: tuple[str, ...]
    mean: np.ndarray
    weight: np.ndarray
    base: float
    spread: np.ndarray
    error: float
    trained_error: float
    freedom: int
    low: np.ndarray
    high: np.ndarray
    corpora: tuple[str, ...]
    num_runs: int
    has_trained: bool
    growth: float
    trained_growth: float

    def forecast(
        self, figures: ProbeFigures, *, growth: float = 1.0, is_trained: bool = False
    ) -> Forecast:
        """The share that a student of such figures keeps, 1 at most, in an interval between 0 and
        ``CEILING``.

        Args:
            figures: measured, or expected of more texts.
            growth: texts that they are expected of, in times of the largest probe's. More than any
                finished run had is told as outside; the interval stays, for no run says how far off
                such figures are.
            is_trained: the student took steps.

        Raises:
            ValueError: a figure is not known, or no finished run was trained.
        """
        if is_trained and not self.has_trained:
            raise ValueError("no finished run was trained")
        values = figures_of(figures, self.features)
        x = np.append(to_logit(values, 1.0, SMALLEST), float(is_trained)) - self.mean
        center = self.base + float(x @ self.weight)
        if center > WHOLE:  # where the slope ends, its own error ends: leverage is that of there
            by_figures = float(x[:-1] @ self.weight[:-1])
            if by_figures > 0:
                x[:-1] *= max(0.0, 1 - (center - WHOLE) / by_figures)
            center = WHOLE
        leverage = float(x @ self.spread @ x)
        far = np.maximum(self.low - _MARGIN - values, values - self.high - _MARGIN).clip(min=0)
        outside = [_WORDS[name] for name, by in zip(self.features, far, strict=True) if by > 0]
        known = self.trained_growth if is_trained else self.growth
        if growth > _FARTHER * known:
            outside.append(
                f"{growth:,.1f} times the texts of the largest probe (finished runs: {known:.1f})"
            )
        width = np.maximum(self.high - self.low, _MARGIN)
        stretch = 1 + float((far / width).max())  # as far again as the table is wide: twice
        error = (self.trained_error if is_trained else self.error) * stretch
        # the errors hold leverage already, and would do without while the figures are those that
        # all outcomes chose; where the choice is made anew, they cover too little: docs/predict.md
        error *= float(np.sqrt(1 + leverage))
        reach = T95[min(self.freedom, len(T95)) - 1] * error
        return Forecast(
            min(1.0, share_of_logit(center)),  # a target of 1 is reached, whatever rounding does
            share_of_logit(center - reach),
            share_of_logit(center + reach),
            ", ".join(outside),
        )


def calibrate(runs: Sequence[FinishedRun], asked_with: str) -> Calibration:
    """Fit the regression.

    Args:
        runs: of at least two corpora.
        asked_with: a key of ``FEATURES``: which figures of a probe are known.

    Raises:
        LeafkitError: the runs are of fewer corpora.
    """
    features = FEATURES[asked_with]
    corpora = tuple(dict.fromkeys(run.corpus for run in runs))
    if len(corpora) < _FEWEST_CORPORA:
        raise LeafkitError(
            f"the finished runs are of {len(corpora)} corpora: no telling how another one differs"
        )
    raw = np.stack([figures_of(run.probe, features) for run in runs])
    trained = np.array([run.kind == TRAINED for run in runs], dtype=np.float64)
    x = np.column_stack([to_logit(raw, 1.0, SMALLEST), trained])
    shares = np.array([run.outcome.value for run in runs], dtype=np.float64)
    y = to_logit(shares, CEILING, SMALLEST_SHARE)
    groups = np.array([corpora.index(run.corpus) for run in runs])
    # every corpus counts alike, however many runs there are of it
    counts = np.bincount(groups)
    weights = len(runs) / len(corpora) / counts[groups]
    errors = np.zeros(len(runs))
    for group in range(len(corpora)):
        rest = groups != group
        mean, weight, base, _ = solve_ridge(x[rest], y[rest], weights[rest])
        errors[~rest] = y[~rest] - base - (x[~rest] - mean) @ weight
    mean, weight, base, spread = solve_ridge(x, y, weights)
    error = float(np.sqrt(np.average(errors**2, weights=weights)))
    took_steps = trained > 0
    growths = np.array([run.num_texts / run.num_probed for run in runs])
    of_trained = float(np.sqrt(np.mean(errors[took_steps] ** 2))) if took_steps.any() else 0.0
    return Calibration(
        features=features,
        mean=mean,
        weight=weight,
        base=base,
        # runs on one corpus are one witness
        spread=spread * len(runs) / len(corpora),
        error=error,
        trained_error=max(error, of_trained),
        freedom=len(corpora) - 1,
        low=raw.min(axis=0),
        high=raw.max(axis=0),
        corpora=corpora,
        num_runs=len(runs),
        has_trained=bool(took_steps.any()),
        growth=float(growths[~took_steps].max(initial=0.0)),
        trained_growth=float(growths[took_steps].max(initial=0.0)),
    )


def solve_ridge(
    x: np.ndarray, y: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float, np.ndarray]:
    """Weighted ridge regression: (F,) mean of x, (F,) slopes, mean of y, and the (F, F) inverse of
    the penalised products.

    Args:
        x: (R, F).
        y: (R,).
        weights: (R,) of the runs.
    """
    mean, base = np.average(x, axis=0, weights=weights), float(np.average(y, weights=weights))
    centered = x - mean
    products = (centered * weights[:, None]).T @ centered
    scale = np.trace(products) / len(products) or 1.0
    inverse = np.linalg.inv(products + _RIDGE / len(x) * scale * np.eye(len(products)))
    slopes = inverse @ (centered * weights[:, None]).T @ (y - base)
    return mean, slopes, base, inverse


def to_logit(values: np.ndarray, top: float, margin: float) -> np.ndarray:
    """log(v / (top - v)), of values that are kept ``margin`` within 0 and ``top``."""
    inside = np.clip(values, margin, top - margin)
    found: np.ndarray = np.log(inside / (top - inside))
    return found


def share_of_logit(logit: float) -> float:
    """Of a logit; tanh does not overflow."""
    return float(CEILING * (1 + np.tanh(logit / 2)) / 2)


def figures_of(figures: ProbeFigures, features: Sequence[str]) -> np.ndarray:
    """(F,) figures by name.

    Raises:
        ValueError: one is not known.
    """
    found = [getattr(figures, name) for name in features]
    if any(value is None for value in found):
        raise ValueError(f"{features[found.index(None)]} is not known")
    return np.array(found, dtype=np.float64)
