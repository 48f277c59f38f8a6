"""Intervals of predictions, by the errors for corpora that are left out whole.

Shapes: R runs, n of them asked about.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from leafkit.evaluation.forecast.calibration import T95


@dataclass(frozen=True, slots=True)
class Errors:
    """Of a regression, of corpora left out in turn.

    Attributes:
        values: (R,) of the logit.
        leverages: (R,) in the fits that left them out.
        groups: (R,) number of each run's corpus.
        kinds: (R,) of students.
    """

    values: np.ndarray
    leverages: np.ndarray
    groups: np.ndarray
    kinds: np.ndarray


Reach = Callable[[Errors, np.ndarray], np.ndarray]  # errors, (n,) leverages -> (n,) of the logit


def weights_of(groups: np.ndarray) -> np.ndarray:
    """(R,) so that every corpus counts alike; their mean is one."""
    counts = np.bincount(groups)
    weights: np.ndarray = len(groups) / np.count_nonzero(counts) / counts[groups]
    return weights


def t_quantile(freedom: float) -> float:
    """95% quantile of Student's t, between whole degrees of freedom too; 12 at most."""
    return float(np.interp(freedom, np.arange(1, len(T95) + 1), T95))


def mean_square(values: np.ndarray, groups: np.ndarray) -> float:
    return float(np.average(values**2, weights=weights_of(groups)))


def _freedom(errors: Errors) -> int:
    return len(np.unique(errors.groups)) - 1


def by_leverage(errors: Errors, leverage: np.ndarray) -> np.ndarray:
    """As the package does: the leverage counts beside errors that hold it already."""
    spread = np.sqrt(mean_square(errors.values, errors.groups) * (1 + leverage))
    reach: np.ndarray = t_quantile(_freedom(errors)) * spread
    return reach


def by_errors(errors: Errors, leverage: np.ndarray) -> np.ndarray:
    """Student's t of the errors alone."""
    spread = np.sqrt(mean_square(errors.values, errors.groups))
    return np.full(len(leverage), t_quantile(_freedom(errors)) * spread)


def studentized(errors: Errors, leverage: np.ndarray) -> np.ndarray:
    """Errors over the root of their own leverage, times the root of the asked one's."""
    scaled = errors.values / np.sqrt(1 + errors.leverages)
    spread = np.sqrt(mean_square(scaled, errors.groups) * (1 + leverage))
    reach: np.ndarray = t_quantile(_freedom(errors)) * spread
    return reach


def conformal(errors: Errors, leverage: np.ndarray) -> np.ndarray:
    """The 90% quantile of the errors, every corpus counting alike (quantile pooled over groups:
    Dunn et al., arXiv 1809.07441). It promises 90% of many corpora only; a promise without
    assumptions of one more corpus would take nine corpora at least.
    """
    sizes, weights = np.abs(errors.values), weights_of(errors.groups)
    order = np.argsort(sizes)
    reached = np.cumsum(weights[order]) / weights.sum()
    found = sizes[order][np.searchsorted(reached, 0.9 - 1e-9)]
    return np.full(len(leverage), found)


def in_two_parts(errors: Errors, leverage: np.ndarray) -> np.ndarray:
    """What a whole corpus is off, and what is left within it, each with its own degrees of freedom
    (Satterthwaite); within a corpus, runs of one kind are one witness.
    """
    own = [errors.groups == group for group in np.unique(errors.groups)]
    between = float(np.mean([errors.values[one].mean() ** 2 for one in own]))
    within = float(np.mean([errors.values[one].var() for one in own]))
    few = sum(len(set(errors.kinds[one])) - 1 for one in own)
    total = between + within
    freedom = total**2 / (between**2 / _freedom(errors) + within**2 / few)
    return np.full(len(leverage), t_quantile(freedom) * np.sqrt(total))
