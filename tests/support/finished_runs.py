"""Finished runs of known arithmetic: the share kept is the square root of the neighbors found."""

from __future__ import annotations

from leafkit.results import FinishedRun, Interval, ProbeFigures
from leafkit.results.prediction import TRAINED

GAIN = 1.2  # of what took steps


def figures(overlap: float) -> ProbeFigures:
    """All figures alike."""
    return ProbeFigures(
        document_cosine=overlap,
        document_overlap=overlap,
        source_overlap=overlap,
        source_gain=overlap,
        query_overlap=overlap,
        query_cosine=overlap,
        source_share=overlap,
    )


def make_run(corpus: str, overlap: float, kept: float, kind: str = "last-layer") -> FinishedRun:
    """One of a share kept."""
    outcome = Interval(kept, kept - 0.03, kept + 0.03, 100)
    return FinishedRun(
        corpus=corpus,
        teacher="some",
        space="as it is",
        kind=kind,
        num_texts=2048,
        num_probed=512,
        probe=figures(overlap),
        outcome=outcome,
    )


def make_runs(*, is_trained: bool = True) -> list[FinishedRun]:
    """Of three corpora, between .3 and .8 of the neighbors; one of each took steps."""
    runs = []
    for corpus, shift in (("a", 0.98), ("b", 1.0), ("c", 1.02)):
        overlaps = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
        runs += [make_run(corpus, overlap, shift * overlap**0.5) for overlap in overlaps]
        if is_trained:
            runs.append(make_run(corpus, 0.6, GAIN * shift * 0.6**0.5, TRAINED))
    return runs
