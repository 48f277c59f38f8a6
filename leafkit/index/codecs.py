"""How stored vectors are written down: seven precisions, each fitted on documents alone, with its
scale at hand.

Shapes: n vectors of D dimensions, already cut to D and brought to length one. No codec ever sees a
    query while it is fitted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import faiss
import numpy as np
import torch

from leafkit.index.quantization import (
    LinearScale,
    from_codes,
    pack_nibbles,
    quantize_binary,
    restore_binary,
    to_codes,
    unpack_nibbles,
)

LARGEST_FLOAT16 = float(np.finfo(np.float16).max)


class Codec(Protocol):
    """One precision, fitted."""

    @property
    def bytes_per_vector(self) -> int:
        """Size of a stored vector."""

    @property
    def length(self) -> float:
        """Length that a restored vector has, about: scales the rounding of inner products."""

    @property
    def is_elementwise(self) -> bool:
        """Whether rows may be dealt to several threads; the others bring their own."""

    def encode(self, vectors: np.ndarray) -> np.ndarray:
        """(n, D) float32 -> (n, ...) what is stored."""

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """What is stored -> (n, D) float32."""

    def round_trip(self, vectors: np.ndarray) -> np.ndarray:
        """``decode(encode(vectors))`` without the codes in between, bit for bit."""

    def scale(self) -> dict[str, np.ndarray]:
        """What a database needs to write the same codes; empty where nothing was fitted."""


@dataclass(frozen=True, slots=True)
class Float32:
    """Vectors as they are."""

    dim: int
    length = 1.0
    is_elementwise = True

    @property
    def bytes_per_vector(self) -> int:
        """Four per dimension."""
        return 4 * self.dim

    def encode(self, vectors: np.ndarray) -> np.ndarray:
        """(n, D) float32."""
        return vectors.astype(np.float32, copy=False)

    decode = round_trip = encode

    def scale(self) -> dict[str, np.ndarray]:
        """Nothing was fitted."""
        return {}


@dataclass(frozen=True, slots=True)
class Float16:
    """Half precision; values beyond its range saturate instead of becoming infinite."""

    dim: int
    length = 1.0
    is_elementwise = True

    @property
    def bytes_per_vector(self) -> int:
        """Two per dimension."""
        return 2 * self.dim

    def encode(self, vectors: np.ndarray) -> np.ndarray:
        """(n, D) float16."""
        return np.clip(vectors, -LARGEST_FLOAT16, LARGEST_FLOAT16).astype(np.float16)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """(n, D) float32."""
        return codes.astype(np.float32)

    def round_trip(self, vectors: np.ndarray) -> np.ndarray:
        """See ``Codec``; torch converts ten times as fast as numpy."""
        clipped = np.clip(vectors, -LARGEST_FLOAT16, LARGEST_FLOAT16, dtype=np.float32)
        return torch.from_numpy(clipped).half().float().numpy()

    def scale(self) -> dict[str, np.ndarray]:
        """Nothing was fitted."""
        return {}


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


@dataclass(frozen=True, slots=True)
class Product:
    """Product quantisation (Jegou et al. 2011): each group of dimensions as the number of the
    nearest of 256 centroids.
    """

    quantizer: Any  # faiss.ProductQuantizer
    length = 1.0
    is_elementwise = False

    @property
    def bytes_per_vector(self) -> int:
        """One per group."""
        return int(self.quantizer.M)

    def encode(self, vectors: np.ndarray) -> np.ndarray:
        """(n, groups) uint8."""
        return self.quantizer.compute_codes(np.ascontiguousarray(vectors, dtype=np.float32))

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """(n, D) float32."""
        return self.quantizer.decode(codes)

    def round_trip(self, vectors: np.ndarray) -> np.ndarray:
        """See ``Codec``."""
        return self.decode(self.encode(vectors))

    def scale(self) -> dict[str, np.ndarray]:
        """centroids, (groups, 256, D / groups)."""
        quantizer = self.quantizer
        flat = faiss.vector_to_array(quantizer.centroids)
        return {"centroids": flat.reshape(quantizer.M, quantizer.ksub, quantizer.dsub)}
