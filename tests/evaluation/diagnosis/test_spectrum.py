"""What a linear map of low rank keeps, and the closed-form start of W_out."""

from __future__ import annotations

import numpy as np
import pytest

from leafkit.core.errors import LeafkitError
from leafkit.evaluation.diagnosis import spectrum
from leafkit.evaluation.diagnosis.spectrum import (
    measure_spectrum,
    sum_for_ridge,
    variance_kept,
)

GENERATOR = np.random.default_rng(0)
VECTORS = (GENERATOR.normal(size=(80, 12)) @ GENERATOR.normal(size=(12, 12)) + 3.0).astype(
    np.float32
)


@pytest.mark.parametrize("rank", [1, 3, 7, 11])
def test_variance_kept_equals_that_of_an_svd(rank):
    singular = (
        np.linalg.svd(VECTORS - VECTORS.mean(axis=0), compute_uv=False).astype(np.float64) ** 2
    )
    assert variance_kept(VECTORS, rank) == pytest.approx(
        singular[:rank].sum() / singular.sum(), rel=1e-5
    )


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
    """The bound that is printed before training: a random projection and its best read-out stay
    below it.
    """
    centerd = VECTORS - VECTORS.mean(axis=0)
    total = (centerd**2).sum()
    for seed in range(5):
        inputs = centerd @ np.random.default_rng(seed).normal(size=(12, 3))
        solution = sum_for_ridge(inputs, centerd).solve(1e-9)
        kept = 1 - ((inputs @ solution.weight + solution.bias - centerd) ** 2).sum() / total
        assert kept <= variance_kept(VECTORS, 3) + 1e-6


@pytest.mark.parametrize("ridge", [1e-3, 0.1, 10.0])
def test_ridge_equals_the_explicit_solution(ridge):
    """Least squares over stacked equations: sqrt(penalty) I below the centred inputs, an own column
    for the bias.
    """
    targets = GENERATOR.normal(size=(80, 5))
    x = VECTORS.astype(np.float64)
    centerd = x - x.mean(axis=0)
    penalty = ridge * (centerd**2).sum() / 12
    stacked = np.vstack(
        [
            np.hstack([x, np.ones((80, 1))]),
            np.hstack([np.sqrt(penalty) * np.eye(12), np.zeros((12, 1))]),
        ]
    )
    expected = np.linalg.lstsq(stacked, np.vstack([targets, np.zeros((12, 5))]), rcond=None)[0]
    found = sum_for_ridge(VECTORS, targets).solve(ridge)
    assert found.weight.dtype == found.bias.dtype == np.float32
    assert np.allclose(found.weight, expected[:12], atol=1e-5)
    assert np.allclose(found.bias, expected[12], atol=1e-4)


def test_a_true_linear_map_is_recovered():
    weight, bias = GENERATOR.normal(size=(12, 5)), GENERATOR.normal(size=5)
    found = sum_for_ridge(VECTORS, VECTORS @ weight + bias).solve(1e-9)
    assert np.allclose(found.weight, weight, atol=1e-3)
    assert np.allclose(found.bias, bias, atol=1e-2)


def test_inputs_of_lower_rank_still_have_a_solution():
    """Fewer texts than dimensions, and a column twice: the penalty picks one solution of many."""
    inputs = np.repeat(VECTORS[:5], 2, axis=1)
    targets = GENERATOR.normal(size=(5, 3))
    found = sum_for_ridge(inputs, targets).solve(1e-6)
    assert np.isfinite(found.weight).all()
    assert np.abs(inputs @ found.weight + found.bias - targets).max() < 1e-2


def test_inputs_that_do_not_vary_give_the_mean_of_the_targets():
    targets = GENERATOR.normal(size=(4, 3))
    found = sum_for_ridge(np.ones((4, 2)), targets).solve(1e-3)
    assert np.allclose(found.weight, 0)
    assert np.allclose(found.bias, targets.mean(axis=0), atol=1e-6)


def test_a_strong_penalty_shrinks_to_the_mean():
    targets = GENERATOR.normal(size=(80, 3))
    found = sum_for_ridge(VECTORS, targets).solve(1e9)
    assert np.abs(found.weight).max() < 1e-6
    assert np.allclose(found.bias, targets.mean(axis=0), atol=1e-5)


# --- the whole spectrum


def test_chunks_equal_the_whole():
    whole = measure_spectrum([VECTORS])
    parts = measure_spectrum([VECTORS[:1], VECTORS[:0], VECTORS[1:50], VECTORS[50:]])
    assert parts.count == whole.count == 80
    assert np.allclose(parts.mean, whole.mean, atol=1e-12)
    assert np.allclose(parts.eigenvalues, whole.eigenvalues, rtol=1e-10)


def test_equals_numpys_covariance():
    found = measure_spectrum([VECTORS])
    covariance = np.cov(VECTORS.astype(np.float64), rowvar=False, bias=True)
    assert np.allclose(
        found.directions @ np.diag(found.eigenvalues) @ found.directions.T, covariance, atol=1e-10
    )
    assert np.allclose(found.energies, covariance.diagonal(), atol=1e-10)
    assert np.allclose(found.directions.T @ found.directions, np.eye(12), atol=1e-10)


def test_a_mean_far_away_costs_no_digits():
    far = VECTORS.astype(np.float64) + 1e6
    assert np.allclose(
        measure_spectrum([far]).eigenvalues, measure_spectrum([VECTORS]).eigenvalues, rtol=1e-6
    )


@pytest.mark.parametrize("rank", [1, 4, 9])
def test_vectors_of_a_planted_rank_are_kept_whole_at_it(rank):
    planted = GENERATOR.normal(size=(200, rank)) @ GENERATOR.normal(size=(rank, 12)) + 5
    found = measure_spectrum([planted])
    assert found.variance_kept(rank) == pytest.approx(1.0, abs=1e-9)
    assert rank == 1 or found.variance_kept(rank - 1) < 0.999
    assert np.allclose(found.project(planted, rank), planted, atol=1e-4)
    assert found.effective_rank() <= rank + 1e-6


def test_effective_rank_of_known_spectra():
    corners = np.concatenate([np.eye(6), -np.eye(6)])
    assert measure_spectrum([corners]).effective_rank() == pytest.approx(6.0)
    uneven = np.array([[2.0, 0], [-2, 0], [0, 1], [0, -1]])  # shares 4/5 and 1/5
    assert measure_spectrum([uneven]).effective_rank() == pytest.approx(0.8**-0.8 * 0.2**-0.2)
    assert measure_spectrum([np.ones((4, 3))]).effective_rank() == 0.0


def test_turning_the_space_changes_heads_and_nothing_else():
    turn = np.linalg.qr(GENERATOR.normal(size=(12, 12)))[0]
    before, after = (
        measure_spectrum([VECTORS]),
        measure_spectrum([VECTORS.astype(np.float64) @ turn]),
    )
    assert np.allclose(before.eigenvalues, after.eigenvalues, rtol=1e-4)
    assert before.effective_rank() == pytest.approx(after.effective_rank(), rel=1e-4)
    assert abs(before.head_variance(3) - after.head_variance(3)) > 1e-3
    assert before.head_variance(12) == after.head_variance(12) == 1.0


@pytest.mark.parametrize("dim", [1, 3, 6])
def test_the_spread_of_heads_is_that_of_simulated_turns(dim):
    found = measure_spectrum([VECTORS])
    diagonal = np.diag(found.eigenvalues)
    shares = []
    for seed in range(3000):
        basis = np.linalg.qr(np.random.default_rng(seed).normal(size=(12, dim)))[0]
        shares.append(np.trace(basis.T @ diagonal @ basis) / found.total)
    assert np.mean(shares) == pytest.approx(dim / 12, rel=0.03)
    assert np.std(shares) == pytest.approx(found.head_spread(dim), rel=0.05)


def test_heads_of_equal_variance_have_no_spread():
    assert measure_spectrum([np.concatenate([np.eye(4), -np.eye(4)])]).head_spread(
        2
    ) == pytest.approx(0.0, abs=1e-8)
    assert measure_spectrum([np.array([[1.0], [2.0]])]).head_spread(1) == 0.0


def test_a_projection_keeps_its_center_and_is_idempotent():
    found = measure_spectrum([VECTORS])
    center = np.arange(12.0)
    once = found.project(VECTORS, 3, center)
    assert np.allclose(found.project(center[None], 3, center), center)
    assert np.allclose(found.project(once, 3, center), once, atol=1e-4)
    assert np.linalg.matrix_rank(once - center, tol=1e-3) == 3


def test_one_vector_has_no_variance():
    found = measure_spectrum([np.array([[3.0, 4.0]])])
    assert (
        found.total,
        found.variance_kept(1),
        found.head_variance(1),
        found.effective_rank(),
    ) == (0.0, 1.0, 1.0, 0.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_number_that_is_none_names_its_row(bad):
    broken = VECTORS.copy()
    broken[41, 3] = bad
    with pytest.raises(LeafkitError, match="row 41"):
        measure_spectrum([broken[:40], broken[40:]])
    with pytest.raises(LeafkitError, match="row 41"):
        variance_kept(broken, 2)


def test_no_vectors_are_refused():
    with pytest.raises(LeafkitError, match="no vectors"):
        measure_spectrum([np.zeros((0, 4))])


def test_a_map_without_bias_is_fitted_without_centring():
    inputs, targets = np.array([[1.0], [2.0]]), np.array([[3.0], [5.0]])
    # sum xy = 13, sum xx = 5, which is the mean eigenvalue: 13 / (5 + .2 * 5)
    found = sum_for_ridge(inputs, targets, has_bias=False).solve(0.2)
    np.testing.assert_allclose(found.weight, [[13 / 6]])
    np.testing.assert_array_equal(found.bias, [0.0])
    # centred: sum xy = 1, sum xx = .5, and the line goes through the means 1.5 and 4
    found = sum_for_ridge(inputs, targets).solve(0.25)
    np.testing.assert_allclose(found.weight, [[1.6]])
    np.testing.assert_allclose(found.bias, [1.6])


def test_one_pass_serves_every_strength():
    targets = VECTORS[:, ::-1] ** 2
    sums = sum_for_ridge(VECTORS, targets)
    for ridge in (1e-4, 1.0):
        one, other = sums.solve(ridge), sum_for_ridge(VECTORS, targets).solve(ridge)
        np.testing.assert_array_equal(one.weight, other.weight)
        np.testing.assert_array_equal(one.bias, other.bias)


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("ridge", [1e-3, 0.5])
def test_a_left_out_row_is_predicted_by_the_map_of_all_others(ridge, has_bias):
    generator = np.random.default_rng(3)
    inputs, targets = generator.normal(size=(30, 6)) + 1.0, generator.normal(size=(30, 4)) - 2.0
    sums = sum_for_ridge(inputs, targets, has_bias=has_bias)
    rows = np.array([0, 7, 29])
    found = sums.predict_left_out(inputs[rows], targets[rows], ridge)
    penalty = ridge * np.trace(sums.covariance) / 6
    for row, predicted in zip(rows, found, strict=True):
        x, y = np.delete(inputs, row, axis=0), np.delete(targets, row, axis=0)
        x_mean, y_mean = (z.mean(axis=0) * has_bias for z in (x, y))
        covariance = (x - x_mean).T @ (x - x_mean) + penalty * np.eye(6)
        weight = np.linalg.solve(covariance, (x - x_mean).T @ (y - y_mean))
        expected = (inputs[row] - x_mean) @ weight + y_mean
        np.testing.assert_allclose(predicted, expected, rtol=1e-8)


def test_a_row_without_others_predicts_nothing_endless():
    sums = sum_for_ridge(np.ones((1, 3)), np.ones((1, 2)))
    assert np.isfinite(sums.predict_left_out(np.ones((1, 3)), np.ones((1, 2)), 0.1)).all()


@pytest.mark.parametrize("has_bias", [True, False])
def test_rows_alone_count_in_parts_and_in_one(has_bias, monkeypatch):
    monkeypatch.setattr(spectrum, "_ROWS_AT_ONCE", 7)
    chooser = np.random.default_rng(4)
    inputs, targets = chooser.normal(2.0, 1.0, (40, 5)), chooser.normal(1.0, 1.0, (40, 3))
    rows = chooser.permutation(40)[:23]
    ruined = inputs.copy()
    ruined[np.setdiff1d(np.arange(40), rows)] = np.nan
    found = sum_for_ridge(ruined, targets, rows=rows, has_bias=has_bias)
    expected = sum_for_ridge(inputs[rows], targets[rows], has_bias=has_bias)
    for name in ("covariance", "products", "input_mean", "target_mean"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=1e-9)
    assert found.bias_leverage == expected.bias_leverage
    x = inputs[rows] - (inputs[rows].mean(0) if has_bias else 0)
    np.testing.assert_allclose(found.covariance, x.T @ x, atol=1e-9)
