"""Other ways to search with a student: fewer dimensions, smaller numbers, its own documents, an
approximate index.

Shapes: N documents, H held out, A queries, D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from leafkit.config import IndexConfig, InheritConfig
from leafkit.core.truncate import truncate_then_normalize
from leafkit.evaluation.ann_indexes import measure_recall
from leafkit.evaluation.forecast.yardstick import Yardstick
from leafkit.index.build import build_index
from leafkit.index.codecs.fit import fit_codecs
from leafkit.index.exact import search_exact
from leafkit.index.kinds.registry import plan_indexes
from leafkit.index.search import search_index
from leafkit.pipeline.predict.sample import Sample
from leafkit.results import ProbeFigures
from leafkit.results.prediction import SearchEffort

TEACHERS, STUDENTS = "teacher's", "student's"
MOST_LINKED = 4096  # documents in the graph: one thread links them within seconds
RECALL = 0.95


@dataclass(frozen=True, slots=True)
class Way:
    """How documents are stored: whose vectors, first dimensions, precision."""

    documents: str
    dim: int
    precision: str


def measure_ways(
    yardstick: Yardstick,
    held_out: np.ndarray,
    queries: np.ndarray,
    ways: Sequence[tuple[int, str]],
    *,
    config: InheritConfig,
    seed: int,
) -> Iterator[tuple[Way, ProbeFigures]]:
    """A student's queries over the teacher's documents, stored in other ways.

    Args:
        yardstick: with the documents; figures are of the teacher's full vectors.
        held_out: (H, D) the student's vectors of the held-out documents.
        queries: (A, D) of the queries.
        ways: dimensions and precisions.
        config: of the codecs.
        seed: of the codecs.
    """
    for dim, precision in ways:
        codec = fit_codecs(yardstick.documents, [dim], [precision], config, seed=seed)[
            dim, precision
        ]
        cut = truncate_then_normalize(yardstick.documents, dim)
        stored = cut if precision == "float32" else codec.round_trip(cut)
        figures = yardstick.measure(
            truncate_then_normalize(held_out, dim),
            truncate_then_normalize(queries, dim),
            np.ascontiguousarray(stored),
        )
        yield Way(TEACHERS, dim, precision), figures


def measure_symmetric(
    sample: Sample, unfitted: np.ndarray, vectors: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> ProbeFigures:
    """A student's queries over its own documents, none of which it was fitted to, beside the same
    queries over the teacher's: the ratios of their figures, 1 where nothing is lost by it.

    Args:
        sample: what is asked.
        unfitted: (n,) positions of documents beside the held-out ones.
        vectors: the student's, of the held-out documents, of the queries, of the documents.
    """
    held_out, queries, documents = vectors
    whole, num_held = sample.yardstick, len(sample.held_out)
    at = {place: i for i, place in enumerate(sample.held_out.tolist())}
    sources = np.array([at.get(place, -1) for place in whole.sources.tolist()], dtype=np.int64)
    places = np.concatenate([sample.held_out, unfitted])
    part = Yardstick(whole.documents[places], np.arange(num_held), sources, whole.queries)
    asymmetric = part.measure(held_out, queries)
    symmetric = part.measure(held_out, queries, np.concatenate([held_out, documents]))
    return ratios_of(symmetric, asymmetric)


def ratios_of(figures: ProbeFigures, whole: ProbeFigures) -> ProbeFigures:
    """Each figure over another's; 1 where that is 0."""
    return _combine(figures, whole, lambda a, b: a / b if b else 1.0)


def scale_figures(figures: ProbeFigures, ratios: ProbeFigures) -> ProbeFigures:
    """Each figure times its ratio."""
    return _combine(figures, ratios, lambda a, b: a * b)


def _combine(a: ProbeFigures, b: ProbeFigures, by: Callable[[float, float], float]) -> ProbeFigures:
    """Figure by figure; None where one of the two is."""
    found: dict[str, Any] = {}
    for field in fields(ProbeFigures):
        pair = getattr(a, field.name), getattr(b, field.name)
        found[field.name] = None if None in pair else by(*pair)
    return ProbeFigures(**found)


def find_efforts(
    documents: np.ndarray, queries: dict[str, np.ndarray], config: IndexConfig, seed: int
) -> Iterator[SearchEffort]:
    """The candidates that an HNSW graph must keep for each model's queries.

    Args:
        documents: (N, D) unit vectors; the first ``MOST_LINKED`` are linked.
        queries: by model, (A, D).
        config: links of the graph, and the sweep.
        seed: of the index.
    """
    linked = np.ascontiguousarray(documents[:MOST_LINKED])
    sweep = replace(config, kinds=["hnsw"])
    built = build_index(linked, plan_indexes(sweep, len(linked), linked.shape[1])[0], seed)
    for name, asked in queries.items():
        exact, found, ef = search_exact(asked, linked, 10), 0.0, 0
        for setting in built.plan.settings:
            ranking = search_index(built, asked, 10, setting)
            found = float(measure_recall(ranking, exact, asked, linked).mean())
            if found >= RECALL:
                ef = setting
                break
        yield SearchEffort(name, len(linked), ef, RECALL, found)
