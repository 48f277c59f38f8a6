"""Figures of a pair without judgments: the student's vectors and rankings against its teacher's.

Shapes: Q queries, N documents, D dimension.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from leafkit.core.errors import LeafkitError
from leafkit.core.truncate import truncate_then_normalize
from leafkit.evaluation.bootstrap import Bootstrap
from leafkit.index.exact import search_exact
from leafkit.index.ranking import exclude_self, tie_order
from leafkit.index.vectors import Vectors
from leafkit.results import Agreement

DEPTH = 10  # of the rankings that are compared
_MOST_DOCUMENTS = 2000  # whose cosines are measured
_ROWS_AT_ONCE = 8192  # in float64


def measure_agreement(
    queries: tuple[np.ndarray, np.ndarray],
    documents: tuple[Vectors, Vectors],
    document_ids: Sequence[str],
    *,
    own: Sequence[int],
    collection: str,
    asked_with: str,
    training: str,
    num_resamples: int,
    seed: int,
) -> Agreement:
    """Cosines of vectors, and the share of the teacher's nearest documents that the student finds.

    Args:
        queries: (Q, D) of teacher and of student, the same texts in the same order.
        documents: (N, D) of teacher and of student.
        document_ids: N of them; they order documents of one score.
        own: (Q,) position of the document that a query may not find, itself, or -1.
        collection: its name.
        asked_with: what the queries are, for the result.
        training: whether that has seen them, see ``Agreement``.
        num_resamples: of the bootstrap over queries.
        seed: of the bootstrap.

    Raises:
        LeafkitError: there is no query, or no document that one could find.
    """
    of_teacher, of_student = queries
    own_at = np.asarray(own, dtype=np.int64)
    depth = min(DEPTH, len(document_ids) - bool((own_at >= 0).any()))
    if not len(of_teacher) or depth < 1:
        raise LeafkitError(
            f"{collection} has {len(of_teacher)} queries and {len(document_ids)} documents: there "
            "is nothing to compare rankings on",
            "give it more documents",
        )
    ties = tie_order(list(document_ids))

    def nearest(asked: np.ndarray, found: Vectors) -> np.ndarray:
        ranking = search_exact(asked, found, depth + bool((own_at >= 0).any()), ties)
        positions: np.ndarray = exclude_self(ranking, own_at, depth).positions
        return positions

    wanted = nearest(of_teacher, documents[0])
    bootstrap = Bootstrap(len(of_teacher), num_resamples, seed)
    overlap = {
        way: bootstrap.mean(shares_found(wanted, nearest(of_student, found)))
        for way, found in (("asymmetric", documents[0]), ("symmetric", documents[1]))
    }
    rows = np.unique(np.linspace(0, len(document_ids) - 1, _MOST_DOCUMENTS).astype(np.int64))
    of_documents = cosines(documents[0][rows], documents[1][rows])
    return Agreement(
        collection=collection,
        asked_with=asked_with,
        training=training,
        num_queries=len(of_teacher),
        num_documents=len(document_ids),
        depth=depth,
        query_cosine=bootstrap.mean(cosines(of_teacher, of_student)),
        document_cosine=Bootstrap(len(rows), num_resamples, seed).mean(of_documents),
        overlap=overlap,
    )


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(n,) cosine of each row of one with the same row of the other."""
    found = np.empty(len(a), dtype=np.float64)
    for start in range(0, len(a), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        units = [truncate_then_normalize(np.asarray(x[part], dtype=np.float64)) for x in (a, b)]
        found[part] = np.einsum("nd,nd->n", *units)
    return found


def shares_found(wanted: np.ndarray, found: np.ndarray) -> np.ndarray:
    """(Q,) share of the wanted positions, (Q, k), that are among those found, in any order."""
    is_found = (wanted[:, :, None] == found[:, None, :]).any(axis=2)
    shares: np.ndarray = is_found.mean(axis=1)
    return shares


def source_gains(positions: np.ndarray, sources: np.ndarray) -> np.ndarray:
    """(Q,) nDCG with one relevant document: 1 / log2(1 + rank), 0 where it is not found.

    >>> source_gains(np.array([[7, 3], [7, 3], [7, 3]]), np.array([7, 3, 1])).round(3).tolist()
    [1.0, 0.631, 0.0]

    Args:
        positions: (Q, k) of the documents found, the best first.
        sources: (Q,) of the relevant one.
    """
    discounts = 1 / np.log2(np.arange(positions.shape[1]) + 2)
    gains: np.ndarray = ((positions == sources[:, None]) * discounts).sum(axis=1)
    return gains
