"""From what every query gets at every rung to a router and its promises; numbers alone.

Shapes: Q queries, R rungs of the ladder, the teacher last; n queries that the router learns from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from leafkit.core.errors import LeafkitError
from leafkit.evaluation.bootstrap import Bootstrap
from leafkit.evaluation.routing.calibrate import (
    Cascade,
    Threshold,
    choose_route,
    choose_thresholds,
    list_thresholds,
    queries_for,
)
from leafkit.evaluation.routing.predict import cross_fit, fit_predictor, predict_losses
from leafkit.results import Interval, LossPredictor, PromiseFigures, RungFigures, TimedOn
from leafkit.results.ladder import CurvePoint

_NUM_POINTS = 24  # of the router's curve
# one of so many of the half that calibrates, where there is nothing else to learn from: a third of
# it, in simulations, cost more promises than what it taught saved time
_LEARNING_PART = 5
Signals = Mapping[tuple[str, str], np.ndarray]  # (Q, S) by previous rung and rung


@dataclass(frozen=True, slots=True)
class Times:
    """Milliseconds of a single query, (R,): the encoder alone, and with search and signals.

    Attributes:
        encode_ms: of the encoder, tokenizer included.
        query_ms: with search and signals.
        timed_on: (R,) what computed.
    """

    encode_ms: tuple[float, ...]
    query_ms: tuple[float, ...]
    timed_on: tuple[TimedOn, ...]


@dataclass(frozen=True, slots=True)
class Measured:
    """Every query at every rung.

    Attributes:
        names: R of the rungs.
        ndcg: (Q, R) nDCG@10.
        signals: of the rungs but the teacher.
        losses: (Q, R) share of the teacher's own ten nearest documents' nDCG that is lost: what the
            predictors learn of a part of the queries where there are no others to learn from.
        learned: nDCG@10 with the teacher's own documents as the relevant ones, (n, R), and signals
            of further queries; None where there are none.
        times: of the rungs.
    """

    names: tuple[str, ...]
    ndcg: np.ndarray
    signals: Signals
    losses: np.ndarray
    learned: tuple[np.ndarray, Signals] | None
    times: Times


@dataclass(frozen=True, slots=True)
class Figures:
    """What ``summarize`` finds; fields as in ``leafkit.results.Ladder``."""

    num_calibration: int
    num_verification: int
    num_learning: int
    rungs: tuple[RungFigures, ...]
    route: tuple[str, ...]
    predictors: tuple[LossPredictor, ...]
    promises: tuple[PromiseFigures, ...]
    curve: tuple[CurvePoint, ...]


def summarize(
    measured: Measured,
    promises: Sequence[float],
    *,
    resamples: int,
    seed: int,
    route: tuple[str, ...] = (),
) -> Figures:
    """Choose a route, fit what predicts losses on it, calibrate a threshold for each promise on one
    half of the queries, and measure on the other.

    The predictors learn how far a rung's documents are from the teacher's own, which needs no
    judgment: of queries that have no part in either half, where there are enough. Else a fifth of
    the half that calibrates is set aside to learn from. The route is chosen on these too. So what
    is served is what was calibrated: nothing that a threshold was chosen on has moved a predictor.

    Args:
        measured: every query at every rung.
        promises: shares of the teacher's nDCG@10.
        resamples: of the bootstrap.
        seed: of the halves, folds and resamples.
        route: where it was chosen before; empty chooses it.

    Raises:
        LeafkitError: the teacher finds nothing relevant for any query that calibrates.
    """
    order = np.random.default_rng(seed).permutation(len(measured.ndcg))
    half = len(order) // 2
    calibrating, verifying = order[:half], np.sort(order[half:])
    learned = measured.learned
    if learned is None:
        aside, calibrating = np.split(calibrating, [half // _LEARNING_PART])
        learned = (
            1 - measured.losses[aside],
            {step: found[aside] for step, found in measured.signals.items()},
        )
    route = route or _choose_route(measured, learned, seed)
    predictors = _fit(*learned, measured.names, route)
    whole = _cascade(measured, route, predictors)
    calibration, verification = whole.take(np.sort(calibrating)), whole.take(verifying)
    if not calibration.values[:, -1].any():
        raise LeafkitError(
            "the teacher finds nothing relevant for any of the queries that calibrate",
            "a share of nothing cannot be promised: see leafkit bench recipe=NAME",
        )
    chosen = choose_thresholds(calibration, list(promises), resamples=resamples, seed=seed)
    bootstrap = Bootstrap(len(verifying), resamples, seed)
    alone = measured.ndcg[verifying]
    return Figures(
        num_calibration=len(calibrating),
        num_verification=len(verifying),
        num_learning=len(learned[0]),
        rungs=_rung_figures(measured, alone, bootstrap),
        route=route,
        predictors=predictors,
        promises=tuple(
            _promise(
                promise,
                chosen[promise],
                verification,
                route,
                alone=alone,
                alone_ms=measured.times.query_ms,
                bootstrap=bootstrap,
                num_needed=asked_for(
                    queries_for(promise, calibration.values),
                    has_others=measured.learned is not None,
                ),
            )
            for promise in sorted(chosen)
        ),
        curve=_curve(verification, bootstrap),
    )


def asked_for(num_calibration: int, *, has_others: bool) -> int:
    """Queries to ask so that so many calibrate.

    >>> asked_for(60, has_others=True), asked_for(60, has_others=False)
    (120, 148)

    Args:
        num_calibration: of them.
        has_others: the predictors learn from other queries, so that all of a half calibrate.
    """
    if has_others:
        return 2 * num_calibration
    return 2 * (num_calibration + (num_calibration - 1) // (_LEARNING_PART - 1))


def _steps_of(route: Sequence[str]) -> list[tuple[str, str]]:
    """Previous rung and rung of each step but the teacher's."""
    return list(zip(["", *route], route[:-1], strict=False))


def _fit(
    values: np.ndarray, signals: Signals, names: Sequence[str], route: Sequence[str]
) -> tuple[LossPredictor, ...]:
    """A predictor for each step of a route; ``values`` (n, R) agree with the teacher."""
    return tuple(
        fit_predictor(
            signals[previous, rung],
            1 - values[:, list(names).index(rung)],
            rung=rung,
            previous=previous,
        )
        for previous, rung in _steps_of(route)
    )


def _cascade(
    measured: Measured, route: Sequence[str], predictors: Sequence[LossPredictor]
) -> Cascade:
    told = [
        predict_losses(predictor, measured.signals[step])
        for predictor, step in zip(predictors, _steps_of(route), strict=True)
    ]
    return _climb(measured, measured.ndcg, route, told)


def _climb(
    measured: Measured, values: np.ndarray, route: Sequence[str], told: Sequence[np.ndarray]
) -> Cascade:
    """Queries on a route at what its rungs cost.

    Args:
        measured: names and times of the rungs.
        values: (n, R) of the queries at every rung.
        route: from the cheapest rung to the teacher.
        told: (n,) losses that were predicted at each of them but the teacher.
    """
    places = [measured.names.index(name) for name in route]
    times = measured.times.query_ms
    costs = np.cumsum([times[place] for place in places])
    columns = np.stack(told, axis=1) if told else np.empty((len(values), 0))
    return Cascade(values[:, places], columns, costs, times[-1])


def _choose_route(
    measured: Measured, learned: tuple[np.ndarray, Signals], seed: int
) -> tuple[str, ...]:
    """The cheapest route on the queries that are learned from, each predicted without itself."""
    values, signals = learned
    small, last = measured.names[:-1], measured.names[-1]
    routes = {}
    for count in range(1, len(small) + 1):
        for chosen in combinations(small, count):
            route = (*chosen, last)
            told = [
                cross_fit(signals[step], 1 - values[:, measured.names.index(step[1])], seed)
                for step in _steps_of(route)
            ]
            routes[route] = _climb(measured, values, route, told)
    return choose_route(routes)


def _rung_figures(
    measured: Measured, alone: np.ndarray, bootstrap: Bootstrap
) -> tuple[RungFigures, ...]:
    return tuple(
        RungFigures(
            name=name,
            fingerprint="",
            parameters=None,
            ndcg=bootstrap.mean(alone[:, i]),
            kept=bootstrap.ratio(alone[:, i], alone[:, -1]),
            encode_ms=measured.times.encode_ms[i],
            query_ms=measured.times.query_ms[i],
            timed_on=measured.times.timed_on[i],
        )
        for i, name in enumerate(measured.names)
    )


def _promise(
    promise: float,
    threshold: Threshold | None,
    verification: Cascade,
    route: Sequence[str],
    *,
    alone: np.ndarray,
    alone_ms: Sequence[float],
    bootstrap: Bootstrap,
    num_needed: int,
) -> PromiseFigures:
    """One promise on the queries that verify."""
    teacher = alone[:, -1]
    if threshold is None:
        whole = Interval(1.0, 1.0, 1.0, len(teacher))
        shares = {name: float(name == route[-1]) for name in route}
        return PromiseFigures(
            promise=promise,
            threshold=None,
            bound=None,
            kept=whole,
            cost=whole,
            shares=shares,
            mix=None,
            gain=None,
            num_needed=num_needed,
        )
    stops = verification.stops(threshold.value)
    answered, costs = verification.answered(stops), verification.cost_shares(stops)
    mixed = best_mix(alone, np.asarray(alone_ms) / alone_ms[-1], float(costs.mean()))
    return PromiseFigures(
        promise=promise,
        threshold=threshold.value,
        bound=threshold.bound,
        kept=bootstrap.ratio(answered, teacher),
        cost=bootstrap.mean(costs),
        shares={name: float((stops == i).mean()) for i, name in enumerate(route)},
        mix=None if mixed is None else bootstrap.ratio(mixed, teacher),
        gain=None if mixed is None else bootstrap.ratio_gap(answered, teacher, mixed, teacher),
        num_needed=num_needed,
    )


def best_mix(values: np.ndarray, costs: np.ndarray, cost: float) -> np.ndarray | None:
    """(Q,) what a random mix of one rung and the teacher gives each query on average, at a mean
    cost; of such mixes the best. None where every rung costs more.

    >>> best_mix(np.array([[0.5, 1.0], [0.7, 0.9]]), np.array([0.2, 1.0]), 0.6).round(2).tolist()
    [0.75, 0.8]

    Args:
        values: (Q, R) of every rung, the teacher last.
        costs: (R,) of every rung.
        cost: to spend.
    """
    mixes = []
    for place, own in enumerate(costs[:-1].tolist()):
        # a mean of equal costs may be an ulp below them
        if own <= cost + 1e-9 and own < costs[-1]:
            weight = min(1.0, max(0.0, (cost - own) / (costs[-1] - own)))
            mixes.append((1 - weight) * values[:, place] + weight * values[:, -1])
    return max(mixes, key=lambda mix: float(mix.mean())) if mixes else None


def _curve(verification: Cascade, bootstrap: Bootstrap) -> tuple[CurvePoint, ...]:
    """The router from its first rung alone to the teacher for all."""
    thresholds = list_thresholds(verification.predicted)
    if len(thresholds) > _NUM_POINTS:
        places = np.linspace(0, len(thresholds) - 1, _NUM_POINTS).round().astype(int)
        thresholds = thresholds[np.unique(places)]
    points = {}
    for threshold in [-np.inf, *thresholds.tolist()]:
        stops = verification.stops(threshold)
        kept = bootstrap.ratio(verification.answered(stops), verification.values[:, -1])
        points[float(verification.cost_shares(stops).mean())] = kept
    return tuple(CurvePoint(cost, points[cost]) for cost in sorted(points))
