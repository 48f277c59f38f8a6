"""The figures of a certificate, from vectors alone.

Shapes: H held-out documents, a query made of each, N documents of the index, D dimensions, E of
another model's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from leafkit.evaluation.agreement import DEPTH, cosines, shares_found, source_gains
from leafkit.evaluation.bm25 import search_bm25
from leafkit.evaluation.bootstrap import Bootstrap
from leafkit.index.exact import search_exact
from leafkit.index.ranking import Ranking, exclude_self
from leafkit.index.vectors import Vectors
from leafkit.results import Interval, RescuedSystem

BM25 = "BM25"


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked, and what the index itself says of it.

    Attributes:
        places: (H,) of the held-out documents in the index.
        texts: H of them.
        queries: H, one made of each document.
        documents: (N, D) the index.
        depth: of the rankings.
    """

    places: np.ndarray
    texts: Sequence[str]
    queries: Sequence[str]
    documents: Vectors
    depth: int

    @classmethod
    def of(
        cls,
        places: Sequence[int],
        texts: Sequence[str],
        queries: Sequence[str],
        documents: Vectors,
    ) -> Asked:
        """With the depth that the index allows, 10 where there are enough documents."""
        depth = min(DEPTH, len(documents) - 1)
        return cls(np.array(places, dtype=np.int64), texts, queries, documents, depth)

    def vectors(self) -> np.ndarray:
        """(H, D) that are stored for the held-out documents."""
        return np.asarray(self.documents[self.places], dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Values:
    """One system's figures, of each held-out document or of the query made of it: (H,) each."""

    document_cosine: np.ndarray | None
    document_overlap: np.ndarray
    query_overlap: np.ndarray
    source_gain: np.ndarray


def measure_vectors(asked: Asked, documents: np.ndarray, queries: np.ndarray) -> Values:
    """A model's figures.

    Args:
        asked: what is asked.
        documents: (H, D) its vectors of the held-out documents.
        queries: (H, D) of the queries.
    """
    rankings = [
        search_exact(documents, asked.documents, asked.depth + 1),
        search_exact(queries, asked.documents, asked.depth),
    ]
    return _compare(asked, cosines(asked.vectors(), documents), *rankings)


def measure_bm25(asked: Asked, texts: Sequence[str]) -> Values:
    """BM25's figures over the index's N texts."""
    return _compare(
        asked,
        None,
        search_bm25(asked.texts, texts, asked.depth + 1),
        search_bm25(asked.queries, texts, asked.depth),
    )


def _compare(
    asked: Asked, cosine: np.ndarray | None, of_documents: Ranking, of_queries: Ranking
) -> Values:
    near = search_exact(asked.vectors(), asked.documents, asked.depth + 1)
    others = exclude_self(near, asked.places, asked.depth)
    found = exclude_self(of_documents, asked.places, asked.depth)
    return Values(
        cosine,
        shares_found(others.positions, found.positions),
        shares_found(near.positions[:, : asked.depth], of_queries.positions),
        source_gains(of_queries.positions, asked.places),
    )


def summarize(
    values: Mapping[str, Values], pair: tuple[str, str], *, num_resamples: int, seed: int
) -> tuple[tuple[RescuedSystem, ...], Interval, Interval]:
    """The systems' intervals, and of two of them the differences in query_overlap and source_gain,
    all over the same resamples of documents.

    Args:
        values: by system.
        pair: the difference is the first minus the second.
        num_resamples: of the bootstrap.
        seed: of its draws.
    """
    first, second = values[pair[0]], values[pair[1]]
    bootstrap = Bootstrap(len(first.source_gain), num_resamples, seed)
    systems = tuple(
        RescuedSystem(
            name,
            None if one.document_cosine is None else bootstrap.mean(one.document_cosine),
            bootstrap.mean(one.document_overlap),
            bootstrap.mean(one.query_overlap),
            bootstrap.mean(one.source_gain),
        )
        for name, one in values.items()
    )
    return (
        systems,
        bootstrap.difference(first.query_overlap, second.query_overlap),
        bootstrap.difference(first.source_gain, second.source_gain),
    )
