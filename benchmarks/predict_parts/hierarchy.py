"""A Bayesian regression in which corpora differ: a shift and a slope of each, drawn from normal
distributions whose widths are not known.

Shapes: R known runs, n asked about, F features, G points of the grid of widths.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import torch

from leafkit.evaluation.forecast.calibration import (
    CEILING,
    FEATURES,
    SMALLEST_SHARE,
    share_of_logit,
    to_logit,
)
from leafkit.results import Forecast
from predict_parts.fits import NEIGHBORS, Runs, Way, figures_columns, groups_of, shares_of

# standard deviations of the logit that are held possible, each a half-normal prior's: of corpora's
# shifts, of corpora's slopes, of runs. 0.5 at a share of 62% is 15 points
SHIFTS, SLOPES, RUNS = 0.5, 0.3, 0.3
_WIDTHS = (0.1, 0.5, 1.0, 1.5, 2.2)  # of those, on the grid
_FREE, _SLOPE, _STEPS = 2.0, 1.0, 0.7  # priors of the intercept, of slopes, of training
_HALVINGS = 45


def hierarchical(asked_with: str) -> Way:
    """A slope of one on the neighbors found and of nothing on the cosine is what is expected before
    any run is seen; the noise of outcomes is what their own intervals say.
    """
    names = FEATURES[asked_with]
    slopes = np.array([float(name == NEIGHBORS[asked_with]) for name in names])

    def tell(known: Runs, asked: Runs) -> list[Forecast]:
        rows = [*known, *asked]
        x = figures_columns(names)(rows)
        x[:, : len(names)] -= x[: len(known), : len(names)].mean(axis=0)
        means, spreads, logs = [], [], []
        for widths in product(_WIDTHS, repeat=3):
            mean, spread, log = _condition(rows, len(known), x, slopes, widths=widths)
            means.append(mean)
            spreads.append(spread)
            logs.append(log)
        weights = np.exp(np.array(logs) - max(logs))
        mixture = (np.stack(means), np.stack(spreads), weights / weights.sum())
        middle, low, high = (_quantile(*mixture, at) for at in (0.5, 0.05, 0.95))
        return [
            Forecast(*(share_of_logit(float(one)) for one in row), "")
            for row in zip(middle, low, high, strict=True)
        ]

    return tell


def _condition(
    rows: Runs, num_known: int, x: np.ndarray, slopes: np.ndarray, *, widths: Sequence[float]
) -> tuple[np.ndarray, np.ndarray, float]:
    """(n,) mean and (n,) standard deviation of what is asked, by the known runs, and the logarithm
    of what these weigh for such widths.
    """
    shift, slope, noise = (w * s for w, s in zip(widths, (SHIFTS, SLOPES, RUNS), strict=True))
    groups, figures = groups_of(rows), x[:, :-1]
    same = (groups[:, None] == groups[None]).astype(np.float64)
    prior = _FREE**2 + _SLOPE**2 * figures @ figures.T + _STEPS**2 * np.outer(x[:, -1], x[:, -1])
    prior += same * (shift**2 + slope**2 * figures @ figures.T)
    known, asked = slice(0, num_known), slice(num_known, len(rows))
    shares = shares_of(rows[:num_known])
    inside = np.clip(shares, 0.02, CEILING - 0.02)
    errors = np.array([(r.outcome.high - r.outcome.low) / 3.92 for r in rows[:num_known]])
    measured = (errors * CEILING / (inside * (CEILING - inside))) ** 2
    y = to_logit(shares, CEILING, SMALLEST_SHARE) - figures[known] @ slopes
    root = np.linalg.cholesky(prior[known, known] + np.diag(noise**2 + measured))
    scaled = np.linalg.solve(root, y)
    cross = np.linalg.solve(root, prior[known, asked])
    mean = figures[asked] @ slopes + cross.T @ scaled
    variance = np.diag(prior)[asked] - (cross**2).sum(axis=0) + noise**2 + np.median(measured)
    log = -0.5 * scaled @ scaled - np.log(np.diag(root)).sum() - 0.5 * np.square(widths).sum()
    return mean, np.sqrt(variance), float(log)


def _quantile(means: np.ndarray, spreads: np.ndarray, weights: np.ndarray, at: float) -> np.ndarray:
    """(n,) of mixtures of normal distributions, (G, n) each, by halving."""
    low, high = np.full(means.shape[1], -12.0), np.full(means.shape[1], 12.0)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        below = torch.special.ndtr(torch.from_numpy((middle - means) / spreads)).numpy()
        is_low = weights @ below < at
        low, high = np.where(is_low, middle, low), np.where(is_low, high, middle)
    found: np.ndarray = (low + high) / 2
    return found
