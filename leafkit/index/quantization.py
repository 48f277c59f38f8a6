"""Codes of vectors, as pure functions: steps of a linear scale, two steps to a byte, one bit per
dimension.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class LinearScale:
    """Per-dimension scale: value = low + code * step, code = 0 ... num_steps.

    Attributes:
        low: (D,) float32 value of code 0.
        step: (D,) float32 width of a step; 1 where the calibrated range is empty.
        num_steps: between the lowest code and the highest: 255 fill a byte, 15 half of one.
    """

    low: np.ndarray
    step: np.ndarray
    num_steps: int


def linear_scale(low: np.ndarray, high: np.ndarray, num_steps: int) -> LinearScale:
    """The scale whose first and last codes are ``low`` and ``high``, both (D,). Calibrate on
    documents, never on queries.
    """
    step = ((high - low) / np.float32(num_steps)).astype(np.float32)
    return LinearScale(low.astype(np.float32), np.where(step > 0, step, np.float32(1)), num_steps)


def to_codes(vectors: np.ndarray, scale: LinearScale) -> np.ndarray:
    """(n, D) float32 whole numbers 0 ... num_steps, each the nearest code.

    Values outside the calibrated range saturate; wrapped, they would change sign.
    ``sentence_transformers.quantize_embeddings`` has the same ranges and steps but takes the code
    below (it floors): half of its codes are one lower than these, and a value restored from one is
    off by up to a whole step where these are off by half of one.
    """
    codes = np.subtract(vectors, scale.low, dtype=np.float32)
    np.divide(codes, scale.step, out=codes)
    np.rint(codes, out=codes)
    np.maximum(codes, 0, out=codes)
    return np.minimum(codes, scale.num_steps, out=codes)


def from_codes(codes: np.ndarray, scale: LinearScale) -> np.ndarray:
    """(n, D) float32 values of codes of any number type."""
    values = np.multiply(codes, scale.step, dtype=np.float32)
    return np.add(values, scale.low, out=values)


def pack_nibbles(codes: np.ndarray) -> np.ndarray:
    """(n, ceil(D / 2)) uint8 out of (n, D) codes 0 ... 15: the first of two in the upper four bits,
    0 fills the last byte.
    """
    whole = codes.astype(np.uint8)
    if whole.shape[1] % 2:
        whole = np.pad(whole, ((0, 0), (0, 1)))
    return (whole[:, 0::2] << 4) | whole[:, 1::2]


def unpack_nibbles(packed: np.ndarray, dim: int) -> np.ndarray:
    """(n, dim) uint8 codes 0 ... 15 out of what ``pack_nibbles`` gave."""
    codes = np.empty((len(packed), 2 * packed.shape[1]), dtype=np.uint8)
    codes[:, 0::2], codes[:, 1::2] = packed >> 4, packed & 15
    return codes[:, :dim]


def quantize_binary(vectors: np.ndarray) -> np.ndarray:
    """(n, ceil(D / 8)) uint8: one bit per dimension, set where the value is above 0; the last byte
    is filled with zeros.
    """
    return np.packbits(vectors > 0, axis=1)


def restore_binary(packed: np.ndarray, dim: int) -> np.ndarray:
    """(n, dim) float32: 1 where the bit is set, else -1."""
    bits = np.unpackbits(packed, axis=1, count=dim)
    return bits.astype(np.float32) * 2 - 1
