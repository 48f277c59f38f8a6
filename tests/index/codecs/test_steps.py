"""Codes of 8 and 4 bits by hand."""

from __future__ import annotations

import numpy as np
import pytest

from leafkit.index.codecs.steps import Int4, Int8, Int8Fixed
from leafkit.index.quantization import linear_scale


def test_int8_by_hand():
    codec = Int8(linear_scale(np.float32([0, -1]), np.float32([255, 1]), 255))
    codes = codec.encode(np.float32([[0, -1], [255, 1], [128.4, 0], [300, 5], [-7, -5]]))
    assert codes.dtype == np.int8
    assert codes[:, 0].tolist() == [-128, 127, 0, 127, -128]
    assert codes[[0, 1, 3, 4], 1].tolist() == [-128, 127, 127, -128]
    assert codec.decode(codes)[:, 0].tolist() == [0, 255, 128, 255, 0]


def test_int8_fixed_by_hand():
    """Symmetric: zero is a code, and a value and its negative have opposite codes."""
    codec = Int8Fixed(6, 0.254)  # a step is .002
    codes = codec.encode(np.float32([[0, 0.002, -0.002, 0.254, 0.3, -9]]))
    assert codes.dtype == np.int8
    assert codes.tolist() == [[0, 1, -1, 127, 127, -127]]
    assert codec.decode(codes)[0].tolist() == pytest.approx(
        [0, 0.002, -0.002, 0.254, 0.254, -0.254], abs=1e-7
    )


def test_int4_by_hand():
    codec = Int4(linear_scale(np.zeros(5, np.float32), np.full(5, 15, np.float32), 15))
    codes = codec.encode(np.float32([[0, 15, 7.4, 7.6, 99]]))
    assert codes.tolist() == [[0x0F, 0x78, 0xF0]]
    assert codec.decode(codes).tolist() == [[0, 15, 7, 8, 15]]
