"""Randomly rotated vectors in lists, a bit per dimension (Gao and Long, arXiv 2405.12497)."""

from __future__ import annotations

from leafkit.config import IndexConfig
from leafkit.index.kinds.ivf import IvfFlat, choose_lists


class RaBitQ(IvfFlat):
    """Bits of what the centroid leaves, with a correction of the estimated distance; the rotation
    starts from faiss's own constant.
    """

    name = "rabitq"
    faiss_class = "IndexPreTransform"
    needs = "IndexIVFRaBitQ"
    has_gpu_form = False

    def factory(self, config: IndexConfig, num_documents: int, dim: int) -> str:
        """See ``IndexKind``."""
        return f"RR{dim},IVF{choose_lists(config, num_documents)},RaBitQ"
