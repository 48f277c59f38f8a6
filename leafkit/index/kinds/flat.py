"""Every document compared with every query: exact."""

from __future__ import annotations

from leafkit.index.kinds.kind import IndexKind


class Flat(IndexKind):
    """float32 vectors, as they are."""

    has_gpu_form = True
