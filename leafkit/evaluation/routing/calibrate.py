"""A threshold on predicted losses, chosen so that a promise holds: "at least so much of the
teacher's nDCG@10", with 95% confidence.

The threshold is the largest up to which the promise holds all the way: thresholds are tried from
the most careful one on, each by a one-sided test, and the first failure ends the sequence, so that
the many tests need no correction (fixed-sequence testing, Angelopoulos et al., "Learn then test",
arXiv 2110.01052). The test is a bootstrap of the share kept. Queries that lose much are few, and of
few queries often none is among those that were drawn: the bootstrap alone would then promise
everything. As in conformal risk control (Angelopoulos et al., arXiv 2208.02814) one query more is
taken in, the one that nobody has seen, and loses the most that a query can: the highest nDCG@10
that the teacher reached. Where no query loses anything, the bound is then that of three losses (the
rule of three). With the teacher's mean in its place promises of 95% were wrong in one of five
calibrations where the teacher finds everything for some queries and nothing for most.

Shapes: Q queries, R rungs of a route, the teacher last; T thresholds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from leafkit.evaluation.bootstrap import Bootstrap, share

CONFIDENCE = 0.95
_MOST_THRESHOLDS = 200
# of Poisson(1) draws, which is how often a resample has one query of many: P(X <= 2) = .92
_COPIES = 3


@dataclass(frozen=True, slots=True)
class Cascade:
    """Queries on a route, from the cheapest rung to the teacher.

    Attributes:
        values: (Q, R) nDCG@10 of each query's answer at each rung.
        predicted: (Q, R - 1) losses that were predicted at each rung but the teacher.
        costs: (R,) milliseconds of a query that stops at each rung, all rungs before it included.
        teacher_ms: of a query that asks the teacher at once.
    """

    values: np.ndarray
    predicted: np.ndarray
    costs: np.ndarray
    teacher_ms: float

    def stops(self, threshold: float) -> np.ndarray:
        """(Q,) number of the rung at which each query stops: the first whose predicted loss is not
        above the threshold.
        """
        return stop_at(self.predicted, threshold)

    def answered(self, stops: np.ndarray) -> np.ndarray:
        """(Q,) nDCG@10 of the answers given."""
        found: np.ndarray = np.take_along_axis(self.values, stops[:, None], axis=1)[:, 0]
        return found

    def cost_shares(self, stops: np.ndarray) -> np.ndarray:
        """(Q,) what each query costs, as a share of the teacher's time."""
        found: np.ndarray = self.costs[stops] / self.teacher_ms
        return found

    def take(self, rows: np.ndarray) -> Cascade:
        """Some of the queries."""
        return Cascade(self.values[rows], self.predicted[rows], self.costs, self.teacher_ms)


@dataclass(frozen=True, slots=True)
class Threshold:
    """A threshold that holds a promise on the calibration queries.

    Attributes:
        value: predicted losses up to it are taken.
        bound: lower bound of the share kept.
        cost: mean, as a share of the teacher's time.
    """

    value: float
    bound: float
    cost: float


def stop_at(predicted: np.ndarray, threshold: float) -> np.ndarray:
    """(Q,) number of the first rung whose predicted loss, (Q, R - 1), is at most the threshold;
    R - 1 where none is.

    >>> stop_at(np.array([[0.1, 0.0], [0.3, 0.1], [0.3, 0.3]]), 0.2).tolist()
    [0, 1, 2]
    """
    is_enough = predicted <= threshold
    found: np.ndarray = np.where(
        is_enough.any(axis=1), is_enough.argmax(axis=1), predicted.shape[1]
    )
    return found


def list_thresholds(predicted: np.ndarray) -> np.ndarray:
    """(T,) rising thresholds at which something changes, some hundreds at most.

    >>> list_thresholds(np.array([[0.3, 0.1], [0.3, 0.2]])).tolist()
    [0.1, 0.2, 0.3]
    """
    values = np.unique(predicted)
    if len(values) > _MOST_THRESHOLDS:
        places = np.linspace(0, len(values) - 1, _MOST_THRESHOLDS).round().astype(int)
        values = values[np.unique(places)]
    return values


def worst_loss(values: np.ndarray) -> float:
    """What the query that nobody has seen loses: the most that the teacher found for any query, of
    (Q, R) values with the teacher's last.

    >>> worst_loss(np.array([[0.2, 0.9, 1.0], [0.2, 0.2, 0.2]]))
    1.0
    """
    return float(values[:, -1].max())


def bound_shares(
    cascade: Cascade, thresholds: np.ndarray, *, resamples: int, seed: int
) -> np.ndarray:
    """(T,) lower bounds, of ``CONFIDENCE``, of the share of the teacher's mean nDCG@10 that is kept
    at each threshold.

    Args:
        cascade: of the calibration queries, whose teacher finds something.
        thresholds: (T,).
        resamples: of the bootstrap.
        seed: of the bootstrap.
    """
    teacher = cascade.values[:, -1]
    kept = np.stack([cascade.answered(cascade.stops(t)) for t in thresholds], axis=1)
    # the query that nobody has seen
    teacher = np.append(teacher, teacher.mean())
    unseen = np.full((1, kept.shape[1]), teacher[-1] - worst_loss(cascade.values))
    columns = np.concatenate([np.concatenate([kept, unseen]), teacher[:, None]], axis=1)
    means = Bootstrap(len(columns), resamples, seed).means(columns)
    shares = np.asarray(share(means[:, :-1], means[:, -1:]))
    found: np.ndarray = np.quantile(shares, 1 - CONFIDENCE, axis=0)
    return found


def choose_thresholds(
    cascade: Cascade, promises: list[float], *, resamples: int, seed: int
) -> dict[float, Threshold | None]:
    """The largest threshold that holds each promise; None where none does, or the cascade under it
    takes longer than the teacher alone.

    Args:
        cascade: of the calibration queries.
        promises: shares of the teacher's nDCG@10.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        ValueError: the teacher finds nothing for any query.
    """
    if not cascade.values[:, -1].any():
        raise ValueError("a share of nothing")
    thresholds = list_thresholds(cascade.predicted)
    bounds = bound_shares(cascade, thresholds, resamples=resamples, seed=seed)
    found: dict[float, Threshold | None] = {}
    for promise in promises:
        num_held = int(np.cumprod(bounds >= promise).sum())
        found[promise] = None
        if num_held:
            value = float(thresholds[num_held - 1])
            cost = float(cascade.cost_shares(cascade.stops(value)).mean())
            if cost < 1:
                found[promise] = Threshold(value, float(bounds[num_held - 1]), cost)
    return found


def queries_for(promise: float, values: np.ndarray) -> int:
    """How many calibration queries a promise takes at least, where none of them lost anything: the
    unseen query is drawn three times, and each time it loses the worst.

    >>> queries_for(0.99, np.array([[0.0, 1.0], [0.5, 0.5]]))
    400

    Args:
        promise: share of the teacher's nDCG@10.
        values: (Q, R) nDCG@10, the teacher's last.
    """
    mean = float(values[:, -1].mean())
    if not mean:
        return 0
    needed = _COPIES * worst_loss(values) / ((1 - promise) * mean)
    return int(np.ceil(round(needed, 6)))


def choose_route(
    routes: dict[tuple[str, ...], Cascade],
) -> tuple[str, ...]:
    """The route that is cheapest where it closes half of the gap that its best small rung leaves.

    It is asked on queries that neither calibrate nor verify, so that the choice costs the promise
    nothing.

    Args:
        routes: the same queries on several routes, values relative to the teacher's.
    """
    best_small = max(float(one.values[:, :-1].mean(axis=0).max()) for one in routes.values())
    whole = float(next(iter(routes.values())).values[:, -1].mean())
    wanted = (best_small + whole) / 2
    costs = {}
    for name, cascade in routes.items():
        costs[name] = min(
            (
                float(cascade.cost_shares(stops).mean())
                for stops in map(cascade.stops, list_thresholds(cascade.predicted))
                if float(cascade.answered(stops).mean()) >= wanted
            ),
            default=float(cascade.costs[-1] / cascade.teacher_ms),
        )
    return min(costs, key=lambda name: (costs[name], len(name)))
