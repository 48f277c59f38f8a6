"""A bit per dimension, compared by Hamming distance, also with the best candidates scored again."""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np

from leafkit.config import IndexConfig
from leafkit.index.kinds.kind import IndexKind
from leafkit.index.quantization import quantize_binary
from leafkit.index.ranking import Ranking
from leafkit.index.rescoring import rescore
from leafkit.index.vectors import Vectors


class Binary(IndexKind):
    """The signs of the components, whatever the length; scores are minus the number of different
    bits.
    """

    name = "binary"
    faiss_class = "IndexBinaryFlat"
    is_binary = True
    has_gpu_form = True

    def factory(self, config: IndexConfig, num_documents: int, dim: int) -> str:
        """See ``IndexKind``; for ``index_binary_factory``."""
        return "BFlat"

    def make(self, factory: str, dim: int) -> Any:
        """See ``IndexKind``."""
        return faiss.index_binary_factory(-(-dim // 8) * 8, factory)

    def add(self, index: Any, documents: np.ndarray) -> None:
        """See ``IndexKind``."""
        index.add(quantize_binary(documents))

    def search(
        self,
        index: Any,
        queries: np.ndarray,
        k: int,
        *,
        setting: int,
        on_gpu: bool = False,
        documents: Vectors | None = None,
    ) -> Ranking:
        """See ``IndexKind``."""
        distances, positions = index.search(quantize_binary(queries), k)
        return Ranking(positions, -distances.astype(np.float32))


class BinaryRescored(Binary):
    """Candidates by Hamming distance, ranked by the inner product with their float vectors."""

    name = "binary_rescored"
    parameter = "rescore_factor"
    has_gpu_form = False

    def settings(self, config: IndexConfig, num_documents: int) -> list[int]:
        """Candidates, as a multiple of k."""
        return config.rescore_factors

    def search(
        self,
        index: Any,
        queries: np.ndarray,
        k: int,
        *,
        setting: int,
        on_gpu: bool = False,
        documents: Vectors | None = None,
    ) -> Ranking:
        """See ``IndexKind``; the candidates' vectors are read from ``documents``."""
        if documents is None:
            raise ValueError(f"{self.name} needs the documents")
        _, positions = index.search(quantize_binary(queries), min(setting * k, index.ntotal))
        return rescore(queries, documents, positions, k)
