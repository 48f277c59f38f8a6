"""A navigable graph over the documents (Malkov and Yashunin, arXiv 1603.09320)."""

from __future__ import annotations

from leafkit.config import IndexConfig
from leafkit.index.kinds.kind import IndexKind, Problem


class Hnsw(IndexKind):
    """Hierarchical navigable small world; its graph is linked with the inner product.

    Several threads link a graph in the order in which they happen to run, so that only one builds
    it alike each time. The levels start from faiss's own constant.
    """

    name = "hnsw"
    parameter = "ef_search"
    faiss_parameter = "efSearch"
    faiss_class = "IndexHNSWFlat"
    is_serial = True

    def factory(self, config: IndexConfig, num_documents: int, dim: int) -> str:
        """See ``IndexKind``."""
        return f"HNSW{config.hnsw_links}"

    def settings(self, config: IndexConfig, num_documents: int) -> list[int]:
        """Candidates kept while searching."""
        return config.ef_search

    def problems(self, config: IndexConfig, num_documents: int, dim: int) -> list[Problem]:
        """See ``IndexKind``."""
        if config.hnsw_links >= 2:
            return []
        text = (
            f"bench.indexes.hnsw_links={config.hnsw_links} is below 2, which no graph holds "
            f"together with"
        )
        return [Problem(text)]
