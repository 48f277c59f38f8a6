"""A byte per dimension, searched exhaustively."""

from __future__ import annotations

from leafkit.config import IndexConfig
from leafkit.index.kinds.kind import IndexKind

_NUM_STEPS = 256  # between the ends of a dimension's range


class Int8(IndexKind):
    """faiss's scalar quantiser: each dimension's trained range in 255 steps."""

    name = "int8"
    faiss_class = "IndexScalarQuantizer"

    def factory(self, config: IndexConfig, num_documents: int, dim: int) -> str:
        """See ``IndexKind``."""
        return "SQ8"

    def num_clusters(self, config: IndexConfig, num_documents: int) -> int:
        """As many documents find the ranges as would train so many codewords."""
        return _NUM_STEPS
