"""Vectors as floats of 32 or 16 bits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

LARGEST_FLOAT16 = float(np.finfo(np.float16).max)


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
        """See ``Codec``; torch converts faster than numpy."""
        clipped = np.clip(vectors, -LARGEST_FLOAT16, LARGEST_FLOAT16, dtype=np.float32)
        return torch.from_numpy(clipped).half().float().numpy()

    def scale(self) -> dict[str, np.ndarray]:
        """Nothing was fitted."""
        return {}
