"""Values as whole numbers of steps of 8 bits, with a scale per dimension or one for all, or 4."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from leafkit.index.quantization import (
    LinearScale,
    from_codes,
    pack_nibbles,
    to_codes,
    unpack_nibbles,
)


@dataclass(frozen=True, slots=True)
class Int8:
    """Per-dimension calibrated: 255 steps between each dimension's smallest and largest value;
    codes -128 ... 127.
    """

    linear: LinearScale
    length = 1.0
    is_elementwise = True

    @property
    def bytes_per_vector(self) -> int:
        """One per dimension."""
        return len(self.linear.low)

    def encode(self, vectors: np.ndarray) -> np.ndarray:
        """(n, D) int8."""
        return (to_codes(vectors, self.linear) - 128).astype(np.int8)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """(n, D) float32: low + (code + 128) * step."""
        return from_codes(codes.astype(np.float32) + 128, self.linear)

    def round_trip(self, vectors: np.ndarray) -> np.ndarray:
        """See ``Codec``."""
        return from_codes(to_codes(vectors, self.linear), self.linear)

    def scale(self) -> dict[str, np.ndarray]:
        """low and step, (D,)."""
        return {"low": self.linear.low, "step": self.linear.step}


@dataclass(frozen=True, slots=True)
class Int8Fixed:
    """One symmetric range for all dimensions: value = code * range / 127, codes -127 ... 127.

    Zero stays zero and inner products of codes are proportional to those of the values, which is
    what vector databases with a byte type compute. sentence-transformers given the ranges +-range
    spreads 255 steps over them instead, so that zero falls between two codes.
    """

    dim: int
    limit: float
    length = 1.0
    is_elementwise = True

    @property
    def bytes_per_vector(self) -> int:
        """One per dimension."""
        return self.dim

    def encode(self, vectors: np.ndarray) -> np.ndarray:
        """(n, D) int8."""
        return self._steps(vectors).astype(np.int8)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """(n, D) float32."""
        return np.multiply(codes, np.float32(self.limit / 127), dtype=np.float32)

    def round_trip(self, vectors: np.ndarray) -> np.ndarray:
        """See ``Codec``."""
        return self.decode(self._steps(vectors))

    def scale(self) -> dict[str, np.ndarray]:
        """range, a single number."""
        return {"range": np.float32(self.limit).reshape(1)}

    def _steps(self, vectors: np.ndarray) -> np.ndarray:
        steps = np.divide(vectors, np.float32(self.limit / 127), dtype=np.float32)
        np.rint(steps, out=steps)
        return np.clip(steps, -127, 127, out=steps)


@dataclass(frozen=True, slots=True)
class Int4:
    """Per-dimension calibrated: 15 steps, two dimensions to a byte."""

    linear: LinearScale
    length = 1.0
    is_elementwise = True

    @property
    def bytes_per_vector(self) -> int:
        """Half a byte per dimension."""
        return (len(self.linear.low) + 1) // 2

    def encode(self, vectors: np.ndarray) -> np.ndarray:
        """(n, ceil(D / 2)) uint8."""
        return pack_nibbles(to_codes(vectors, self.linear))

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """(n, D) float32."""
        return from_codes(unpack_nibbles(codes, len(self.linear.low)), self.linear)

    def round_trip(self, vectors: np.ndarray) -> np.ndarray:
        """See ``Codec``."""
        return from_codes(to_codes(vectors, self.linear), self.linear)

    def scale(self) -> dict[str, np.ndarray]:
        """low and step, (D,)."""
        return {"low": self.linear.low, "step": self.linear.step}
