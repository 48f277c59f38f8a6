"""What a query loses at a rung, predicted from its signals: a ridge regression.

Shapes: n queries, S signals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from leafkit.results import LossPredictor

_RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)  # times the number of queries
NUM_FOLDS = 5


def fit_predictor(
    signals: np.ndarray, losses: np.ndarray, *, rung: str, previous: str
) -> LossPredictor:
    """The ridge regression of losses on standardized signals, of the strength that predicts queries
    left out one by one best (in closed form, Allen 1974).

    Args:
        signals: (n, S).
        losses: (n,) what the queries lose at the rung.
        rung: its name.
        previous: name of the rung that answered before; "" for none.
    """
    means, scales = signals.mean(axis=0), signals.std(axis=0)
    scales = np.where(scales > 1e-9, scales, 1.0)
    x, y = (signals - means) / scales, losses - losses.mean()
    values, axes = np.linalg.eigh(x.T @ x)
    projected = x @ axes
    best, chosen = np.inf, np.zeros(x.shape[1])
    for ridge in _RIDGES:
        shrunk = projected / (values + ridge * len(x))
        weights = shrunk.T @ y
        # the mean is fitted too: each query pulls it by 1/n
        leverage = np.einsum("ns,ns->n", shrunk, projected) + 1 / len(x)
        error = float(np.mean(((y - projected @ weights) / (1 - np.minimum(leverage, 0.999))) ** 2))
        if error < best:
            best, chosen = error, axes @ weights
    return LossPredictor(
        rung=rung,
        previous=previous,
        intercept=float(losses.mean()),
        weights=tuple(chosen.tolist()),
        means=tuple(means.tolist()),
        scales=tuple(scales.tolist()),
    )


def predict_losses(predictor: LossPredictor, signals: np.ndarray) -> np.ndarray:
    """(n,) predicted losses of queries with these signals, (n, S)."""
    x = (signals - np.asarray(predictor.means)) / np.asarray(predictor.scales)
    found: np.ndarray = predictor.intercept + x @ np.asarray(predictor.weights)
    return found


def cross_fit(signals: np.ndarray, losses: np.ndarray, seed: int) -> np.ndarray:
    """(n,) losses of queries as predictors that were fitted without them predict them, so that a
    threshold on them is not chosen where they were learned.

    Args:
        signals: (n, S).
        losses: (n,).
        seed: of the folds.
    """
    folds = np.random.default_rng(seed).permutation(len(losses)) % NUM_FOLDS
    found = np.empty(len(losses))
    for fold in np.unique(folds):
        is_out = folds == fold
        fitted = fit_predictor(signals[~is_out], losses[~is_out], rung="", previous="")
        found[is_out] = predict_losses(fitted, signals[is_out])
    return found


def predictor_of(
    predictors: Sequence[LossPredictor], route: Sequence[str]
) -> Mapping[str, LossPredictor]:
    """The predictor of each rung of a route but the last, which is not asked.

    Raises:
        KeyError: there is none for a rung after the one before it.
    """
    known = {(one.previous, one.rung): one for one in predictors}
    pairs = zip(["", *route], route[:-1], strict=False)
    return {rung: known[previous, rung] for previous, rung in pairs}
