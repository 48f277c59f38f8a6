"""A probe of an instant student: the closed-form head on some texts, and what it finds for others.

Shapes: n texts, H width of the states, D dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from leafkit.core.truncate import truncate_then_normalize
from leafkit.evaluation.agreement import cosines
from leafkit.evaluation.diagnosis.spectrum import AffineMap, sum_for_ridge
from leafkit.evaluation.forecast.yardstick import Yardstick
from leafkit.pipeline.student.fit.closed_form import follow_lengths
from leafkit.results.prediction import ProbeAt

RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # as an instant student tries them
_LEFT_OUT = 256  # texts that choose among them, each predicted by all others


@dataclass(frozen=True, slots=True)
class StatesOf:
    """One kind's states.

    Attributes:
        fit: (n, H) of the texts to fit, in the sample's order of them.
        held_out: of the held-out documents.
        queries: of the queries.
    """

    fit: np.ndarray
    held_out: np.ndarray
    queries: np.ndarray

    def of(self, columns: slice) -> StatesOf:
        """Some layers' alone."""
        return StatesOf(self.fit[:, columns], self.held_out[:, columns], self.queries[:, columns])


def fit_head(states: np.ndarray, vectors: np.ndarray) -> AffineMap:
    """The ridge solution whose strength texts prefer that are left out one by one.

    Of fewer texts than H it lies in the span of their states, and is solved there: all layers of a
    start are several thousand numbers a text.

    Args:
        states: (n, H).
        vectors: (n, D) unit vectors of the teacher.
    """
    aims, (num_texts, width) = follow_lengths(states, vectors), states.shape
    center, basis, share = np.zeros(width), None, 1.0
    inputs = states.astype(np.float64)
    if num_texts < width:
        center = inputs.mean(axis=0)
        basis = np.linalg.qr((inputs - center).T)[0]  # (H, n)
        inputs = (inputs - center) @ basis
        share = num_texts / width  # a ridge is relative to the mean of all H eigenvalues
    sums, few = sum_for_ridge(inputs, aims), slice(0, _LEFT_OUT)
    best, found = RIDGES[0], -2.0
    for ridge in RIDGES:
        told = sums.predict_left_out(inputs[few], aims[few], share * ridge)
        cosine = float(cosines(aims[few], told).mean())
        if cosine > found:
            best, found = ridge, cosine
    solution = sums.solve(share * best)
    if basis is None:
        return solution
    weight = basis @ solution.weight
    return AffineMap(
        weight.astype(np.float32), (solution.bias - center @ weight).astype(np.float32)
    )


def apply_head(head: AffineMap, states: np.ndarray) -> np.ndarray:
    """(n, D) unit vectors."""
    made: np.ndarray = truncate_then_normalize(states @ head.weight + head.bias)
    return made


def probe_closed_form(
    states: StatesOf, vectors: np.ndarray, yardstick: Yardstick, counts: Sequence[int]
) -> tuple[list[ProbeAt], AffineMap]:
    """Probes of rising numbers of texts, and the head of the last.

    Args:
        states: of the kind.
        vectors: (n, D) of the teacher, of the texts to fit.
        yardstick: what is measured with.
        counts: numbers of texts, rising.
    """
    probes = []
    for count in counts:
        head = fit_head(states.fit[:count], vectors[:count])
        found = [apply_head(head, part) for part in (states.held_out, states.queries)]
        probes.append(ProbeAt(count, yardstick.measure(*found)))
    return probes, head
