"""From what every query gets at every rung to a router and its promises; numbers alone."""

from __future__ import annotations

import doctest
from dataclasses import replace

import ladder_case
import numpy as np
import pytest
from ladder_case import times_of

from leafkit.core.errors import LeafkitError
from leafkit.evaluation.routing.calibrate import Cascade, bound_shares, queries_for
from leafkit.evaluation.routing.predict import predict_losses
from leafkit.pipeline.ladder import measure
from leafkit.pipeline.ladder.measure import Measured, asked_for, best_mix, summarize


def measured_of(count: int, *, learned: bool) -> Measured:
    """A rung whose loss is written in its first signal, and a teacher that is always right."""
    chooser = np.random.default_rng(5)
    signal = chooser.random(count)
    rung = 1 - 0.8 * signal * (chooser.random(count) < signal)
    values = np.stack([rung, np.ones(count)], axis=1)
    signals = {("", "student"): np.stack([signal, chooser.random(count)], axis=1)}
    return Measured(
        names=("student", "teacher"),
        ndcg=values,
        signals=signals,
        losses=1 - values,
        learned=(values, signals) if learned else None,
        times=times_of((1.0, 10.0)),
    )


@pytest.mark.parametrize("learned", [True, False])
def test_a_router_that_knows_beats_a_random_mix(learned):
    found = summarize(measured_of(1200, learned=learned), [0.9, 0.95], resamples=400, seed=1)
    for one in found.promises:
        assert one.is_held
        assert one.kept.high > one.promise
        assert one.gain is not None
        assert one.gain.low > 0
    assert found.route == ("student", "teacher")
    costs = [point.cost for point in found.curve]
    assert costs == sorted(costs)
    assert found.curve[-1].kept.value == 1.0
    assert found.curve[0].cost == pytest.approx(0.1)


def test_what_is_served_is_what_was_calibrated():
    """Without queries to learn from a part of those that were asked is set aside: the bound is that
    of the predictors that are served, on queries that they have not seen.
    """
    case = measured_of(300, learned=False)
    found = summarize(case, [0.8], resamples=300, seed=1)
    assert (found.num_learning, found.num_calibration, found.num_verification) == (30, 120, 150)
    order = np.random.default_rng(1).permutation(300)
    aside, calibrating = order[:30], np.sort(order[30:150])
    (predictor,) = found.predictors
    told = predict_losses(predictor, case.signals["", "student"][calibrating])[:, None]
    cascade = Cascade(case.ndcg[calibrating], told, np.array([1.0, 11.0]), 10.0)
    promise = found.promises[0]
    assert promise.threshold is not None
    bounds = bound_shares(cascade, np.array([promise.threshold]), resamples=300, seed=1)
    assert promise.bound == pytest.approx(bounds[0], abs=1e-12)
    # nothing that calibrates or verifies has moved the predictor
    losses = case.losses.copy()
    losses[np.setdiff1d(order, aside)] = 0.5
    moved = summarize(replace(case, losses=losses), [0.8], resamples=300, seed=1)
    assert moved.predictors == found.predictors
    needed = queries_for(0.8, cascade.values)
    assert promise.num_needed == asked_for(needed, has_others=False)


def test_as_many_queries_are_asked_for_as_calibrate_then():
    assert doctest.testmod(measure).failed == 0
    case = measured_of(60, learned=False)
    for count in (9, 10, 11):
        asked = asked_for(count, has_others=False)
        for others, calibrates in ((asked, count), (asked - 2, count - 1)):
            some = replace(
                case,
                ndcg=case.ndcg[:others],
                losses=case.losses[:others],
                signals={step: found[:others] for step, found in case.signals.items()},
            )
            found = summarize(some, [0.5], resamples=20, seed=1)
            assert (count, found.num_calibration) == (count, calibrates)


def test_the_halves_are_the_seeds():
    case = measured_of(200, learned=True)
    one, same, other = (
        summarize(case, [0.8], resamples=200, seed=seed).promises[0] for seed in (1, 1, 2)
    )
    assert one == same
    assert one != other


def test_a_teacher_that_finds_nothing_is_an_error():
    case = measured_of(60, learned=True)
    empty = Measured(
        names=case.names,
        ndcg=np.zeros_like(case.ndcg),
        signals=case.signals,
        losses=case.losses,
        learned=case.learned,
        times=case.times,
    )
    with pytest.raises(LeafkitError, match="finds nothing relevant"):
        summarize(empty, [0.9], resamples=50, seed=1)


def test_a_mix_costs_what_is_spent():
    values = np.array([[0.5, 0.8, 1.0], [0.7, 0.6, 0.9]])
    costs = np.array([0.1, 0.5, 1.0])
    np.testing.assert_allclose(best_mix(values, costs, 0.1), values[:, 0])
    np.testing.assert_allclose(best_mix(values, costs, 1.0), values[:, 2])
    # at half of the cost 4/9 of the queries can go from the first rung to the teacher
    np.testing.assert_allclose(
        best_mix(values, costs, 0.5), values[:, 0] * 5 / 9 + values[:, 2] * 4 / 9
    )
    np.testing.assert_allclose(best_mix(values, costs, 0.1 - 1e-15), values[:, 0])
    assert best_mix(values, costs, 0.05) is None


def test_the_case_costs_more_on_dearer_rungs():
    assert list(ladder_case.COSTS.values()) == sorted(ladder_case.COSTS.values())
