"""The inheritance grid: what truncation and quantisation cost the student, against what they cost the teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from leafkit.errors import LeafkitError, UsageError
from leafkit.inherit.quantise import calibrate_int8, quantise_binary, quantise_int8, restore_int8
from leafkit.search.bootstrap import Bootstrap
from leafkit.search.index import Ranking, search_binary, search_flat
from leafkit.search.metrics import per_query_metrics
from leafkit.vectors import truncate_then_normalize

DEPTH = 10
MODES = ("symmetric", "asymmetric")
INHERITED, NOT_INHERITED, UNDECIDED = "inherited", "not inherited", "undecided"


def search_at(queries: np.ndarray, documents: np.ndarray, dim: int, precision: str, k: int = DEPTH) -> Ranking:
    """Exact search with vectors cut to ``dim`` and documents stored at ``precision``.

    float32: cosine. int8: documents per-dimension calibrated and saturating, queries float32, no rescoring.
    binary: documents and queries one bit per dimension, Hamming distance, no rescoring.

    Raises:
        UsageError: the dimension is not between 1 and the vectors'.
    """
    if not 1 <= dim <= documents.shape[1]:
        raise UsageError(f"inherit.dims: {dim} is not between 1 and the vectors' dimension {documents.shape[1]}")
    short_queries, short_documents = truncate_then_normalize(queries, dim), truncate_then_normalize(documents, dim)
    if precision == "binary":
        return search_binary(quantise_binary(short_queries), quantise_binary(short_documents), k)
    if precision == "int8":
        scale = calibrate_int8(short_documents)
        short_documents = restore_int8(quantise_int8(short_documents, scale), scale)
    return search_flat(short_queries, short_documents, k)


def run_grid(
    vectors: Mapping[str, tuple[np.ndarray, np.ndarray]], query_ids: Sequence[str], document_ids: Sequence[str],
    qrels: Mapping[str, Mapping[str, int]], dims: Sequence[int], precisions: Sequence[str], max_gap: Mapping[str, float],
    num_resamples: int, seed: int,
) -> dict[str, Any]:  # fmt: skip
    """nDCG@10 of teacher and student in every cell, and a verdict on their difference.

    Retention is a cell's nDCG over the same system's own nDCG at full dimension in float32. The gap is the teacher's
    retention minus the student's: a fragile teacher does not pass on its fragility as a fault of the student. A cell is
    inherited where the gap's estimate is within the gate, not inherited where its whole interval is beyond, and undecided
    where the estimate is beyond the gate and the interval reaches below it.

    Args:
        vectors: for "teacher", "symmetric" and "asymmetric" the (Q, D) query and (N, D) document vectors.
        query_ids: Q ids.
        document_ids: N ids.
        qrels: judgments.
        dims: Matryoshka dimensions; the full one is added.
        precisions: of the stored documents, see ``search_at``.
        max_gap: gate per precision; a missing one has no gate and is an error.
        num_resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        UsageError: a dimension or a gate is missing or out of range.
        LeafkitError: no query.
    """
    if not query_ids:
        raise LeafkitError("no judged query: inheritance cannot be measured")
    missing = [p for p in precisions if p not in max_gap]
    if missing:
        raise UsageError(f"inherit.max_gap has no gate for {', '.join(missing)}", "inherit.max_gap.NAME=0.02 sets one")
    full_dim = vectors["teacher"][1].shape[1]
    all_dims = sorted({full_dim, *dims}, reverse=True)
    cells = [(dim, precision) for dim in all_dims for precision in precisions]
    systems = ["teacher", *(mode for mode in MODES if mode in vectors)]
    values: dict[tuple[str, int, str], np.ndarray] = {}
    for system in systems:
        for dim, precision in sorted({*cells, (full_dim, "float32")}):
            ranking = search_at(*vectors[system], dim=dim, precision=precision)
            found = per_query_metrics(ranking, query_ids, document_ids, qrels, metrics=("ndcg@10",))
            values[system, dim, precision] = found["ndcg@10"]
    columns = list(values)
    stacked = np.stack([values[c] for c in columns], axis=1)
    resampled = Bootstrap(len(query_ids), num_resamples, seed).means(stacked)
    estimate = dict(zip(columns, stacked.mean(axis=0), strict=True))
    draws = dict(zip(columns, resampled.T, strict=True))

    def retention(table: Mapping[tuple[str, int, str], Any], system: str, dim: int, precision: str) -> Any:
        return table[system, dim, precision] / np.maximum(table[system, full_dim, "float32"], 1e-12)

    rows = []
    for mode in systems[1:]:
        for dim, precision in cells:
            gap = retention(estimate, "teacher", dim, precision) - retention(estimate, mode, dim, precision)
            spread = retention(draws, "teacher", dim, precision) - retention(draws, mode, dim, precision)
            low, high = np.quantile(spread, [0.025, 0.975])
            gate = max_gap[precision]
            rows.append(
                {
                    "dim": dim,
                    "precision": precision,
                    "mode": mode,
                    "teacher": float(estimate["teacher", dim, precision]),
                    "student": float(estimate[mode, dim, precision]),
                    "teacher_retention": float(retention(estimate, "teacher", dim, precision)),
                    "student_retention": float(retention(estimate, mode, dim, precision)),
                    "gap": float(gap),
                    "low": float(low),
                    "high": float(high),
                    "max_gap": gate,
                    "verdict": judge(float(gap), float(low), gate),
                }
            )
    return {"num_queries": len(query_ids), "passed": all(r["verdict"] != NOT_INHERITED for r in rows), "rows": rows}


def judge(gap: float, low: float, max_gap: float) -> str:
    """Verdict on a gap with the lower end of its interval against a gate."""
    if gap <= max_gap:
        return INHERITED
    return NOT_INHERITED if low > max_gap else UNDECIDED
