"""Candidates scored again: the float32 query against the float documents of the same dimension."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from leafkit.core.truncate import truncate_then_normalize
from leafkit.evaluation.inheritance.streaming import Name
from leafkit.index.rescoring import score_pairs
from leafkit.index.vectors import Vectors


def score_again(
    documents: Vectors,
    dim: int,
    queries: Mapping[str, np.ndarray],
    candidates: Mapping[Name, np.ndarray],
) -> dict[Name, np.ndarray]:
    """Cosines of every query with its candidates; a pair that several searches found is computed
    once.

    Args:
        documents: (N, full D); only candidates are read.
        dim: dimensions kept.
        queries: by system (Q, full D).
        candidates: by search (Q, K) positions, -1 where there are fewer; the same Q.

    Returns:
        By search (Q, K) float32, in the candidates' order; -inf for -1.
    """
    units = [
        truncate_then_normalize(np.asarray(vectors, dtype=np.float32), dim)
        for vectors in queries.values()
    ]
    query_rows = np.concatenate(units)
    first_row = dict(
        zip(queries, np.cumsum([0, *(len(rows) for rows in units[:-1])]).tolist(), strict=True)
    )
    keys = [
        np.maximum(positions, 0) * len(query_rows)
        + first_row[name[0]]
        + np.arange(len(positions))[:, None]
        for name, positions in candidates.items()
    ]
    pairs, back = np.unique(np.concatenate([k.ravel() for k in keys]), return_inverse=True)
    # in the documents' order, so that reading runs forwards
    positions, rows = np.divmod(pairs, len(query_rows))

    def cut(vectors: np.ndarray) -> np.ndarray:
        return truncate_then_normalize(vectors, dim)

    scores = score_pairs(query_rows, documents, rows, positions, prepare=cut)
    ends = np.cumsum([k.size for k in keys])
    parts = np.split(scores[back.ravel()], ends[:-1])
    return {
        name: np.where(wanted >= 0, part.reshape(wanted.shape), np.float32(-np.inf))
        for (name, wanted), part in zip(candidates.items(), parts, strict=True)
    }
