"""Exact search through faiss."""

from __future__ import annotations

from dataclasses import dataclass

import faiss
import numpy as np


@dataclass(frozen=True, slots=True)
class Ranking:
    """The best documents of each query: positions and scores, (queries, k), best first; -1 fills where there are fewer."""

    positions: np.ndarray
    scores: np.ndarray


def search_flat(queries: np.ndarray, documents: np.ndarray, k: int) -> Ranking:
    """Exact maximum inner product search.

    Args:
        queries: (Q, D) float32.
        documents: (N, D) float32.
        k: results per query; N where that is less.
    """
    index = faiss.IndexFlatIP(documents.shape[1])
    index.add(np.ascontiguousarray(documents, dtype=np.float32))
    scores, positions = index.search(np.ascontiguousarray(queries, dtype=np.float32), min(k, len(documents)))
    return Ranking(positions, scores)


def search_binary(queries: np.ndarray, documents: np.ndarray, k: int) -> Ranking:
    """Exact Hamming search; scores are minus the number of different bits.

    Args:
        queries: (Q, D / 8) uint8, packed bits.
        documents: (N, D / 8) uint8, packed bits.
        k: results per query; N where that is less.
    """
    index = faiss.IndexBinaryFlat(documents.shape[1] * 8)
    index.add(np.ascontiguousarray(documents))
    distances, positions = index.search(np.ascontiguousarray(queries), min(k, len(documents)))
    return Ranking(positions, -distances.astype(np.float32))


def nearest_others(vectors: np.ndarray, k: int) -> np.ndarray:
    """(n, k) positions of the nearest other rows, nearest first."""
    found = search_flat(vectors, vectors, k + 1).positions
    rows = np.arange(len(vectors))[:, None]
    is_self = found == rows
    is_self[~is_self.any(axis=1), -1] = True  # a duplicate pushed the row itself out: drop the last instead
    return found[~is_self].reshape(len(vectors), -1)
