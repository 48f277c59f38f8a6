"""Scores of the symmetric tasks: hand cases, scipy, scikit-learn, and the draws that pair the
sides.
"""

from __future__ import annotations

import importlib

import numpy as np
import pytest

from leafkit.core.errors import MissingExtra
from leafkit.evaluation import task_scores
from leafkit.evaluation.task_scores import (
    NUM_EXPERIMENTS,
    NUM_SUBSAMPLES,
    SAMPLES_PER_LABEL,
    cosines,
    draw_subsamples,
    draw_training_sets,
    probe_hits,
    resampled_spearman,
    spearman,
    v_measures,
)


def test_cosines_by_hand_do_not_depend_on_length():
    a = np.array([[3.0, 4.0], [1.0, 0.0], [0.0, 0.0]], dtype=np.float32)
    b = np.array([[6.0, 8.0], [0.0, 5.0], [1.0, 1.0]], dtype=np.float32)
    np.testing.assert_allclose(cosines(a, b), [1.0, 0.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(cosines(7 * a, 0.1 * b), cosines(a, b), atol=1e-7)


def test_spearman_by_hand():
    """Ranks 1, 2.5, 2.5, 4 against 1, 3, 2, 4: covariance 4.5, variances 4.5 and 5."""
    assert spearman(
        np.array([1.0, 2.0, 2.0, 9.0]), np.array([0.1, 0.3, 0.2, 0.4])
    ) == pytest.approx(4.5 / np.sqrt(4.5 * 5))
    assert spearman(np.arange(5.0), -(np.arange(5.0) ** 3)) == pytest.approx(-1)
    assert np.isnan(spearman(np.ones(4), np.arange(4.0)))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_spearman_equals_scipy_s(seed, ties):
    stats = pytest.importorskip("scipy.stats")
    generator = np.random.default_rng(seed)
    a, b = generator.normal(size=(2, 57))
    b = a + 2 * b
    if ties:
        a, b = np.round(a), np.round(2 * b)
    assert spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-12)


def test_resampled_correlations_equal_those_of_the_rows_drawn(monkeypatch):
    """Counting rows instead of copying them is exact, also across chunks."""
    stats = pytest.importorskip("scipy.stats")
    monkeypatch.setattr(task_scores, "_CHUNK", 3)
    generator = np.random.default_rng(0)
    gold = np.round(generator.normal(size=31))
    predicted = np.stack(
        [gold + generator.normal(size=31), np.round(generator.normal(size=31))], axis=1
    )
    found = resampled_spearman(gold, predicted, 7, seed=5)
    assert found.shape == (7, 2)
    draws = np.random.default_rng(5)
    rows = np.concatenate([draws.integers(31, size=(size, 31)) for size in (3, 3, 1)])
    for resample, drawn in zip(found, rows, strict=True):
        for side in range(2):
            expected = stats.spearmanr(gold[drawn], predicted[drawn, side]).statistic
            assert resample[side] == pytest.approx(expected, abs=1e-12)


def test_resamples_are_seeded_and_shared_by_the_sides():
    gold, side = np.random.default_rng(1).normal(size=(2, 40))
    found = resampled_spearman(gold, np.stack([side, side, 3 * side + 1], axis=1), 50, seed=2)
    np.testing.assert_allclose(found, found[:, :1].repeat(3, axis=1), atol=1e-12)
    assert np.array_equal(found, resampled_spearman(gold, np.stack([side] * 3, axis=1), 50, seed=2))
    assert found[:, 0].std() > 0.05
    assert not np.array_equal(
        found[:, 0], resampled_spearman(gold, side[:, None], 50, seed=3)[:, 0]
    )


def test_a_resample_of_one_value_has_no_correlation():
    found = resampled_spearman(np.array([1.0, 2.0]), np.array([[1.0], [2.0]]), 200, seed=0)
    assert set(np.unique(np.isnan(found))) == {True, False}
    assert np.nanmin(found) == 1.0


def labels_of(*sizes: int) -> np.ndarray:
    """Shuffled labels, so many of each."""
    return np.random.default_rng(9).permutation(np.repeat(np.arange(len(sizes)), sizes))


def test_subsamples_hold_half_of_every_label():
    labels = labels_of(10, 7, 1)
    subsamples = draw_subsamples(labels, seed=0)
    assert len(subsamples) == NUM_SUBSAMPLES
    for rows in subsamples:
        assert np.bincount(labels[rows]).tolist() == [5, 4, 1]
        assert len(np.unique(rows)) == len(rows)
    assert len({tuple(rows) for rows in subsamples}) > 1
    assert all(
        np.array_equal(a, b)
        for a, b in zip(subsamples, draw_subsamples(labels, seed=0), strict=True)
    )
    assert not np.array_equal(subsamples[0], draw_subsamples(labels, seed=1)[0])


def test_subsamples_are_capped(monkeypatch):
    monkeypatch.setattr(task_scores, "MAX_SUBSAMPLE", 20)
    labels = labels_of(100, 60, 40)
    assert all(
        np.bincount(labels[rows]).tolist() == [10, 6, 4] for rows in draw_subsamples(labels, seed=0)
    )


def planted(sizes: tuple[int, ...], noise: float, dim: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Vectors around one axis per label."""
    labels = labels_of(*sizes)
    noises = np.random.default_rng(3).normal(size=(len(labels), dim))
    return (np.eye(dim)[labels] + noise * noises).astype(np.float32), labels


def test_v_measure_of_planted_and_of_random_clusters():
    pytest.importorskip("sklearn")
    vectors, labels = planted((40, 40, 40), 0.01)
    subsamples = draw_subsamples(labels, seed=0)
    noise = np.random.default_rng(0).normal(size=vectors.shape)
    # one start of k-means may put two of its centres into one cluster: not every run finds the
    # three
    assert v_measures(vectors, labels, subsamples, seed=0).max() == pytest.approx(1.0)
    assert v_measures(vectors, labels, subsamples, seed=0).mean() > 0.8
    assert v_measures(noise, labels, subsamples, seed=0).mean() < 0.2


def test_v_measures_equal_scikit_learn_s_own():
    cluster, metrics = (
        pytest.importorskip("sklearn.cluster"),
        pytest.importorskip("sklearn.metrics"),
    )
    vectors, labels = planted((30, 20, 25), 0.6)
    subsamples = draw_subsamples(labels, seed=4)[:3]
    expected = [
        metrics.v_measure_score(
            labels[rows],
            cluster.MiniBatchKMeans(
                n_clusters=3, batch_size=512, init="k-means++", n_init=1, random_state=7 + i
            )
            .fit(vectors[rows])
            .labels_,
        )
        for i, rows in enumerate(subsamples)
    ]
    np.testing.assert_allclose(
        v_measures(vectors, labels, subsamples, seed=7), expected, atol=1e-12
    )
    assert 0.1 < np.mean(expected) < 0.9


def test_training_sets_hold_so_many_of_every_label():
    labels = labels_of(50, 9, 8, 3)
    sets = draw_training_sets(labels, seed=0)
    assert len(sets) == NUM_EXPERIMENTS
    for rows in sets:
        assert np.bincount(labels[rows]).tolist() == [SAMPLES_PER_LABEL, SAMPLES_PER_LABEL, 8, 3]
        assert len(np.unique(rows)) == len(rows)
    assert len({tuple(sorted(rows)) for rows in sets}) > 1
    assert all(
        np.array_equal(a, b) for a, b in zip(sets, draw_training_sets(labels, seed=0), strict=True)
    )
    drawn = np.concatenate(
        [
            draw_training_sets(labels, seed=s)[0][
                labels[draw_training_sets(labels, seed=s)[0]] == 0
            ]
            for s in range(60)
        ]
    )
    assert len(np.unique(drawn)) == 50  # no row of the label is out of reach


def test_hits_are_the_mean_accuracy_of_scikit_learn_s_probes():
    linear_model = pytest.importorskip("sklearn.linear_model")
    vectors, labels = planted((60, 60, 60), 0.8)
    train, test = slice(0, 120), slice(120, 180)
    sets = draw_training_sets(labels[train], seed=1)
    hits = probe_hits(
        vectors[train], labels[train], vectors[test], labels[test], training_sets=sets, seed=1
    )
    probes = [
        linear_model.LogisticRegression(max_iter=100, random_state=1).fit(
            vectors[train][s], labels[train][s]
        )
        for s in sets
    ]
    assert hits.shape == (60,)
    assert hits.mean() == pytest.approx(
        np.mean([p.score(vectors[test], labels[test]) for p in probes])
    )
    assert 0.4 < hits.mean() < 0.99


def test_without_scikit_learn_the_install_command_is_shown(monkeypatch):
    def refuse(name, *args):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(MissingExtra, match="scikit-learn") as caught:
        v_measures(np.eye(4), np.array([0, 0, 1, 1]), [np.arange(4)], 0)
    assert caught.value.hint == 'pip install "leafkit[bench]"'
