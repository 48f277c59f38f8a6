"""Inverted lists of product-quantised vectors (Jegou et al. 2011), also after a learned rotation
(OPQ; Ge et al. 2013).
"""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np

from leafkit.config import IndexConfig
from leafkit.index.kinds.ivf import IvfFlat, choose_lists
from leafkit.index.kinds.kind import FEW_PER_CLUSTER, Problem

NUM_CODEWORDS = 256  # of a codebook, 8 bits
OPQ_ITERATIONS = 20  # faiss takes 50, for the same recall in more than twice the time


def choose_code_bytes(config: IndexConfig, dim: int) -> int:
    """Bytes of a PQ code: those given, else the largest divisor of D up to D / 8, a bit per
    dimension.
    """
    return config.code_bytes or max(m for m in range(1, max(1, dim // 8) + 1) if dim % m == 0)


class IvfPq(IvfFlat):
    """A codeword for each group of dimensions of what the centroid leaves."""

    name = "ivf_pq"
    faiss_class = "IndexIVFPQ"
    has_pq_tables = True

    def factory(self, config: IndexConfig, num_documents: int, dim: int) -> str:
        """np: no polysemous training, which only a search by Hamming distance would use."""
        return f"IVF{choose_lists(config, num_documents)},PQ{choose_code_bytes(config, dim)}x8np"

    def num_clusters(self, config: IndexConfig, num_documents: int) -> int:
        """See ``IndexKind``."""
        return max(NUM_CODEWORDS, choose_lists(config, num_documents))

    def problems(self, config: IndexConfig, num_documents: int, dim: int) -> list[Problem]:
        """See ``IndexKind``."""
        found = super().problems(config, num_documents, dim)
        if num_documents < NUM_CODEWORDS:
            text = f"needs {NUM_CODEWORDS} documents to train on, there are {num_documents}"
            found.append(Problem(text, names_kinds=True))
        if dim % choose_code_bytes(config, dim):
            divisors = [m for m in range(1, dim + 1) if dim % m == 0]
            nearest = sorted(sorted(divisors, key=lambda m: abs(m - config.code_bytes))[:3])
            text = (
                f"bench.indexes.code_bytes={config.code_bytes} does not divide the {dim} "
                f"dimensions; {', '.join(map(str, nearest))} do"
            )
            found.append(Problem(text))
        return found

    def warnings(self, config: IndexConfig, num_documents: int) -> list[str]:
        """See ``IndexKind``."""
        found = super().warnings(config, num_documents)
        if num_documents < FEW_PER_CLUSTER * NUM_CODEWORDS:
            found.append(
                f"PQ codebooks of {NUM_CODEWORDS} are trained on {num_documents:,} documents; "
                f"faiss recommends {FEW_PER_CLUSTER * NUM_CODEWORDS:,}"
            )
        return found

    def clusterings(self, index: Any) -> list[Any]:
        """See ``IndexKind``."""
        lists = self.lists_of(index)
        return [lists.cp, lists.pq.cp]


class Opq(IvfPq):
    """PQ after a rotation that is fitted to it; the rotation starts from faiss's own constant."""

    name = "opq"
    faiss_class = "IndexPreTransform"

    def factory(self, config: IndexConfig, num_documents: int, dim: int) -> str:
        """See ``IndexKind``."""
        rotated = super().factory(config, num_documents, dim)
        return f"OPQ{choose_code_bytes(config, dim)},{rotated}"

    def train(self, index: Any, vectors: np.ndarray, seed: int) -> None:
        """See ``IndexKind``; the rotation's quantizer is faiss's own choice with our settings."""
        rotation: Any = faiss.downcast_VectorTransform(index.chain.at(0))
        quantizer = faiss.ProductQuantizer(rotation.d_out, rotation.M, 8)
        quantizer.cp.seed, quantizer.cp.min_points_per_centroid = seed % 2**31, 1
        rotation.pq, rotation.niter, rotation.niter_pq_0 = quantizer, OPQ_ITERATIONS, OPQ_ITERATIONS
        super().train(index, vectors, seed)
        rotation.pq = None  # it does not own it
