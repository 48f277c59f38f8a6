"""Finished runs: what was expected of students by their probes, and how they turned out."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from predict_parts.case import SEED, Case
from predict_parts.cells import OWN_DOCUMENTS, cells
from predict_parts.spaces import AS_IT_IS


def expected(case: Case, cell: Mapping[str, Any]) -> Iterator[tuple[str, int, Any]]:
    """Kind or way, texts of the largest probe, and the figures that are expected of all texts."""
    from leafkit.evaluation.forecast.growth import expect_at
    from leafkit.pipeline.predict.ways import ratios_of, scale_figures
    from leafkit.results import ProbeFigures
    from leafkit.results.codec import from_plain
    from leafkit.results.prediction import ProbeAt

    for kind, found in cell.items():
        probes = from_plain(tuple[ProbeAt, ...], found["probes"])
        whole = expect_at(probes, len(case.fit))
        yield kind, probes[-1].num_texts, whole
        for way, plain in found.get("ways", {}).items():
            ratios = ratios_of(from_plain(ProbeFigures, plain), probes[-1].figures)
            yield f"{kind}, {way}", probes[-1].num_texts, scale_figures(whole, ratios)
        if "own" in found:
            ratios = from_plain(ProbeFigures, found["own"])
            yield f"{kind}, {OWN_DOCUMENTS}", probes[-1].num_texts, scale_figures(whole, ratios)


def trained_outcome(case: Case) -> dict[str, float | int] | None:
    """Retention of the student that a finished run of the recipe own-index trained for ten minutes,
    as benchmarks/students.py or benchmarks/against.py kept it; None where there is none.
    """
    from leafkit.evaluation.bootstrap import Bootstrap

    kept = [*case.checkpoints.glob("students/trained-10min-*.json")]
    kept += case.checkpoints.glob("against/leafkit-10min-*.json")
    if not kept:
        return None
    found = json.loads(max(kept, key=lambda path: path.stat().st_mtime).read_text())
    if "collections" in found:
        ndcg = found["collections"][case.name]["ndcg"]
        teacher, student = (
            next(v for k, v in ndcg.items() if k.startswith(f"{who}/") and k.endswith("/float32"))
            for who in ("teacher", "asymmetric")
        )
    else:
        teacher, student = (found["ndcg"][who] for who in ("teacher", "asymmetric"))
    values = np.array(student), np.array(teacher)
    return asdict(Bootstrap(len(values[0]), 2000, SEED).ratio(*values))


def expected_of_all(case: Case, cell: Mapping[str, Any]) -> tuple[int, Any]:
    """Texts of the largest probe of the last layer, and its figures of all documents."""
    from leafkit.evaluation.forecast.growth import expect_at
    from leafkit.results.codec import from_plain
    from leafkit.results.prediction import LAST_LAYER, ProbeAt

    probes = from_plain(tuple[ProbeAt, ...], cell[LAST_LAYER]["probes"])
    return probes[-1].num_texts, expect_at(probes, len(case.texts))


def runs_of(cases: Sequence[Case], options: argparse.Namespace) -> list[Any]:
    """Finished runs: probes with outcomes."""
    from leafkit.results import FinishedRun, Interval
    from leafkit.results.prediction import TRAINED

    probed = {(c.name, s): cell for c, s, cell in cells(cases, options.folder, "probes", options)}
    runs = []
    for case, space, cell in cells(cases, options.folder, "outcomes", options):
        outcomes = {}
        for kind, found in cell.items():
            outcomes[kind] = found["outcome"]
            outcomes |= {f"{kind}, {way}": one for way, one in found.get("ways", {}).items()}
        for kind, num_probed, figures in expected(case, probed[case.name, space]):
            runs.append(
                FinishedRun(
                    corpus=case.name,
                    teacher=options.teacher_name,
                    space=space,
                    kind=kind,
                    num_texts=len(case.fit),
                    num_probed=num_probed,
                    probe=figures,
                    outcome=Interval(**outcomes[kind]),
                )
            )
        trained = trained_outcome(case) if space == AS_IT_IS else None
        if trained is not None:
            num_probed, figures = expected_of_all(case, probed[case.name, space])
            about = (case.name, options.teacher_name, space, TRAINED, len(case.texts), num_probed)
            runs.append(FinishedRun(*about, figures, Interval(**trained)))
    return runs
