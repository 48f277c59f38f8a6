"""A run as the stages would record it, with every section of the report."""

from __future__ import annotations

import math
from typing import Any

import pytest


def _cell(mean: float, half: float = 0.02) -> dict[str, float]:
    return {"mean": mean, "low": round(mean - half, 4), "high": round(mean + half, 4)}


def _row(system: str, label: str, ndcg: float) -> dict[str, Any]:
    return {
        "system": system, "label": label, "ndcg@10": _cell(ndcg), "recall@100": _cell(ndcg + 0.3, 0.012),
        "mrr@10": _cell(ndcg - 0.04),
    }  # fmt: skip


def _collection(name: str, kind: str, num_queries: int, scores: list[float]) -> dict[str, Any]:
    systems = [
        ("teacher", "teacher / teacher"), ("symmetric", "student / student"), ("asymmetric", "student / teacher"),
        ("baseline", "all-MiniLM-L6-v2 / all-MiniLM-L6-v2"), ("bm25", "BM25"),
    ]  # fmt: skip
    teacher, symmetric, asymmetric, baseline, _ = scores
    home = kind == "home"
    return {
        "name": name, "kind": kind, "num_documents": 13379 if home else 2210, "num_queries": num_queries,
        "rows": [_row(system, label, score) for (system, label), score in zip(systems, scores, strict=True)],
        "differences": [
            {"label": "symmetric - teacher", "metric": "ndcg@10", **_cell(round(symmetric - teacher, 4), 0.008)},
            {"label": "asymmetric - teacher", "metric": "ndcg@10", **_cell(round(asymmetric - teacher, 4), 0.007)},
            {"label": "asymmetric - symmetric", "metric": "ndcg@10", **_cell(round(asymmetric - symmetric, 4), 0.006)},
            {"label": "teacher - baseline", "metric": "ndcg@10", **_cell(round(teacher - baseline, 4), 0.02)},
        ],
        "retention": {
            "symmetric": _cell(round(symmetric / teacher, 4), 0.014),
            "asymmetric": _cell(round(asymmetric / teacher, 4), 0.012),
        },
    }  # fmt: skip


def _inherit_rows() -> list[dict[str, Any]]:
    kept = {768: 1.0, 512: 0.996, 256: 0.986, 128: 0.946, 64: 0.871}
    settings = [(dim, "float32", share) for dim, share in kept.items()] + [(768, "int8", 0.998), (768, "binary", 0.921)]
    rows = []
    for dim, precision, share in settings:
        for mode, full in (("symmetric", 0.564), ("asymmetric", 0.569)):
            gap = 0.0 if share == 1 else {64: 0.031, 128: 0.011}.get(dim, 0.004)
            gap = 0.034 if (precision, mode) == ("binary", "asymmetric") else gap
            low, high = gap - 0.01, gap + 0.01
            limit = 0.03 if precision == "binary" else 0.02
            verdict = "inherited" if gap <= limit else "not inherited" if low > limit else "undecided"
            rows.append({
                "dim": dim, "precision": precision, "mode": mode, "teacher": 0.573 * share, "student": full * (share - gap),
                "teacher_retention": share, "student_retention": share - gap, "gap": gap, "low": low, "high": high,
                "max_gap": limit, "verdict": verdict,
            })  # fmt: skip
    return rows


def _hits(first: str, relevant_at: int, top: float) -> list[dict[str, Any]]:
    names = [first, "numpy.linalg.pinv", "scipy.linalg.solve_triangular", "torch.linalg.inv_ex", "scipy.sparse.linalg.inv"]
    return [
        {"id": name, "score": top - 0.031 * rank, "relevant": rank == relevant_at,
         "text": "Compute the inverse of a square matrix. This function checks that its input is finite and may "
                 "overwrite it, which improves performance where the caller does not need the original any longer. " * 2}
        for rank, name in enumerate(names)
    ]  # fmt: skip


def example_data() -> dict[str, Any]:
    """A fresh copy: tests change it."""
    measured_with = {"threads": 2, "dtype": "float32", "num_queries": 200}
    return {
        "name": "kalm-to-23m", "command": "leafkit distill recipe=kalm-to-23m", "created": "2026-11-21T05:00:00+00:00",
        "commit": "0123456789abcdef0123456789abcdef01234567",
        "recipe": {
            "name": "kalm-to-23m", "seed": 42, "data": {"home": "builtin:pydocs", "max_query_tokens": 64},
            "stages": {"tune": {"lr": 5e-5, "query_template": "Instruct: {instruction} \n Query: {query}"}},
        },
        "versions": {"torch": "2.13.0", "leafkit": "0.1.0", "python": "3.11.9", "transformers": "5.23.0", "numpy": "2.4.6"},
        "hardware": {
            "cpu": "AMD EPYC 9B14", "cores": 2, "threads": 2, "memory_gib": 23.0, "peak_memory_gib": 2.1, "device": "cpu",
            "precision": "bf16", "accelerator": "",
        },
        "steps": [
            {"name": "corpus", "seconds": 14.2, "status": "done"},
            {"name": "teacher: weak", "seconds": 0.1, "status": "up to date"},
            {"name": "teacher: tune", "seconds": 431.0, "status": "done"},
            {"name": "teacher vectors", "seconds": 96.3, "status": "done"},
            {"name": "student", "seconds": 305.5, "status": "done"},
            {"name": "bench", "seconds": 61.0, "status": "done"},
        ],
        "teacher": {
            "name": "kalm-mini", "parameters": 59281920, "dim": 768, "mrl_dims": [768, 512, 256, 128, 64],
            "flops_per_token": 7.1e7, "prompts": {"query": "Instruct: Find the documentation \n Query: ", "document": ""},
        },
        "student": {
            "name": "kalm-to-23m", "parameters": 22861056, "dim": 768, "mrl_dims": [768, 512, 256, 128, 64],
            "flops_per_token": 2.1e7, "prompts": {"query": "Instruct: Find the documentation \n Query: ", "document": ""},
        },
        "spectrum": {"rank": 384, "variance_kept": 0.998, "ridge_cosine": 0.93, "num_texts": 4096},
        "losses": {
            "weak": [2.1 * math.exp(-step / 40) + 0.5 + 0.05 * math.sin(step) for step in range(150)],
            "tune": [0.9 * math.exp(-step / 60) + 0.35 + 0.04 * math.sin(step) for step in range(280)],
            "student": [0.3 * math.exp(-step / 90) + 0.04 + 0.004 * math.sin(step) for step in range(900)],
        },
        "corpora": [
            {"name": "pydocs", "num_documents": 13379, "queries": {"train": 10456, "validation": 332, "test": 1109},
             "counts": {"duplicate documents dropped": 744, "first paragraphs too short": 1201}},
            {"name": "pydocs-away", "num_documents": 2210, "queries": {"test": 402}, "counts": {}},
        ],
        "bench": {
            "collections": [
                _collection("pydocs-away", "away", 402, [0.512, 0.481, 0.493, 0.508, 0.402]),
                _collection("pydocs", "home", 1109, [0.573, 0.564, 0.569, 0.477, 0.431]),
            ],
            "latency": [
                {"encoder": "teacher", "queries_per_s": 88.0, "p50_ms": 11.2, "p99_ms": 19.0, **measured_with},
                {"encoder": "student", "queries_per_s": 382.0, "p50_ms": 2.6, "p99_ms": 4.4, **measured_with},
            ],
            "samples": [
                {"query": "how do I invert a matrix", "relevant": ["scipy.linalg.inv"],
                 "teacher": _hits("scipy.linalg.inv", 0, 0.71), "student": _hits("numpy.linalg.inv", 2, 0.69)},
                {"query": "find the eigenvalues of a large sparse operator", "relevant": ["scipy.sparse.linalg.eigsh"],
                 "teacher": _hits("scipy.sparse.linalg.eigsh", 0, 0.66), "student": _hits("scipy.sparse.linalg.eigs", 9, 0.64)},
            ],
        },
        "inherit": {"collection": "pydocs", "num_queries": 1109, "passed": False, "rows": _inherit_rows()},
    }  # fmt: skip


@pytest.fixture
def data() -> dict[str, Any]:
    """The example run."""
    return example_data()
