"""A bit per dimension."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from leafkit.index.quantization import quantize_binary, restore_binary


@dataclass(frozen=True, slots=True)
class Binary:
    """Sign bits; restored as +1 and -1. Quantised queries are compared by Hamming distance, float
    ones by inner product.
    """

    dim: int
    is_elementwise = True

    @property
    def bytes_per_vector(self) -> int:
        """An eighth per dimension."""
        return (self.dim + 7) // 8

    @property
    def length(self) -> float:
        """Of D numbers that are 1 or -1."""
        return math.sqrt(self.dim)

    def encode(self, vectors: np.ndarray) -> np.ndarray:
        """(n, ceil(D / 8)) uint8."""
        return quantize_binary(vectors)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """(n, D) float32 of 1 and -1."""
        return restore_binary(codes, self.dim)

    def round_trip(self, vectors: np.ndarray) -> np.ndarray:
        """See ``Codec``."""
        signs = np.multiply(vectors > 0, np.float32(2), dtype=np.float32)
        return np.subtract(signs, 1, out=signs)

    def scale(self) -> dict[str, np.ndarray]:
        """Nothing was fitted."""
        return {}
