"""How a probe's figures grow with the number of texts, and what they will be of more.

What is missing of a figure falls as a power of the number of texts, 1 - f = a n^-b (the law that
curves of retention follow, see docs/concepts.md), with 0 where they do not grow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from leafkit.results import ProbeFigures
from leafkit.results.prediction import ProbeAt

_POINTS = 3  # of the largest probes: small ones follow another slope
_LEAST_MISSING = 1e-3
FARTHEST = 16  # times the largest probe; beyond it no growth is counted


def expect_at(probes: Sequence[ProbeAt], num_texts: int) -> ProbeFigures:
    """The figures of a student that is fitted to ``num_texts``.

    >>> def probe(count, value):
    ...     return ProbeAt(count, ProbeFigures(value, value, None, None, None, None, None))
    >>> round(expect_at([probe(100, 0.6), probe(400, 0.8)], 1600).document_cosine, 3)
    0.9

    Args:
        probes: at least one, of rising numbers of texts.
        num_texts: that are asked for; what is more than ``FARTHEST`` times the largest probe's
            counts as that.
    """
    used = probes[-_POINTS:]
    counts = np.array([probe.num_texts for probe in used], dtype=np.float64)
    at = float(min(num_texts, FARTHEST * counts[-1]))
    found: dict[str, Any] = {}
    for field in fields(ProbeFigures):
        values = [getattr(probe.figures, field.name) for probe in used]
        if any(value is None for value in values):
            found[field.name] = None
            continue
        found[field.name] = _grow(counts, np.array(values, dtype=np.float64), at)
    return ProbeFigures(**found)


def _grow(counts: np.ndarray, values: np.ndarray, at: float) -> float:
    """One figure; through the last probe, with the slope that least squares give."""
    last = float(values[-1])
    if len(values) < 2 or at <= counts[-1]:
        return last
    lost = np.log(np.maximum(1 - values, _LEAST_MISSING))
    log_n = np.log(counts)
    centered = log_n - log_n.mean()
    slope = min(0.0, float((lost - lost.mean()) @ centered / (centered @ centered)))
    missing = max(1 - last, _LEAST_MISSING) if last < 1 else 1 - last
    return float(1 - missing * np.exp(slope * (np.log(at) - log_n[-1])))
