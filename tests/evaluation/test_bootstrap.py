"""The paired bootstrap against an explicit loop, and its intervals against the truth."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest

from leafkit.evaluation.bootstrap import Bootstrap


def loop_means(values: np.ndarray, num_resamples: int, seed: int) -> np.ndarray:
    """Means of n values drawn with replacement, one resample after the other; every 256 by a
    generator of their own.
    """
    means = []
    for number in range(num_resamples):
        if number % 256 == 0:
            generator = np.random.default_rng([seed, number // 256])
        means.append(values[generator.integers(len(values), size=len(values))].mean(axis=0))
    return np.array(means)


@pytest.mark.parametrize(("num_queries", "num_resamples"), [(1, 10), (13, 400), (300, 1203)])
def test_means_equal_an_explicit_loop(num_queries, num_resamples):
    """1203 resamples are more than two chunks: chunks must neither repeat nor skip draws."""
    values = np.random.default_rng(1).random((num_queries, 3))
    bootstrap = Bootstrap(num_queries, num_resamples, seed=5)
    found = bootstrap.means(values)
    assert found.shape == (num_resamples, 3)
    assert np.allclose(found, loop_means(values, num_resamples, 5), atol=1e-12)
    assert np.array_equal(bootstrap.means(values), found)  # from the counts that were kept


def test_counts_that_are_not_kept_are_the_same(monkeypatch):
    values = np.random.default_rng(1).random((300, 2))
    kept = Bootstrap(300, 700, seed=5)
    expected = kept.means(values)
    monkeypatch.setattr("leafkit.evaluation.bootstrap._HELD_BYTES", 1000)
    drawn_again = Bootstrap(300, 700, seed=5)
    for _ in range(2):
        assert np.array_equal(drawn_again.means(values), expected)
    assert len(kept._held) == 3
    assert drawn_again._held == []


def test_every_resample_draws_as_many_as_there_are_queries_and_all_alike():
    """Also above 255 queries, where counts are one byte: a mean of ones is one, and each query is
    drawn once on average.
    """
    for num_queries in (1, 255, 256, 2000):
        bootstrap = Bootstrap(num_queries, 600, seed=1)
        assert (bootstrap.means(np.ones((num_queries, 1))) == 1).all()
        drawn = np.concatenate(bootstrap._held).astype(float)
        assert np.abs(drawn.mean(axis=0) - 1).max() < 5 / np.sqrt(600)
        # of a binomial with n = Q, p = 1 / Q
        assert drawn.var() == pytest.approx(1 - 1 / num_queries, abs=0.02)


def test_draws_of_many_systems_are_those_of_each():
    generator = np.random.default_rng(9)
    a, b = generator.random((2, 50)) + 0.1
    bootstrap = Bootstrap(50, 400, seed=2)
    draws = bootstrap.draws({"a": a, "b": b})
    for found, expected in (
        (draws.mean("a"), bootstrap.mean(a)),
        (draws.difference("a", "b"), bootstrap.difference(a, b)),
        (draws.ratio("a", "b"), bootstrap.ratio(a, b)),
    ):
        assert astuple(found) == pytest.approx(astuple(expected), abs=1e-12)
    assert astuple(draws.difference("a", "a"))[:3] == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("size", [(0, 10), (10, 0)])
def test_nothing_to_draw_from_is_refused(size):
    with pytest.raises(ValueError, match="resamples of"):
        Bootstrap(*size, seed=0)


@pytest.mark.parametrize("shape", [(4,), (5, 1)])
def test_values_of_another_number_of_queries_are_refused(shape):
    with pytest.raises(ValueError, match="for 4 queries"):
        Bootstrap(4, 10, 0).means(np.zeros(shape))


def test_an_interval_is_the_middle_95_percent():
    values = np.random.default_rng(2).random(40)
    found = Bootstrap(40, 400, seed=3).mean(values)
    low, high = np.quantile(loop_means(values, 400, 3), [0.025, 0.975])
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.value == pytest.approx(values.mean())
    assert found.n == 40


def test_pairing_makes_the_interval_of_a_difference_narrow():
    generator = np.random.default_rng(4)
    hard = generator.random(200)
    a, b = hard + 0.01, hard + generator.normal(0, 0.001, 200)
    bootstrap = Bootstrap(200, 1000, seed=0)
    found = bootstrap.difference(a, b)
    assert found.high - found.low < 0.001 < bootstrap.mean(a).high - bootstrap.mean(a).low
    assert 0.009 < found.low < found.value < found.high < 0.011


def test_a_system_against_itself_has_no_spread():
    values = np.random.default_rng(5).random(30)
    bootstrap = Bootstrap(30, 200, seed=0)
    assert astuple(bootstrap.difference(values, values))[:3] == (0.0, 0.0, 0.0)
    assert astuple(bootstrap.ratio(values, values))[:3] == (1.0, 1.0, 1.0)


def test_ratio_is_that_of_the_means_and_not_the_mean_of_ratios():
    a, b = np.array([1.0, 0.0, 0.5]), np.array([0.5, 1.0, 0.5])
    found = Bootstrap(3, 500, seed=1).ratio(a, b)
    assert found.value == pytest.approx(1.5 / 2.0)
    ratios = loop_means(a, 500, 1) / loop_means(b, 500, 1)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(ratios, [0.025, 0.975])))


def test_ratio_over_nothing_is_zero_and_finite():
    found = Bootstrap(4, 50, seed=0).ratio(np.ones(4), np.zeros(4))
    assert astuple(found)[:3] == (0.0, 0.0, 0.0)


def test_ratio_gap_is_the_difference_of_two_ratios():
    generator = np.random.default_rng(6)
    a, a_base, b, b_base = generator.random((4, 60)) + 0.5
    found = Bootstrap(60, 300, seed=2).ratio_gap(a, a_base, b, b_base)
    assert found.value == pytest.approx(a.mean() / a_base.mean() - b.mean() / b_base.mean())
    means = loop_means(np.stack([a, a_base, b, b_base], axis=1), 300, 2)
    gaps = means[:, 0] / means[:, 1] - means[:, 2] / means[:, 3]
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(gaps, [0.025, 0.975])))


def test_the_seed_decides_about_the_draws():
    values = np.random.default_rng(7).random(50)
    assert Bootstrap(50, 100, 1).mean(values) == Bootstrap(50, 100, 1).mean(values)
    assert Bootstrap(50, 100, 1).mean(values) != Bootstrap(50, 100, 2).mean(values)


def test_intervals_cover_the_truth_about_95_times_in_100():
    """200 samples of 80 uniform values, true mean .5; the binomial's own 4-sigma band around .95 is
    +-.06.
    """
    generator = np.random.default_rng(8)
    bootstrap = Bootstrap(80, 500, seed=0)
    hits = [
        interval.low <= 0.5 <= interval.high
        for interval in (bootstrap.mean(generator.random(80)) for _ in range(200))
    ]
    assert 0.88 <= np.mean(hits) <= 0.99
