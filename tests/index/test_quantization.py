"""Codes of linear scales, nibbles and bits: by hand, at the edges, and beside
sentence-transformers.
"""

from __future__ import annotations

import numpy as np
import pytest

from leafkit.index.quantization import (
    LinearScale,
    from_codes,
    linear_scale,
    pack_nibbles,
    quantize_binary,
    restore_binary,
    to_codes,
    unpack_nibbles,
)

SCALE = LinearScale(
    np.array([0.0, -1.0], dtype=np.float32), np.array([1.0, 2 / 255], dtype=np.float32), 255
)
VECTORS = np.random.default_rng(0).normal(size=(300, 24)).astype(np.float32)


def scale_of(vectors: np.ndarray, num_steps: int = 255) -> LinearScale:
    return linear_scale(vectors.min(axis=0), vectors.max(axis=0), num_steps)


def test_a_case_by_hand():
    codes = to_codes(
        np.array([[0.0, -1.0], [255.0, 1.0], [128.4, 0.0], [128.6, 0.0]], dtype=np.float32), SCALE
    )
    assert codes[:, 0].tolist() == [0, 255, 128, 129]
    assert codes[:2, 1].tolist() == [0, 255]
    assert from_codes(codes, SCALE)[:, 0].tolist() == [0.0, 255.0, 128.0, 129.0]


@pytest.mark.parametrize("num_steps", [255, 15])
@pytest.mark.parametrize("far", [1.1, 3.0, 100.0, 1e30, np.inf])
def test_values_outside_the_range_saturate_and_never_wrap(far, num_steps):
    """Wrapped, a value just above the range would become the smallest code: the other sign."""
    scale = scale_of(np.array([[-1.0], [1.0]], dtype=np.float32), num_steps)
    codes = to_codes(np.array([[far], [-far]], dtype=np.float32), scale)
    assert codes.tolist() == [[num_steps], [0]]
    assert from_codes(codes, scale)[:, 0].tolist() == pytest.approx([1.0, -1.0], abs=1e-6)


@pytest.mark.parametrize("num_steps", [255, 15])
def test_calibration_spans_each_dimensions_own_range(num_steps):
    codes = to_codes(VECTORS, scale_of(VECTORS, num_steps))
    assert (codes.min(axis=0) == 0).all()
    assert (codes.max(axis=0) == num_steps).all()


@pytest.mark.parametrize("num_steps", [255, 15])
def test_restored_values_are_within_half_a_step(num_steps):
    scale = scale_of(VECTORS, num_steps)
    assert (
        np.abs(from_codes(to_codes(VECTORS, scale), scale) - VECTORS) <= 0.5001 * scale.step + 1e-6
    ).all()


def test_codes_keep_their_order():
    order = np.argsort(VECTORS[:, 3], kind="stable")
    assert (np.diff(to_codes(VECTORS, scale_of(VECTORS))[order, 3]) >= 0).all()


def test_a_dimension_that_never_varies_is_restored_exactly():
    constant = VECTORS.copy()
    constant[:, 5] = 0.25
    scale = scale_of(constant)
    restored = from_codes(to_codes(constant, scale), scale)
    assert np.isfinite(restored).all()
    assert (restored[:, 5] == 0.25).all()


def test_int8_codes_are_those_of_sentence_transformers_up_to_the_rounding():
    """Same ranges and steps. sentence-transformers floors, leafkit rounds to the nearest: half of
    the codes are one higher.
    """
    quantize = pytest.importorskip("sentence_transformers.util").quantize_embeddings
    ranges = np.stack([VECTORS.min(axis=0), VECTORS.max(axis=0)])
    others = 1.5 * VECTORS[::-1]  # partly outside the ranges
    scale = scale_of(VECTORS)
    theirs, mine = (
        quantize(others, precision="int8", ranges=ranges).astype(int),
        to_codes(others, scale).astype(int) - 128,
    )
    assert set(np.unique(mine - theirs)) == {0, 1}
    assert 0.3 < (mine - theirs).mean() < 0.6
    floored = np.clip(np.floor((others - scale.low) / scale.step) - 128, -128, 127)
    assert np.array_equal(floored, theirs)


def test_binary_codes_are_those_of_sentence_transformers():
    quantize = pytest.importorskip("sentence_transformers.util").quantize_embeddings
    for vectors in (VECTORS, VECTORS[:, :13]):
        codes = quantize_binary(vectors)
        assert np.array_equal(codes, quantize(vectors, precision="ubinary"))
        assert np.array_equal(codes.astype(int) - 128, quantize(vectors, precision="binary"))


def test_bits_by_hand():
    codes = quantize_binary(np.array([[1.0, -1.0, 0.0, 2.0, -0.1, 0.1, -3.0, 1e-9, 5.0]]))
    assert codes.dtype == np.uint8
    assert codes.tolist() == [[0b10010101, 0b10000000]]
    assert restore_binary(codes, 9).tolist() == [[1, -1, -1, 1, -1, 1, -1, 1, 1]]


def test_nibbles_by_hand():
    codes = np.array([[0, 15, 7, 8, 9], [1, 2, 3, 4, 5]])
    packed = pack_nibbles(codes)
    assert packed.dtype == np.uint8
    assert packed.tolist() == [[0x0F, 0x78, 0x90], [0x12, 0x34, 0x50]]
    assert unpack_nibbles(packed, 5).tolist() == codes.tolist()


@pytest.mark.parametrize("dim", [1, 2, 7, 8, 33])
def test_packing_loses_nothing(dim):
    codes = np.random.default_rng(dim).integers(0, 16, size=(50, dim))
    assert np.array_equal(unpack_nibbles(pack_nibbles(codes), dim), codes)
    signs = np.where(codes > 7, 1.0, -1.0)
    assert np.array_equal(restore_binary(quantize_binary(signs), dim), signs)
