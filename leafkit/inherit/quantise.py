"""int8 and binary vectors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Int8Scale:
    """Per-dimension linear scale: value = low + (code + 128) * step.

    Attributes:
        low: (D,) smallest calibration value of each dimension.
        step: (D,) width of one of the 255 steps; 1 where a dimension never varies.
    """

    low: np.ndarray
    step: np.ndarray


def calibrate_int8(documents: np.ndarray) -> Int8Scale:
    """Scale that spans each dimension's range over ``documents`` (N, D). Calibrate on documents, never on queries."""
    low, high = documents.min(axis=0), documents.max(axis=0)
    step = (high - low) / 255
    return Int8Scale(low, np.where(step > 0, step, 1).astype(np.float32))


def quantise_int8(vectors: np.ndarray, scale: Int8Scale) -> np.ndarray:
    """(n, D) int8 codes. Values outside the calibrated range saturate; wrapped, they would change sign."""
    codes = np.rint((vectors - scale.low) / scale.step) - 128
    return np.clip(codes, -128, 127).astype(np.int8)


def restore_int8(codes: np.ndarray, scale: Int8Scale) -> np.ndarray:
    """(n, D) float32 values of codes."""
    return (scale.low + (codes.astype(np.float32) + 128) * scale.step).astype(np.float32)


def quantise_binary(vectors: np.ndarray) -> np.ndarray:
    """(n, ceil(D / 8)) uint8: one bit per dimension, set where the value is above 0; the last byte is filled with zeros."""
    return np.packbits(vectors > 0, axis=1)
