"""What a pair keeps of its teacher's quality, as it was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from leafkit.results.interval import Interval
from leafkit.results.retrieval import EvaluationResult


@dataclass(frozen=True, slots=True)
class Retention:
    """What a pair keeps of its teacher's nDCG@10, as it was measured.

    Attributes:
        measured_on: name of the collection, or how many there were.
        intervals: by way to use the student: "asymmetric" (student queries, teacher documents) and
            "symmetric" (both the student's).
    """

    measured_on: str
    intervals: Mapping[str, Interval]

    def __str__(self) -> str:
        shares = ", ".join(
            f"{way} {self.intervals[way].percent()}"
            for way in ("asymmetric", "symmetric")
            if way in self.intervals
        )
        counts = [i.n for i in self.intervals.values() if i.n is not None]
        queries = f", n = {counts[0]:,} queries" if counts else ""
        return f"{shares} of the teacher's nDCG@10 ({self.measured_on}{queries})"


def retention_of(result: EvaluationResult) -> Retention | None:
    """What an evaluation says of a pair: the mean over its collections; None where it has none."""
    if result.macro is not None:
        number = result.macro.num_collections
        return Retention(f"mean of {number} collections", result.macro.retention)
    if result.collections:
        first = result.collections[0]
        return Retention(first.name, first.retention)
    return None
