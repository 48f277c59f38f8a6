"""Scores of the symmetric tasks, as functions of arrays: rank correlation, V-measure of clusters,
accuracy of a linear probe.

Shapes: n rows, S encoders compared, R resamples, D dimension. scikit-learn is imported where it is
    needed: the core does
without it.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from leafkit.core.errors import MissingExtra
from leafkit.core.truncate import truncate_then_normalize

NUM_SUBSAMPLES = 10  # of k-means, as in MTEB's clustering tasks
# texts clustered at once; MTEB's large tasks take 16,384, which changes little and takes minutes
MAX_SUBSAMPLE = 2048
NUM_EXPERIMENTS = 10  # training sets of the probe; this number and the next are MTEB's defaults
SAMPLES_PER_LABEL = 8
_KMEANS_BATCH = 512  # MTEB's
_MAX_ITERATIONS = 100  # of the probe's solver; MTEB's
_CHUNK = 200  # resamples ranked at a time, so that memory stays flat in their number


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine of each row of ``a`` with the same row of ``b``, both (n, D) -> (n,) float64; 0 where
    one is zero.
    """
    a, b = (truncate_then_normalize(vectors.astype(np.float64)) for vectors in (a, b))
    return np.einsum("nd,nd->n", a, b)


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's rank correlation of two series (n,); ties share their mean rank. NaN where a
    series is constant.
    """
    return float(_weighted_spearman(a, b[:, None], np.ones((1, len(a))))[0, 0])


def resampled_spearman(
    gold: np.ndarray, predicted: np.ndarray, num_resamples: int, seed: int
) -> np.ndarray:
    """Spearman's correlation of each encoder with the gold scores, over resampled rows.

    Ranks are taken anew inside each resample. The encoders share the draws, which pairs them.

    Args:
        gold: (n,) scores that people gave.
        predicted: (n, S) scores of the encoders.
        num_resamples: R.
        seed: of the draws.

    Returns:
        (R, S); NaN where a resample happened to hold one value alone.
    """
    num_rows = len(gold)
    generator = np.random.default_rng(seed)
    parts = []
    for start in range(0, num_resamples, _CHUNK):
        size = min(_CHUNK, num_resamples - start)
        drawn = (
            generator.integers(num_rows, size=(size, num_rows))
            + np.arange(size)[:, None] * num_rows
        )
        counts = np.bincount(drawn.ravel(), minlength=size * num_rows).reshape(size, num_rows)
        parts.append(_weighted_spearman(gold, predicted, counts.astype(np.float64)))
    return np.concatenate(parts) if parts else np.empty((0, predicted.shape[1]))


def _weighted_spearman(
    gold: np.ndarray, predicted: np.ndarray, counts_RN: np.ndarray
) -> np.ndarray:
    """(R, S) correlations where row i stands in resample r ``counts_RN[r, i]`` times."""
    gold_RN = _centered_ranks(gold, counts_RN)
    weighted_RN = gold_RN * counts_RN
    gold_R = (weighted_RN * gold_RN).sum(axis=1)
    correlations = np.full((len(counts_RN), predicted.shape[1]), np.nan)
    for column in range(predicted.shape[1]):
        ranks_RN = _centered_ranks(predicted[:, column], counts_RN)
        ranks_R = (counts_RN * ranks_RN * ranks_RN).sum(axis=1)
        covariance = (weighted_RN * ranks_RN).sum(axis=1)
        product = np.sqrt(gold_R * ranks_R)
        np.divide(covariance, product, out=correlations[:, column], where=product > 0)
    return correlations


def _centered_ranks(values: np.ndarray, counts_RN: np.ndarray) -> np.ndarray:
    """(R, n) mean ranks of the rows among all that were drawn, less the mean of all ranks."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    # of each run of equal values
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    run_of_row = np.empty(len(values), dtype=np.int64)
    run_of_row[order] = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(values))))
    counts_RG = np.add.reduceat(counts_RN[:, order], starts, axis=1)
    ranks_RG = np.cumsum(counts_RG, axis=1) - (counts_RG - 1) / 2
    return ranks_RG[:, run_of_row] - (counts_RN.sum(axis=1, keepdims=True) + 1) / 2


def draw_subsamples(labels: np.ndarray, seed: int) -> list[np.ndarray]:
    """Rows of each k-means run: half of every label's rows, less where that would be more than
    MAX_SUBSAMPLE in all.

    MTEB draws with replacement and without regard to labels; drawn like this every run has the same
    number of clusters.

    Args:
        labels: (n,) numbers from 0.
        seed: of the draws.

    Returns:
        NUM_SUBSAMPLES arrays of row numbers, each without repetition and with at least one row of
        every label.
    """
    share = min(0.5, MAX_SUBSAMPLE / len(labels))
    members = [np.flatnonzero(labels == label) for label in range(labels.max() + 1)]
    subsamples = []
    for number in range(NUM_SUBSAMPLES):
        generator = np.random.default_rng([seed, number])
        drawn = [generator.permutation(rows)[: int(np.ceil(share * len(rows)))] for rows in members]
        subsamples.append(np.sort(np.concatenate(drawn)))
    return subsamples


def v_measures(
    vectors: np.ndarray, labels: np.ndarray, subsamples: Sequence[np.ndarray], seed: int
) -> np.ndarray:
    """V-measure of mini-batch k-means with as many clusters as there are labels, once per
    subsample.

    Args:
        vectors: (n, D).
        labels: (n,) numbers from 0.
        subsamples: rows of each run.
        seed: of k-means; run i takes seed + i.

    Returns:
        (runs,) harmonic means of homogeneity and completeness (Rosenberg and Hirschberg, 2007).

    Raises:
        MissingExtra: scikit-learn is not installed.
    """
    cluster, metrics = _sklearn("cluster"), _sklearn("metrics")
    scores = []
    for number, rows in enumerate(subsamples):
        kmeans = cluster.MiniBatchKMeans(
            n_clusters=len(np.unique(labels[rows])),
            batch_size=_KMEANS_BATCH,
            n_init=1,
            random_state=seed + number,
        )
        scores.append(metrics.v_measure_score(labels[rows], kmeans.fit_predict(vectors[rows])))
    return np.array(scores)


def draw_training_sets(labels: np.ndarray, seed: int) -> list[np.ndarray]:
    """Rows of each probe's training set: at most SAMPLES_PER_LABEL of every label, NUM_EXPERIMENTS
    times.

    Args:
        labels: (n,) numbers from 0.
        seed: of the draws.
    """
    sets = []
    for number in range(NUM_EXPERIMENTS):
        shuffled = np.random.default_rng([seed, number]).permutation(len(labels))
        by_label = shuffled[np.argsort(labels[shuffled], kind="stable")]
        # where each row's label begins
        starts = np.searchsorted(labels[by_label], labels[by_label])
        sets.append(by_label[np.arange(len(by_label)) - starts < SAMPLES_PER_LABEL])
    return sets


def probe_hits(
    train: np.ndarray,
    train_labels: np.ndarray,
    test: np.ndarray,
    test_labels: np.ndarray,
    *,
    training_sets: Sequence[np.ndarray],
    seed: int,
) -> np.ndarray:
    """How often a logistic regression on frozen vectors names the label of each test row, over its
    training sets.

    Args:
        train: (n, D) vectors to train on.
        train_labels: (n,).
        test: (m, D) vectors to label.
        test_labels: (m,).
        training_sets: rows of ``train``, one array per probe.
        seed: of the solver.

    Returns:
        (m,) shares between 0 and 1; their mean is the mean accuracy of the probes.

    Raises:
        MissingExtra: scikit-learn is not installed.
    """
    linear_model = _sklearn("linear_model")
    hits = np.zeros(len(test))
    for rows in training_sets:
        probe = linear_model.LogisticRegression(max_iter=_MAX_ITERATIONS, random_state=seed)
        hits += probe.fit(train[rows], train_labels[rows]).predict(test) == test_labels
    return hits / len(training_sets)


def _sklearn(name: str) -> Any:
    try:
        return importlib.import_module(f"sklearn.{name}")
    except ImportError as err:
        raise MissingExtra("scikit-learn", "bench", "a clustering or classification task") from err
