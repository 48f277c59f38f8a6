"""Where a static student starts: weights and axes by hand, and tokens that nothing is known of."""

from __future__ import annotations

import numpy as np
import pytest

from leafkit.models.static_init import SIF, context_vectors, count_tokens, start_table


def test_counts():
    assert count_tokens(
        [np.array([1, 1, 3]), np.array([], dtype=np.int32), np.array([3])], 5
    ).tolist() == [0, 2, 0, 2, 0]


def test_weights_mean_and_axes_by_hand():
    # every token counts once more: 3 and 1 of 4
    vectors, counts = (
        np.array([[2.0, 1.0], [0.0, 1.0]]),
        np.array([2, 0]),
    )
    start = start_table(vectors, counts, 1)
    assert start.bias.tolist() == pytest.approx([1.5, 1.0])
    assert np.abs(start.weight).tolist() == [pytest.approx([1.0, 0.0], abs=1e-6)]
    weights = [SIF / (SIF + 0.75), SIF / (SIF + 0.25)]
    rows = start.table @ start.weight
    assert rows == pytest.approx(
        np.array([[0.5 * weights[0], 0], [-1.5 * weights[1], 0]]), abs=1e-7
    )


def test_full_width_keeps_everything_but_the_weights():
    vectors = np.random.default_rng(0).normal(size=(40, 6))
    counts = np.arange(40)
    start = start_table(vectors, counts, 6)
    share = (counts + 1) / (counts + 1).sum()
    weights = (SIF / (SIF + share))[:, None]
    assert np.allclose(start.table @ start.weight / weights + start.bias, vectors, atol=1e-5)
    assert np.allclose(start.weight @ start.weight.T, np.eye(6), atol=1e-6)


def test_a_narrow_table_is_the_best_of_its_rank():
    vectors = np.random.default_rng(1).normal(size=(40, 6)) * [5, 4, 1, 0.5, 0.1, 0.1]
    counts = np.ones(40, dtype=int)
    start = start_table(vectors, counts, 2)
    weight = SIF / (SIF + 1 / 40)
    lost = np.square(start.table @ start.weight / weight + start.bias - vectors).sum()
    assert lost == pytest.approx(
        np.square(np.linalg.svd(vectors - vectors.mean(axis=0))[1][2:]).sum(), rel=1e-4
    )


def test_wider_than_the_space_is_padded_with_zeros():
    start = start_table(np.random.default_rng(2).normal(size=(10, 3)), np.ones(10), 5)
    assert start.table.shape == (10, 5)
    assert start.weight.shape == (5, 3)
    assert not start.table[:, 3:].any()
    assert not start.weight[3:].any()


def test_tokens_without_a_vector_start_at_the_mean_and_change_nothing_else():
    vectors = np.random.default_rng(3).normal(size=(12, 4))
    counts = np.arange(12)
    holed = vectors.copy()
    holed[5] = np.nan
    start = start_table(holed, counts, 4)
    assert not start.table[5].any()
    known = np.arange(12) != 5
    share = (counts + 1)[known] / (counts + 1)[known].sum()
    assert np.allclose(start.bias, share @ vectors[known], atol=1e-6)
    nothing = start_table(np.full((3, 2), np.nan), np.ones(3), 2)
    assert np.isfinite(nothing.weight).all()
    assert not nothing.table.any()
    assert not nothing.bias.any()


def test_context_vectors_by_hand():
    texts = [np.array([0, 2, 2]), np.array([2]), np.array([], dtype=np.int64)]
    vectors = np.array([[3.0, 0.0], [0.0, 3.0], [0.0, 0.0]], dtype=np.float32)  # mean (1, 1)
    found = context_vectors([(texts[:1], vectors[:1]), (texts[1:], vectors[1:])], 4, 2)
    assert found[0].tolist() == [2.0, 0.5]  # ((3, 0) + (1, 1)) / 2
    # a token that a text holds twice counts once
    assert found[2].tolist() == pytest.approx([4 / 3, 4 / 3])
    assert np.isnan(found[[1, 3]]).all()
