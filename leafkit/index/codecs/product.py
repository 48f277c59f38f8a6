"""Product quantisation: groups of dimensions as the numbers of centroids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np

NUM_CENTROIDS = 256  # one byte each


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


def train_product(sample: np.ndarray, groups: int, seed: int) -> Product:
    """PQ trained on (n, D) float32 document vectors, n >= 256; the same seed gives the same
    centroids.
    """
    quantizer = faiss.ProductQuantizer(sample.shape[1], groups, 8)
    quantizer.cp.seed = seed % 2**31
    quantizer.cp.min_points_per_centroid = 1  # faiss would write to the terminal below 39
    quantizer.train(np.ascontiguousarray(sample))
    return Product(quantizer)


def pq_groups(dim: int, pq_bytes: int) -> int:
    """Bytes of a PQ code: ``pq_bytes``, or for 0 a bit per dimension, fewer where that many groups
    do not come out even.
    """
    if pq_bytes:
        return pq_bytes
    return next(groups for groups in range(max(1, dim // 8), 0, -1) if dim % groups == 0)
