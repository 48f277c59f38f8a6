"""Clustered unit vectors, noisy queries, and every kind of index that this faiss has."""

from __future__ import annotations

from dataclasses import replace

import faiss
import numpy as np

from leafkit.config import INDEX_KINDS, IndexConfig
from leafkit.index.build import VectorIndex, build_index
from leafkit.index.kinds.registry import plan_indexes

DIM, NUM_DOCUMENTS, NUM_QUERIES = 32, 1500, 60
KINDS = [kind for kind in INDEX_KINDS if kind != "rabitq" or hasattr(faiss, "IndexIVFRaBitQ")]
CONFIG = IndexConfig(
    kinds=KINDS,
    hnsw_links=8,
    ef_search=[10, 40, 160],
    num_lists=16,
    num_probes=[1, 4, 16],
    code_bytes=8,
)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows of length one, float32."""
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def make_documents(count: int = NUM_DOCUMENTS, dim: int = DIM, seed: int = 0) -> np.ndarray:
    """(count, dim) around 30 centres."""
    generator = np.random.default_rng(seed)
    centers = generator.normal(size=(30, dim))
    return unit(
        centers[generator.integers(30, size=count)] + 0.7 * generator.normal(size=(count, dim))
    )


def make_queries(
    documents: np.ndarray, noise: float = 0.1, count: int = NUM_QUERIES, seed: int = 1
) -> np.ndarray:
    """(count, dim): the first documents, moved by noise of this deviation per component."""
    generator = np.random.default_rng(seed)
    return unit(documents[:count] + noise * generator.normal(size=(count, documents.shape[1])))


def sort_exactly(queries: np.ndarray, documents: np.ndarray, k: int) -> np.ndarray:
    """(Q, k) positions by inner product in float64, best first."""
    return np.argsort(
        -(queries.astype(np.float64) @ documents.astype(np.float64).T), axis=1, kind="stable"
    )[:, :k]


def make_index(
    documents: np.ndarray, kind: str, config: IndexConfig = CONFIG, seed: int = 0
) -> VectorIndex:
    """One kind."""
    plan = plan_indexes(replace(config, kinds=[kind]), len(documents), documents.shape[1])[0]
    return build_index(documents, plan, seed)
