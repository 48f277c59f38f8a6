"""What a closed-form head learns of the first texts of an order: the cheap stand-in for a student.

Shapes: n texts that are fitted, V held out, Q judged queries, H hidden width, D dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from lib.case import Judged

from leafkit.core.truncate import truncate_then_normalize
from leafkit.evaluation.agreement import cosines
from leafkit.evaluation.diagnosis.spectrum import AffineMap, sum_for_ridge
from leafkit.pipeline.student.fit.closed_form import follow_lengths

RIDGES = (1e-3, 1e-2, 1e-1, 1.0)


@dataclass(frozen=True, slots=True)
class Learned:
    """What a head of some texts is worth.

    Attributes:
        tokens: that the teacher read of them.
        ridge: chosen by the texts that were held out of all choices.
        held_out: cosine to the teacher on these.
        cosine: (Q,) likewise of judged queries, by collection.
        ndcg: (Q,) of judged queries over the teacher's documents, by collection.
    """

    tokens: int
    ridge: float
    held_out: float
    cosine: Mapping[str, np.ndarray]
    ndcg: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Lesson:
    """What heads are fitted to and measured on.

    Attributes:
        states: (N, H) of the pool.
        vectors: (N, D) of the teacher.
        tokens: (N,) that it reads of each text.
        held_states: (V, H) of texts that no order has.
        held_vectors: (V, D).
        asked: states of the judged queries, with their collections.
    """

    states: np.ndarray
    vectors: np.ndarray
    tokens: np.ndarray
    held_states: np.ndarray
    held_vectors: np.ndarray
    asked: Sequence[tuple[np.ndarray, Judged]]

    def learn(self, rows: np.ndarray) -> Learned:
        """A head of these rows of the pool."""
        states = self.states[rows]
        sums = sum_for_ridge(states, follow_lengths(states, self.vectors[rows]))
        tried = []
        for ridge in RIDGES:
            head = sums.solve(ridge)
            near = cosines(self.held_vectors, _apply(head, self.held_states)).mean()
            tried.append((float(near), ridge, head))
        held_out, ridge, head = max(tried, key=lambda one: one[0])
        cosine, ndcg = {}, {}
        for found, judged in self.asked:
            vectors, name = _apply(head, found), judged.collection.name
            cosine[name], ndcg[name] = cosines(judged.queries, vectors), judged.ndcg(vectors)
        return Learned(int(self.tokens[rows].sum()), ridge, held_out, cosine, ndcg)


def _apply(head: AffineMap, states: np.ndarray) -> np.ndarray:
    return truncate_then_normalize(states @ head.weight + head.bias)


def within(tokens: np.ndarray, order: np.ndarray, most: float) -> np.ndarray:
    """The first texts of an order that have no more tokens together.

    >>> within(np.array([5, 1, 3]), np.array([2, 0, 1]), 8)
    array([2, 0])
    """
    return order[np.cumsum(tokens[order]) <= most]
