"""The randomisation test against enumeration and scipy, the macro bootstrap against a loop and
against the truth.
"""

from __future__ import annotations

import itertools
from dataclasses import astuple

import numpy as np
import pytest

from leafkit.evaluation.bootstrap import Bootstrap
from leafkit.evaluation.significance import MacroBootstrap, macro_differences, randomisation_test


def enumerate_p(d: np.ndarray) -> float:
    """Share of all sign patterns whose sum is as far from zero as the one observed."""
    sums = [
        abs(sum(s * x for s, x in zip(signs, d.tolist(), strict=True)))
        for signs in itertools.product([1, -1], repeat=len(d))
    ]
    return float(np.mean(np.array(sums) >= abs(d.sum()) - 1e-12))


def test_a_case_by_hand():
    """Of the 8 sign patterns of .1, .2, .3 only all plus and all minus reach .6; of .1, .2, -.3,
    sum 0, all do.
    """
    found = randomisation_test(np.array([[0.1, 0.1], [0.2, 0.2], [0.3, -0.3]]), 100, 0)
    assert found.tolist() == [2 / 8, 1.0]


@pytest.mark.parametrize("num_queries", [1, 2, 5, 11])
def test_few_queries_are_enumerated(num_queries):
    d = np.random.default_rng(num_queries).normal(size=(num_queries, 3))
    found = randomisation_test(d, 5000, 0)
    assert found == pytest.approx([enumerate_p(column) for column in d.T])
    with_zeros = np.concatenate([d, np.zeros((500, 3))])  # equal queries change no sum
    assert randomisation_test(with_zeros, 5000, 0) == pytest.approx(found)


def test_random_signs_come_close_to_enumeration_and_count_the_observed_ones():
    d = np.random.default_rng(1).normal(0.3, 1, size=(14, 1))
    exact = enumerate_p(d[:, 0])
    found = randomisation_test(d, 16_383, 3)[0]  # one less than 2^14: not enumerated
    assert abs(found - exact) < 4 * np.sqrt(exact * (1 - exact) / 16_383)
    assert (found * 16_384) == pytest.approx(round(found * 16_384))
    clear = np.ones((40, 1)) + np.arange(40)[:, None] / 100
    assert randomisation_test(clear, 999, 0).tolist() == [1 / 1000]


def test_p_equals_scipy_s():
    scipy_stats = pytest.importorskip("scipy.stats")
    generator = np.random.default_rng(2)
    a, b = np.round(generator.random((2, 9)), 1)

    def mean_difference(x: np.ndarray, y: np.ndarray, axis: int) -> np.ndarray:
        return np.mean(x, axis=axis) - np.mean(y, axis=axis)

    theirs = scipy_stats.permutation_test(
        (a, b), mean_difference, permutation_type="samples", vectorized=True, n_resamples=2**9
    )
    assert randomisation_test((a - b)[:, None], 2**9, 0)[0] == pytest.approx(theirs.pvalue)
    a, b = generator.random(60), generator.random(60) + 0.06
    theirs = scipy_stats.permutation_test(
        (a, b),
        mean_difference,
        permutation_type="samples",
        vectorized=True,
        n_resamples=20_000,
        rng=np.random.default_rng(0),
    )
    mine = randomisation_test((a - b)[:, None], 20_000, 0)[0]
    assert 0.02 < mine < 0.9
    assert mine == pytest.approx(theirs.pvalue, abs=4 * np.sqrt(2 * mine * (1 - mine) / 20_000))


def test_p_is_two_sided_and_knows_no_order_and_no_scale():
    d = np.random.default_rng(4).normal(0.2, 1, size=(100, 1))
    found = randomisation_test(np.concatenate([d, -d, 1e6 * d, 1e-9 * d], axis=1), 2000, 1)
    assert len(set(found.tolist())) == 1
    assert 0 < found[0] < 1


def test_steps_of_a_tenth_are_ties_although_their_sums_are_rounded():
    """Sums of .1, .2 and .3 in another order differ in the last bit; they count as reached all the
    same.
    """
    d = np.random.default_rng(5).choice([-0.3, -0.2, -0.1, 0.1, 0.2, 0.3], size=(60, 1))
    whole = np.round(10 * d)
    assert randomisation_test(d, 5000, 7).tolist() == randomisation_test(whole, 5000, 7).tolist()


def test_equal_systems_are_as_likely_as_can_be():
    assert randomisation_test(np.zeros((50, 2)), 100, 0).tolist() == [1, 1]


def test_under_the_hypothesis_p_is_uniform():
    """Of 400 tests of pure noise about 5% fall below .05; four standard deviations are 4.4%."""
    d = np.random.default_rng(6).normal(size=(80, 400))
    found = randomisation_test(d, 999, 0)
    assert abs((found < 0.05).mean() - 0.05) < 0.044
    assert abs((found < 0.5).mean() - 0.5) < 0.1


def test_chunks_change_nothing(monkeypatch):
    d = np.random.default_rng(7).normal(0.1, 1, size=(33, 2))
    expected = randomisation_test(d, 500, 3)
    for entries in (33, 1000, 10**7):
        monkeypatch.setattr("leafkit.evaluation.significance._CHUNK_ENTRIES", entries)
        assert np.array_equal(randomisation_test(d, 500, 3), expected)
    assert not np.array_equal(randomisation_test(d, 500, 4), expected)


@pytest.mark.parametrize(
    "differences",
    [np.zeros((0, 1)), np.zeros(3), np.array([[1.0], [np.nan]]), np.array([[np.inf]])],
)
def test_what_is_not_finite_or_empty_is_refused(differences):
    with pytest.raises(ValueError, match="both finite, not empty"):
        randomisation_test(differences, 100, 0)
    with pytest.raises(ValueError, match="0 permutations"):
        randomisation_test(np.ones((3, 1)), 0, 0)


# --- macro averages


def test_the_estimate_gives_every_collection_the_same_weight():
    found = MacroBootstrap([2, 100], 50, 0).draws(
        [{"a": np.array([0.0, 1.0])}, {"a": np.full(100, 0.9)}]
    )
    assert found.mean("a").value == pytest.approx((0.5 + 0.9) / 2)


def test_one_collection_alone_has_the_interval_of_its_queries():
    values = np.random.default_rng(0).random(200)
    macro = MacroBootstrap([200], 4000, 1).draws([{"a": values}]).mean("a")
    plain = Bootstrap(200, 4000, 2).mean(values)
    assert macro.value == plain.value
    assert macro.high - macro.low == pytest.approx(plain.high - plain.low, rel=0.1)


def test_collections_without_spread_inside_are_drawn_with_replacement():
    """Of two constant collections a resample holds the first twice, both, or the second twice: 1/4,
    1/2, 1/4.
    """
    means = MacroBootstrap([3, 5], 4000, 0).means([np.zeros((3, 1)), np.ones((5, 1))])[:, 0]
    values, counts = np.unique(means, return_counts=True)
    assert values.tolist() == [0, 0.5, 1]
    assert counts / 4000 == pytest.approx([0.25, 0.5, 0.25], abs=0.03)


def test_the_variance_is_that_of_both_levels():
    """Var M* = (between + mean of within / n_c) / C, with the plug-in variances; 10,000 resamples
    give it to about 2%.
    """
    generator = np.random.default_rng(3)
    collections = [
        generator.normal(loc, 0.5, size=(size, 1))
        for loc, size in ((0.2, 30), (0.5, 80), (0.9, 50), (0.6, 40))
    ]
    means = MacroBootstrap([len(c) for c in collections], 10_000, 5).means(collections)[:, 0]
    between = np.var([c.mean() for c in collections])
    within = np.mean([c.var() / len(c) for c in collections])
    assert means.var() == pytest.approx((between + within) / 4, rel=0.08)
    assert means.mean() == pytest.approx(np.mean([c.mean() for c in collections]), abs=0.01)


def test_a_collection_drawn_twice_has_its_queries_drawn_afresh():
    """Were they the same twice, one collection drawn into both places would have twice the
    variance.
    """
    values = np.random.default_rng(4).normal(size=(50, 1))
    macro = MacroBootstrap([50, 50], 8000, 6).means([values, values])[:, 0]
    assert macro.var() == pytest.approx(values.var() / 50 / 2, rel=0.1)


def test_systems_are_paired():
    generator = np.random.default_rng(8)
    hard = [generator.random(60), 0.4 + generator.random(90) / 2]
    draws = MacroBootstrap([60, 90], 1000, 0).draws(
        [{"a": x + 0.01, "b": x, "zero": 0 * x} for x in hard]
    )
    assert astuple(draws.difference("a", "b"))[:3] == pytest.approx((0.01, 0.01, 0.01))
    assert astuple(draws.ratio("a", "a"))[:3] == (1, 1, 1)
    assert astuple(draws.ratio("a", "zero"))[:3] == (0, 0, 0)
    ratio = draws.ratio("b", "a")
    expected = (hard[0].mean() + hard[1].mean()) / (hard[0].mean() + hard[1].mean() + 0.02)
    assert ratio.value == pytest.approx(expected)
    assert ratio.low < ratio.value < ratio.high


def test_the_seed_decides():
    values = [np.random.default_rng(0).random((20, 1)), np.random.default_rng(1).random((30, 1))]
    first, again, other = (MacroBootstrap([20, 30], 100, seed).means(values) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_macro_differences_have_the_macro_average_as_their_mean():
    d = [np.array([[0.1, 1.0], [0.3, 0.0]]), np.array([[0.5, 0.5]])]
    found = macro_differences(d)
    assert found.shape == (3, 2)
    assert found.mean(axis=0) == pytest.approx([(0.2 + 0.5) / 2, (0.5 + 0.5) / 2])
    assert randomisation_test(found, 100, 0) == pytest.approx(
        [
            enumerate_p(np.array([0.1 / 4, 0.3 / 4, 0.5 / 2])),
            enumerate_p(np.array([1 / 4, 0.5 / 2])),
        ]
    )


def test_sizes_that_do_not_fit_are_refused():
    for sizes in ([], [3, 0]):
        with pytest.raises(ValueError, match="resamples of collections"):
            MacroBootstrap(sizes, 10, 0)
    with pytest.raises(ValueError, match=r"values of \[4\] queries for collections of \[3\]"):
        MacroBootstrap([3], 10, 0).means([np.zeros((4, 1))])
