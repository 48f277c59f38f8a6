"""Inverted lists: documents lie with the nearest of many centroids, and a query looks into a few
lists.
"""

from __future__ import annotations

from math import log2, sqrt
from typing import Any

import faiss

from leafkit.config import IndexConfig
from leafkit.index.kinds.kind import IndexKind, Problem


def choose_lists(config: IndexConfig, num_documents: int) -> int:
    """Clusters of the IVF kinds: those given, else the power of two nearest to 4 sqrt(N), but no
    more than documents.
    """
    return config.num_lists or min(num_documents, 2 ** round(log2(4 * sqrt(num_documents))))


class IvfFlat(IndexKind):
    """float32 vectors in lists; clusters are found on the sphere."""

    name = "ivf_flat"
    parameter = "num_probes"
    faiss_parameter = "nprobe"
    faiss_class = "IndexIVFFlat"
    has_gpu_form = True

    def factory(self, config: IndexConfig, num_documents: int, dim: int) -> str:
        """See ``IndexKind``."""
        return f"IVF{choose_lists(config, num_documents)},Flat"

    def settings(self, config: IndexConfig, num_documents: int) -> list[int]:
        """Lists looked into, all of them at most."""
        num_lists = choose_lists(config, num_documents)
        return [min(probes, num_lists) for probes in config.num_probes]

    def num_clusters(self, config: IndexConfig, num_documents: int) -> int:
        """See ``IndexKind``."""
        return choose_lists(config, num_documents)

    def problems(self, config: IndexConfig, num_documents: int, dim: int) -> list[Problem]:
        """See ``IndexKind``."""
        if config.num_lists <= num_documents:
            return []
        text = (
            f"bench.indexes.num_lists={config.num_lists} is more than the {num_documents:,} "
            f"documents"
        )
        return [Problem(text)]

    def warnings(self, config: IndexConfig, num_documents: int) -> list[str]:
        """See ``IndexKind``."""
        num_lists = choose_lists(config, num_documents)
        clipped = [probes for probes in config.num_probes if probes > num_lists]
        if not clipped:
            return []
        named = ", ".join(map(str, clipped))
        return [f"num_probes {named}: there are {num_lists} lists, all of them are looked into"]

    def clusterings(self, index: Any) -> list[Any]:
        """See ``IndexKind``."""
        return [self.lists_of(index).cp]

    def lists_of(self, index: Any) -> Any:
        """faiss's IVF index, which a transform of the vectors may stand before."""
        return faiss.downcast_index(faiss.extract_index_ivf(index))
