"""int8 and binary codes: by hand, at the edges, and beside sentence-transformers."""

from __future__ import annotations

import numpy as np
import pytest

from leafkit.inherit.quantise import Int8Scale, calibrate_int8, quantise_binary, quantise_int8, restore_int8

SCALE = Int8Scale(np.array([0.0, -1.0], dtype=np.float32), np.array([1.0, 2 / 255], dtype=np.float32))
VECTORS = np.random.default_rng(0).normal(size=(300, 24)).astype(np.float32)


def test_a_case_by_hand():
    codes = quantise_int8(np.array([[0.0, -1.0], [255.0, 1.0], [128.4, 0.0], [128.6, 0.0]], dtype=np.float32), SCALE)
    assert codes.dtype == np.int8
    assert codes[:, 0].tolist() == [-128, 127, 0, 1]
    assert codes[:2, 1].tolist() == [-128, 127]
    assert restore_int8(codes, SCALE)[:, 0].tolist() == [0.0, 255.0, 128.0, 129.0]


@pytest.mark.parametrize("far", [1.1, 3.0, 100.0, 1e30])
def test_values_outside_the_range_saturate_and_never_wrap(far):
    """Wrapped, a value just above the range would become the smallest code: the other sign."""
    scale = calibrate_int8(np.array([[-1.0], [1.0]], dtype=np.float32))
    codes = quantise_int8(np.array([[far], [-far]], dtype=np.float32), scale)
    assert codes.tolist() == [[127], [-128]]
    assert restore_int8(codes, scale)[:, 0].tolist() == pytest.approx([1.0, -1.0], abs=1e-6)


def test_calibration_spans_each_dimensions_own_range():
    scale = calibrate_int8(VECTORS)
    codes = quantise_int8(VECTORS, scale)
    assert (codes.min(axis=0) == -128).all()
    assert (codes.max(axis=0) == 127).all()


def test_restored_values_are_within_half_a_step():
    scale = calibrate_int8(VECTORS)
    assert (np.abs(restore_int8(quantise_int8(VECTORS, scale), scale) - VECTORS) <= 0.5001 * scale.step + 1e-6).all()


def test_codes_keep_their_order():
    scale = calibrate_int8(VECTORS)
    order = np.argsort(VECTORS[:, 3], kind="stable")
    assert (np.diff(quantise_int8(VECTORS, scale)[order, 3].astype(int)) >= 0).all()


def test_a_dimension_that_never_varies_is_restored_exactly():
    constant = VECTORS.copy()
    constant[:, 5] = 0.25
    scale = calibrate_int8(constant)
    restored = restore_int8(quantise_int8(constant, scale), scale)
    assert np.isfinite(restored).all()
    assert (restored[:, 5] == 0.25).all()


def test_int8_codes_are_those_of_sentence_transformers_up_to_the_rounding():
    """Same ranges and steps. sentence-transformers floors, leafkit rounds to the nearest: half of the codes are one higher."""
    quantize = pytest.importorskip("sentence_transformers.util").quantize_embeddings
    ranges = np.stack([VECTORS.min(axis=0), VECTORS.max(axis=0)])
    others = 1.5 * VECTORS[::-1]  # partly outside the ranges
    scale = calibrate_int8(VECTORS)
    theirs, mine = quantize(others, precision="int8", ranges=ranges).astype(int), quantise_int8(others, scale).astype(int)
    assert set(np.unique(mine - theirs)) == {0, 1}
    assert 0.3 < (mine - theirs).mean() < 0.6
    floored = np.clip(np.floor((others - scale.low) / scale.step) - 128, -128, 127)
    assert (np.abs(floored - theirs) > 0).mean() < 1e-3


def test_binary_codes_are_those_of_sentence_transformers():
    quantize = pytest.importorskip("sentence_transformers.util").quantize_embeddings
    codes = quantise_binary(VECTORS)
    assert np.array_equal(codes, quantize(VECTORS, precision="ubinary"))
    assert np.array_equal(codes.astype(int) - 128, quantize(VECTORS, precision="binary"))


def test_bits_by_hand():
    codes = quantise_binary(np.array([[1.0, -1.0, 0.0, 2.0, -0.1, 0.1, -3.0, 1e-9, 5.0]]))
    assert codes.dtype == np.uint8
    assert codes.tolist() == [[0b10010101, 0b10000000]]
