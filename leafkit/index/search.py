"""Searching an index of any kind.

Shapes: Q queries, N documents, D dimensions.
"""

from __future__ import annotations

import numpy as np

from leafkit.index.build import VectorIndex
from leafkit.index.ranking import Ranking
from leafkit.index.vectors import Vectors


def search_index(
    built: VectorIndex,
    queries: np.ndarray,
    k: int,
    setting: int,
    *,
    documents: Vectors | None = None,
) -> Ranking:
    """The best documents of each query; the scores of binary codes are minus the number of
    different bits.

    Args:
        built: the index; its search parameter is left at ``setting``.
        queries: (Q, D) float32.
        k: results per query; N where that is less.
        setting: one of ``built.plan.settings``.
        documents: what the index was built of; binary_rescored reads its candidates' vectors there.

    Raises:
        ValueError: binary_rescored without documents.
    """
    return built.plan.about.search(
        built.index,
        queries,
        min(k, built.num_documents),
        setting=setting,
        on_gpu=built.device != "cpu",
        documents=documents,
    )
