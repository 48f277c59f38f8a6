"""What a linear map of low rank keeps, and the closed-form start of W_out."""

from __future__ import annotations

import numpy as np
import pytest

from leafkit.inherit.spectrum import fit_ridge, variance_kept

GENERATOR = np.random.default_rng(0)
VECTORS = (GENERATOR.normal(size=(80, 12)) @ GENERATOR.normal(size=(12, 12)) + 3.0).astype(np.float32)


@pytest.mark.parametrize("rank", [1, 3, 7, 11])
def test_variance_kept_equals_that_of_an_svd(rank):
    singular = np.linalg.svd(VECTORS - VECTORS.mean(axis=0), compute_uv=False).astype(np.float64) ** 2
    assert variance_kept(VECTORS, rank) == pytest.approx(singular[:rank].sum() / singular.sum(), rel=1e-5)


@pytest.mark.parametrize("rank", [12, 500])
def test_full_rank_keeps_everything(rank):
    assert variance_kept(VECTORS, rank) == pytest.approx(1.0)


def test_the_mean_is_no_variance():
    assert variance_kept(VECTORS + 100, 2) == pytest.approx(variance_kept(VECTORS, 2), rel=1e-3)


def test_vectors_on_a_plane_need_rank_two():
    plane = GENERATOR.normal(size=(50, 2)) @ GENERATOR.normal(size=(2, 12)) + 1
    assert variance_kept(plane, 1) < 0.999
    assert variance_kept(plane, 2) == pytest.approx(1.0)


def test_equal_vectors_have_nothing_to_lose():
    assert variance_kept(np.ones((5, 3), dtype=np.float32), 1) == 1.0


def test_no_affine_map_of_that_rank_keeps_more():
    """The bound that is printed before training: a random projection and its best read-out stay below it."""
    centred = VECTORS - VECTORS.mean(axis=0)
    total = (centred**2).sum()
    for seed in range(5):
        inputs = centred @ np.random.default_rng(seed).normal(size=(12, 3))
        solution = fit_ridge(inputs, centred, 1e-9)
        kept = 1 - ((inputs @ solution.weight + solution.bias - centred) ** 2).sum() / total
        assert kept <= variance_kept(VECTORS, 3) + 1e-6


@pytest.mark.parametrize("ridge", [1e-3, 0.1, 10.0])
def test_ridge_equals_the_explicit_solution(ridge):
    """Least squares over stacked equations: sqrt(penalty) I below the centred inputs, an own column for the bias."""
    targets = GENERATOR.normal(size=(80, 5))
    x = VECTORS.astype(np.float64)
    centred = x - x.mean(axis=0)
    penalty = ridge * (centred**2).sum() / 12
    stacked = np.vstack([np.hstack([x, np.ones((80, 1))]), np.hstack([np.sqrt(penalty) * np.eye(12), np.zeros((12, 1))])])
    expected = np.linalg.lstsq(stacked, np.vstack([targets, np.zeros((12, 5))]), rcond=None)[0]
    found = fit_ridge(VECTORS, targets, ridge)
    assert found.weight.dtype == found.bias.dtype == np.float32
    assert np.allclose(found.weight, expected[:12], atol=1e-5)
    assert np.allclose(found.bias, expected[12], atol=1e-4)


def test_a_true_linear_map_is_recovered():
    weight, bias = GENERATOR.normal(size=(12, 5)), GENERATOR.normal(size=5)
    found = fit_ridge(VECTORS, VECTORS @ weight + bias, 1e-9)
    assert np.allclose(found.weight, weight, atol=1e-3)
    assert np.allclose(found.bias, bias, atol=1e-2)


def test_inputs_of_lower_rank_still_have_a_solution():
    """Fewer texts than dimensions, and a column twice: the penalty picks one of the many solutions."""
    inputs = np.repeat(VECTORS[:5], 2, axis=1)
    targets = GENERATOR.normal(size=(5, 3))
    found = fit_ridge(inputs, targets, 1e-6)
    assert np.isfinite(found.weight).all()
    assert np.abs(inputs @ found.weight + found.bias - targets).max() < 1e-2


def test_inputs_that_do_not_vary_give_the_mean_of_the_targets():
    targets = GENERATOR.normal(size=(4, 3))
    found = fit_ridge(np.ones((4, 2)), targets, 1e-3)
    assert np.allclose(found.weight, 0)
    assert np.allclose(found.bias, targets.mean(axis=0), atol=1e-6)


def test_a_strong_penalty_shrinks_to_the_mean():
    targets = GENERATOR.normal(size=(80, 3))
    found = fit_ridge(VECTORS, targets, 1e9)
    assert np.abs(found.weight).max() < 1e-6
    assert np.allclose(found.bias, targets.mean(axis=0), atol=1e-5)
