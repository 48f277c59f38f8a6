"""Thresholds and the bound that a promise rests on."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

from leafkit.evaluation.routing import calibrate
from leafkit.evaluation.routing.calibrate import (
    Cascade,
    bound_shares,
    choose_route,
    choose_thresholds,
    list_thresholds,
    queries_for,
)


def cascade_of(values, predicted, costs=(1.0, 11.0), teacher_ms=10.0) -> Cascade:
    return Cascade(np.asarray(values), np.asarray(predicted), np.asarray(costs), teacher_ms)


def population(count: int, seed: int) -> Cascade:
    """A rung that loses .5 of some queries' 1.0, more of them where a loss is predicted."""
    chooser = np.random.default_rng(seed)
    predicted = chooser.random((count, 1))
    loses = chooser.random(count) < 0.3 * predicted[:, 0] ** 2
    values = np.stack([np.where(loses, 0.5, 1.0), np.ones(count)], axis=1)
    return cascade_of(values, predicted)


def test_doctests():
    assert doctest.testmod(calibrate).failed == 0


def test_queries_stop_at_the_first_rung_that_is_enough_and_pay_for_all_before_it():
    cascade = cascade_of(
        [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]], [[0.5, 0.1], [0.0, 0.0]], (1.0, 3.0, 13.0)
    )
    stops = cascade.stops(0.2)
    assert stops.tolist() == [1, 0]
    assert cascade.answered(stops).tolist() == [0.2, 0.4]
    assert cascade.cost_shares(stops).tolist() == [0.3, 0.1]
    assert cascade.stops(-np.inf).tolist() == [2, 2]


def test_the_bound_of_queries_that_lose_nothing_is_that_of_three_losses():
    """A query that is never drawn may lose what one that goes to the teacher does."""
    values = np.ones((100, 2))
    values[0, 0] = 0.4
    predicted = np.zeros((100, 1))
    predicted[0] = 1.0
    (bound,) = bound_shares(cascade_of(values, predicted), np.array([0.5]), resamples=4000, seed=1)
    assert bound == pytest.approx(1 - 3 / 101, abs=1e-6)


def test_forty_queries_that_lose_nothing_promise_little():
    cascade = cascade_of(np.full((40, 2), 0.3), np.zeros((40, 1)))
    bounds = bound_shares(cascade, np.array([0.0]), resamples=4000, seed=1)
    assert bounds == pytest.approx([1 - 3 / 41], abs=1e-6)
    assert queries_for(0.95, cascade.values) == 60


def test_no_threshold_behind_a_failure_is_taken():
    """A failure ends the sequence, although more queries at the rung would pass again."""
    count = 400
    predicted = np.linspace(0, 1, count)[:, None]
    values = np.ones((count, 2))
    values[100:140, 0] = 0.0  # in the middle
    values[140:, 0] = 1.3  # and the rung beats the teacher behind it
    found = choose_thresholds(cascade_of(values, predicted), [0.95], resamples=500, seed=1)[0.95]
    assert found is not None
    assert found.value < predicted[140, 0]
    last = list_thresholds(predicted)[-1:]
    assert bound_shares(cascade_of(values, predicted), last, resamples=500, seed=1)[0] > 0.95


def test_a_threshold_spends_more_for_a_higher_promise():
    found = choose_thresholds(population(2000, 0), [0.9, 0.95, 0.98], resamples=1000, seed=1)
    assert all(one is not None for one in found.values())
    costs = [one.cost for one in found.values()]
    assert costs == sorted(costs)
    assert all(one.bound >= promise for promise, one in found.items())


def test_a_promise_that_few_queries_cannot_bear_is_the_teachers():
    found = choose_thresholds(population(40, 3), [0.5, 0.99], resamples=1000, seed=1)
    assert found[0.5] is not None
    assert found[0.99] is None
    assert queries_for(0.99, population(40, 3).values) == 300


def test_a_cascade_that_is_slower_than_the_teacher_is_not_offered():
    values = np.ones((200, 2))
    cascade = cascade_of(values, np.zeros((200, 1)), costs=(12.0, 22.0))
    assert choose_thresholds(cascade, [0.9], resamples=99, seed=1) == {0.9: None}


def test_a_teacher_that_finds_nothing_promises_nothing():
    with pytest.raises(ValueError, match="nothing"):
        choose_thresholds(
            cascade_of(np.zeros((40, 2)), np.zeros((40, 1))), [0.9], resamples=9, seed=1
        )


def test_the_promise_holds_in_nineteen_of_twenty_calibrations():
    """Of many draws from a population whose true loss at every threshold is known."""
    promise, failures, num_draws = 0.95, 0, 60
    truth = population(50_000, 99)
    for seed in range(num_draws):
        chosen = choose_thresholds(population(150, seed), [promise], resamples=400, seed=seed)
        one = chosen[promise]
        if one is not None:
            failures += truth.answered(truth.stops(one.value)).mean() < promise
    # 3 of 60 are expected where the bound is exact; 8 and more have a chance of 1%
    assert failures <= 7


def test_the_route_leaves_out_a_rung_that_does_not_pay():
    chooser = np.random.default_rng(0)
    good = np.where(chooser.random(300) < 0.1, 0.5, 1.0)
    useless = np.full(300, 0.2)
    teacher = np.ones(300)
    told = (1 - good)[:, None]
    short = cascade_of(np.stack([good, teacher], 1), told, (1.0, 11.0))
    high = np.full((300, 1), 0.8)
    long = cascade_of(
        np.stack([useless, good, teacher], 1), np.concatenate([high, told], 1), (2.0, 3.0, 13.0)
    )
    routes = {("a", "b", "teacher"): long, ("b", "teacher"): short}
    assert choose_route(routes) == ("b", "teacher")


def test_the_promise_holds_where_the_teacher_finds_all_or_nothing():
    """Few queries find something, and a rung that keeps a little less than the promise loses all of
    some of them: a calibration that has seen none of these must not be taken in.
    """
    promise, wrong = 0.95, 0
    for seed in range(60):
        generator = np.random.default_rng(seed)
        teacher = (generator.random(100) < 0.3).astype(np.float64)
        rung = teacher * (generator.random(100) < promise - 0.005)
        cascade = cascade_of(np.stack([rung, teacher], axis=1), np.zeros((100, 1)))
        found = choose_thresholds(cascade, [promise], resamples=300, seed=seed)
        wrong += found[promise] is not None
    assert wrong <= 6
