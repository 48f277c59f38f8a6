"""Searching the compared indexes, and exact search in blocks beside them.

Shapes: Q queries, N documents, D dimensions.
"""

from __future__ import annotations

import faiss
import numpy as np

from leafkit.index.build import VectorIndex, pack_signs, read_blocks
from leafkit.index.candidates import Vectors
from leafkit.index.exact import Ranking

_FAISS_PARAMETERS = {"ef_search": "efSearch", "num_probes": "nprobe"}
_RESCORE_ENTRIES = 2**25  # numbers gathered at a time when candidates are scored again: 128 MB


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
            pack_signs(queries), min(setting * k, built.num_documents)
        )
        return rescore(queries, documents, positions, k)
    if plan.is_binary:
        distances, positions = built.index.search(pack_signs(queries), k)
        return Ranking(positions, -distances.astype(np.float32))
    if plan.parameter:
        space = faiss.ParameterSpace() if built.device == "cpu" else faiss.GpuParameterSpace()
        space.set_index_parameter(built.index, _FAISS_PARAMETERS[plan.parameter], setting)
    scores, positions = built.index.search(queries, k)
    return Ranking(positions, scores)


def rescore(queries: np.ndarray, documents: Vectors, positions: np.ndarray, k: int) -> Ranking:
    """The best ``k`` of each query's candidates by their float32 inner product.

    Args:
        queries: (Q, D) float32.
        documents: (N, D).
        positions: (Q, c) candidates, c >= k; -1 where there is none.
        k: results per query.
    """
    scores = score_positions(queries, documents, positions)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return Ranking(
        np.take_along_axis(positions, order, axis=1), np.take_along_axis(scores, order, axis=1)
    )


def score_positions(queries: np.ndarray, documents: Vectors, positions: np.ndarray) -> np.ndarray:
    """(Q, c) float32 inner products of each query with its own documents; -inf where the position
    is -1.
    """
    out = np.empty(positions.shape, dtype=np.float32)
    rows = max(1, _RESCORE_ENTRIES // (positions.shape[1] * queries.shape[1]))
    for start in range(0, len(queries), rows):
        part = positions[start : start + rows]
        vectors = np.asarray(documents[np.maximum(part, 0).ravel()], dtype=np.float32).reshape(
            *part.shape, -1
        )
        out[start : start + rows] = np.matmul(vectors, queries[start : start + rows, :, None])[
            ..., 0
        ]
    out[positions < 0] = -np.inf
    return out


def search_exact(queries: np.ndarray, documents: Vectors, k: int) -> Ranking:
    """Exact maximum inner product search in the memory of one block of documents.

    Args:
        queries: (Q, D) float32.
        documents: (N, D).
        k: results per query, at most N.

    Raises:
        LeafkitError: a number is not finite.
    """
    heap = faiss.ResultHeap(len(queries), k, keep_max=True)
    for start, block in read_blocks(documents):
        scores, positions = faiss.knn(
            queries, block, min(k, len(block)), metric=faiss.METRIC_INNER_PRODUCT
        )
        heap.add_result(scores, positions + start)
    heap.finalize()
    return Ranking(heap.I, heap.D)
