"""Searching the compared indexes.

Shapes: Q queries, N documents, D dimensions.
"""

from __future__ import annotations

import faiss
import numpy as np

from leafkit.index.build import VectorIndex
from leafkit.index.quantization import quantize_binary
from leafkit.index.ranking import Ranking
from leafkit.index.rescoring import rescore
from leafkit.index.vectors import Vectors

_FAISS_PARAMETERS = {"ef_search": "efSearch", "num_probes": "nprobe"}


def search_index(
    built: VectorIndex, queries: np.ndarray, k: int, setting: int, documents: Vectors | None = None
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
    k, plan = min(k, built.num_documents), built.plan
    if plan.kind == "binary_rescored":
        if documents is None:
            raise ValueError("binary_rescored needs the documents")
        _, positions = built.index.search(
            quantize_binary(queries), min(setting * k, built.num_documents)
        )
        return rescore(queries, documents, positions, k)
    if plan.is_binary:
        distances, positions = built.index.search(quantize_binary(queries), k)
        return Ranking(positions, -distances.astype(np.float32))
    if plan.parameter:
        space = faiss.ParameterSpace() if built.device == "cpu" else faiss.GpuParameterSpace()
        space.set_index_parameter(built.index, _FAISS_PARAMETERS[plan.parameter], setting)
    scores, positions = built.index.search(queries, k)
    return Ranking(positions, scores)
