"""What a rung of a ladder knows of a query once it has searched: the signals that say whether its
answer is enough.

Shapes: Q queries, D dimensions, k results.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from leafkit.core.truncate import truncate_then_normalize

DEPTH = 10  # of the rankings that are looked at
FIRST_SIGNALS = (
    "words",
    "letters per word",
    "length before normalizing",
    "score of the first document",
    "its margin over the second",
    "its margin over the tenth",
)
# of a rung that follows another one
SIGNALS = (
    *FIRST_SIGNALS,
    "cosine to the previous rung's vector",
    "overlap with the previous rung's documents",
)


@dataclass(frozen=True, slots=True)
class Visit:
    """Queries as one rung has answered them.

    Attributes:
        vectors: (Q, D) of the queries.
        lengths: (Q,) of the vectors before they were normalized; 1 where that is not known.
        positions: (Q, k) documents found, best first; -1 where there are fewer.
        scores: (Q, k) of them.
    """

    vectors: np.ndarray
    lengths: np.ndarray
    positions: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.vectors)

    def take(self, rows: np.ndarray) -> Visit:
        """Some of the queries."""
        return Visit(
            self.vectors[rows], self.lengths[rows], self.positions[rows], self.scores[rows]
        )


def read_signals(texts: Sequence[str], visit: Visit, previous: Visit | None) -> np.ndarray:
    """(Q, S) signals in the order of ``SIGNALS``, or of ``FIRST_SIGNALS`` where there is no
    previous rung.

    Query performance is predicted from scores and their margins (Shtok et al., "Predicting query
    performance by query-drift estimation", 2012), and two models that find different documents are
    a sign that the smaller one errs.

    Args:
        texts: Q queries, without prompts.
        visit: of this rung.
        previous: of the rung that answered before; None for the first one.

    >>> found, scores = np.array([[4, 2], [1, -1]]), np.array([[0.9, 0.7], [0.5, 0]])
    >>> rung = Visit(np.eye(2), np.ones(2), found, scores)
    >>> read_signals(["invert a matrix", "sort"], rung, None).round(2).tolist()
    [[1.1, 4.33, 1.0, 0.9, 0.2, 0.2], [0.0, 4.0, 1.0, 0.5, 0.0, 0.0]]
    """
    words = [text.split() for text in texts]
    counts = np.array([max(1, len(one)) for one in words], dtype=np.float64)
    letters = np.array([sum(map(len, one)) for one in words], dtype=np.float64)
    is_filled = visit.positions[:, :DEPTH] >= 0
    scores = np.where(is_filled, visit.scores[:, :DEPTH], np.inf)
    first = np.where(is_filled[:, 0], scores[:, 0], 0.0)
    second, last = scores[:, :2].min(axis=1), scores.min(axis=1)
    found = [
        np.log(counts),
        letters / counts,
        visit.lengths,
        first,
        first - np.minimum(second, first),
        first - np.minimum(last, first),
    ]
    if previous is not None:
        found += [_cosines(visit, previous), _overlaps(visit, previous)]
    return np.stack(found, axis=1).astype(np.float64)


def _cosines(visit: Visit, previous: Visit) -> np.ndarray:
    units = [truncate_then_normalize(np.asarray(one.vectors)) for one in (visit, previous)]
    found: np.ndarray = np.einsum("qd,qd->q", *units)
    return found


def _overlaps(visit: Visit, previous: Visit) -> np.ndarray:
    """(Q,) share of the previous rung's documents that this one finds too."""
    wanted, found = previous.positions[:, :DEPTH], visit.positions[:, :DEPTH]
    is_there = (wanted[:, :, None] == found[:, None, :]).any(axis=2) & (wanted >= 0)
    count = np.maximum(1, (wanted >= 0).sum(axis=1))
    shares: np.ndarray = is_there.sum(axis=1) / count
    return shares
