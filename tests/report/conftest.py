"""A run as the stages would record it, with every section of the report."""

from __future__ import annotations

import math
from typing import Any

import pytest


def _cell(mean: float, half: float = 0.02) -> dict[str, float]:
    return {"mean": mean, "low": round(mean - half, 4), "high": round(mean + half, 4)}


def _row(system: str, label: str, ndcg: float) -> dict[str, Any]:
    return {
        "system": system,
        "label": label,
        "ndcg@10": _cell(ndcg),
        "recall@100": _cell(ndcg + 0.3, 0.012),
        "mrr@10": _cell(ndcg - 0.04),
    }


def _collection(name: str, kind: str, num_queries: int, scores: list[float]) -> dict[str, Any]:
    systems = [
        ("teacher", "teacher / teacher"),
        ("symmetric", "student / student"),
        ("asymmetric", "student / teacher"),
        ("baseline", "all-MiniLM-L6-v2 / all-MiniLM-L6-v2"),
        ("bm25", "BM25"),
    ]
    teacher, symmetric, asymmetric, baseline, _ = scores
    home = kind == "home"
    return {
        "name": name,
        "kind": kind,
        "num_documents": 13379 if home else 2210,
        "num_queries": num_queries,
        "split": "test",
        "own_documents_dropped": 0,
        "per_query": {"ids": [], "texts": []},
        "lost": [],
        "rows": [
            _row(system, label, score)
            for (system, label), score in zip(systems, scores, strict=True)
        ],
        "differences": [
            {
                "label": "symmetric - teacher",
                "metric": "ndcg@10",
                **_cell(round(symmetric - teacher, 4), 0.008),
            },
            {
                "label": "asymmetric - teacher",
                "metric": "ndcg@10",
                **_cell(round(asymmetric - teacher, 4), 0.007),
            },
            {
                "label": "asymmetric - symmetric",
                "metric": "ndcg@10",
                **_cell(round(asymmetric - symmetric, 4), 0.006),
            },
            {
                "label": "teacher - baseline",
                "metric": "ndcg@10",
                **_cell(round(teacher - baseline, 4), 0.02),
            },
        ],
        "retention": {
            "symmetric": _cell(round(symmetric / teacher, 4), 0.014),
            "asymmetric": _cell(round(asymmetric / teacher, 4), 0.012),
        },
    }


def _inherit_rows() -> list[dict[str, Any]]:
    kept = {768: 1.0, 512: 0.996, 256: 0.986, 128: 0.946, 64: 0.871}
    settings = [(dim, "float32", share) for dim, share in kept.items()] + [
        (768, "int8", 0.998),
        (768, "binary", 0.921),
    ]
    rows = []
    for dim, precision, share in settings:
        for mode, full in (("symmetric", 0.564), ("asymmetric", 0.569)):
            gap = 0.0 if share == 1 else {64: 0.031, 128: 0.011}.get(dim, 0.004)
            gap = 0.034 if (precision, mode) == ("binary", "asymmetric") else gap
            low, high = gap - 0.01, gap + 0.01
            limit = 0.03 if precision == "binary" else 0.02
            verdict = (
                "inherited" if gap <= limit else "not inherited" if low > limit else "undecided"
            )
            rows.append(
                {
                    "dim": dim,
                    "precision": precision,
                    "mode": mode,
                    "queries": "float",
                    "rescoring": 0,
                    "bytes_per_vector": int(dim * {"float32": 4, "int8": 1}.get(precision, 0.125)),
                    "teacher": 0.573 * share,
                    "student": full * (share - gap),
                    "teacher_retention": share,
                    "teacher_retention_low": share - 0.01,
                    "teacher_retention_high": share + 0.01,
                    "student_retention": share - gap,
                    "student_retention_low": share - gap - 0.01,
                    "student_retention_high": share - gap + 0.01,
                    "gap": gap,
                    "low": low,
                    "high": high,
                    "max_gap": limit,
                    "verdict": verdict,
                }
            )
    return rows


def _hits(first: str, relevant_at: int, top: float) -> list[dict[str, Any]]:
    names = [
        first,
        "numpy.linalg.pinv",
        "scipy.linalg.solve_triangular",
        "torch.linalg.inv_ex",
        "scipy.sparse.linalg.inv",
    ]
    return [
        {
            "id": name,
            "score": top - 0.031 * rank,
            "relevant": rank == relevant_at,
            "text": "Compute the inverse of a square matrix. This function checks that its input "
            "is finite and may overwrite it, which improves performance where the caller does not "
            "need the original any longer. " * 2,
        }
        for rank, name in enumerate(names)
    ]


def example_data() -> dict[str, Any]:
    """A fresh copy: tests change it."""
    measured_with = {"threads": 2, "dtype": "float32", "num_queries": 200}
    return {
        "name": "kalm-to-23m",
        "command": "leafkit distill recipe=kalm-to-23m",
        "created": "2026-11-21T05:00:00+00:00",
        "commit": "0123456789abcdef0123456789abcdef01234567",
        "recipe": {
            "name": "kalm-to-23m",
            "seed": 42,
            "data": {"corpus": "builtin:pydocs", "max_query_tokens": 64},
            "stages": {
                "tune": {"lr": 5e-5, "query_template": "Instruct: {instruction} \n Query: {query}"}
            },
        },
        "versions": {
            "torch": "2.13.0",
            "leafkit": "0.1.0",
            "python": "3.11.9",
            "transformers": "5.23.0",
            "numpy": "2.4.6",
        },
        "hardware": {
            "cpu": "AMD EPYC 9B14",
            "cores": 2,
            "threads": 2,
            "memory_gib": 23.0,
            "peak_memory_gib": 2.1,
            "device": "cpu",
            "precision": "bf16",
            "accelerator": "",
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
            "name": "kalm-mini",
            "parameters": 59281920,
            "dim": 768,
            "mrl_dims": [768, 512, 256, 128, 64],
            "flops_per_token": 7.1e7,
            "prompts": {"query": "Instruct: Find the documentation \n Query: ", "document": ""},
        },
        "student": {
            "name": "kalm-to-23m",
            "parameters": 22861056,
            "dim": 768,
            "mrl_dims": [768, 512, 256, 128, 64],
            "flops_per_token": 2.1e7,
            "prompts": {"query": "Instruct: Find the documentation \n Query: ", "document": ""},
        },
        "spectrum": {"rank": 384, "variance_kept": 0.998, "ridge_cosine": 0.93, "num_texts": 4096},
        "losses": {
            "weak": [
                2.1 * math.exp(-step / 40) + 0.5 + 0.05 * math.sin(step) for step in range(150)
            ],
            "tune": [
                0.9 * math.exp(-step / 60) + 0.35 + 0.04 * math.sin(step) for step in range(280)
            ],
            "student": [
                0.3 * math.exp(-step / 90) + 0.04 + 0.004 * math.sin(step) for step in range(900)
            ],
        },
        "corpora": [
            {
                "name": "pydocs",
                "num_documents": 13379,
                "queries": {"train": 10456, "validation": 332, "test": 1109},
                "counts": {"duplicate documents dropped": 744, "first paragraphs too short": 1201},
            },
            {
                "name": "pydocs-out-of-domain",
                "num_documents": 2210,
                "queries": {"test": 402},
                "counts": {},
            },
        ],
        "bench": {
            "collections": [
                _collection(
                    "pydocs-out-of-domain", "away", 402, [0.512, 0.481, 0.493, 0.508, 0.402]
                ),
                _collection("pydocs", "home", 1109, [0.573, 0.564, 0.569, 0.477, 0.431]),
            ],
            "latency": [
                {
                    "encoder": "teacher",
                    "queries_per_s": 88.0,
                    "p50_ms": 11.2,
                    "p99_ms": 19.0,
                    **measured_with,
                },
                {
                    "encoder": "student",
                    "queries_per_s": 382.0,
                    "p50_ms": 2.6,
                    "p99_ms": 4.4,
                    **measured_with,
                },
            ],
            "samples": [
                {
                    "query": "how do I invert a matrix",
                    "relevant": ["scipy.linalg.inv"],
                    "teacher": _hits("scipy.linalg.inv", 0, 0.71),
                    "student": _hits("numpy.linalg.inv", 2, 0.69),
                },
                {
                    "query": "find the eigenvalues of a large sparse operator",
                    "relevant": ["scipy.sparse.linalg.eigsh"],
                    "teacher": _hits("scipy.sparse.linalg.eigsh", 0, 0.66),
                    "student": _hits("scipy.sparse.linalg.eigs", 9, 0.64),
                },
            ],
        },
        "inherit": {
            "collection": "pydocs",
            "num_queries": 1109,
            "num_documents": 13379,
            "strict": False,
            "scales": {},
            "rows": _inherit_rows(),
        },
    }


def _measured(name: str, scores: dict[str, float]) -> list[dict[str, Any]]:
    labels = {"baseline": "baseline queries and documents", "bm25": "BM25"}
    return [
        {
            "system": system,
            "label": labels.get(system, f"{system} {name}"),
            **{metric: _cell(round(score + shift, 4)) for metric, shift in _SHIFTS.items()},
        }
        for system, score in scores.items()
    ]


_SHIFTS = {"ndcg@10": 0.0, "map@100": -0.05, "recall@10": 0.1, "recall@100": 0.25, "mrr@10": -0.02}


def _index_rows() -> list[dict[str, Any]]:
    settings = [
        ("flat", "exhaustive", 3072, 900.0, 1.0, 1.0),
        ("hnsw", "ef_search=64", 3345.5, 4200.0, 0.96, 0.94),
        ("hnsw", "ef_search=128", 3345.5, 2500.0, 0.98, 0.97),
        ("binary", "exhaustive", 96, 10100.0, 0.71, 0.70),
    ]
    rows: list[dict[str, Any]] = []
    reached: set[tuple[str, str]] = set()
    for kind, setting, size, speed, *recalls in settings:
        for side, recall in zip(("teacher", "student"), recalls, strict=True):
            is_cheapest = recall >= 0.95 and (kind, side) not in reached
            reached |= {(kind, side)} if is_cheapest else set()
            rows.append(
                {
                    "collection": "pydocs",
                    "kind": kind,
                    "setting": setting,
                    "queries": side,
                    "device": "cpu",
                    "faiss": "Flat",
                    "build_threads": 2,
                    "repetitions": 3,
                    "bytes_per_vector": size,
                    "rescore_bytes_per_vector": 0,
                    "build_s": 1.2,
                    "queries_per_s": speed,
                    "threads": 2,
                    "recall@10": _cell(recall, 0.004),
                    "ndcg@10": _cell(0.57 * recall),
                    "is_cheapest_at_target": is_cheapest,
                }
            )
    return rows


def grid_rows(gap: float = 0.002) -> list[dict[str, Any]]:
    """78 settings with every column; all inherited but those of 64 dimensions, asymmetric: one
    fails, the others are open.
    """
    rows = []
    for mode in ("symmetric", "asymmetric"):
        for dim in (768, 256, 64):
            for precision, size in (
                ("float32", 4.0),
                ("int8", 1.0),
                ("int4", 0.5),
                ("binary", 0.125),
            ):
                for queries in ("float", "quantized") if precision != "float32" else ("float",):
                    for rescoring in (0, 4) if precision != "float32" else (0,):
                        kept = {768: 1.0, 256: 0.98, 64: 0.87}[dim] * {"binary": 0.92}.get(
                            precision, 1.0
                        )
                        row = {
                            "mode": mode,
                            "dim": dim,
                            "precision": precision,
                            "queries": queries,
                            "rescoring": rescoring,
                            "bytes_per_vector": int(dim * size),
                            "teacher": 0.573 * kept,
                            "student": 0.569 * (kept - gap),
                            "teacher_retention": kept,
                            "teacher_retention_low": kept - 0.01,
                            "teacher_retention_high": kept + 0.01,
                            "student_retention": kept - gap,
                            "student_retention_low": kept - gap - 0.02,
                            "student_retention_high": kept - gap + 0.01,
                            "gap": gap,
                            "low": gap - 0.01,
                            "high": gap + 0.01,
                            "max_gap": 0.02,
                            "verdict": "inherited",
                        }
                        if mode == "asymmetric" and dim == 64:
                            row["verdict"] = (
                                "not inherited"
                                if (precision, queries, rescoring) == ("binary", "float", 0)
                                else "undecided"
                            )
                        rows.append(row)
    return rows


def diagnosis() -> dict[str, Any]:
    """What the examination of a teacher writes."""
    kept = {64: 0.87, 256: 0.98, 768: 1.0}
    return {
        "teacher": "kalm-mini",
        "collection": "pydocs",
        "num_texts": 13379,
        "num_queries": 1109,
        "dim": 768,
        "student_width": 384,
        "claimed_dims": [768, 256, 64],
        "precisions": ["float32", "binary"],
        "total_variance": 8.0,
        "spectrum": [
            {
                "rank": rank,
                "variance": share - 0.1,
                "ndcg": _cell(0.57 * share),
                "retention": _cell(share),
            }
            for rank, share in kept.items()
        ],
        "eigenvalues": [1 / (place + 1) for place in range(768)],
        "effective_rank": 212.31,
        "anisotropy": {"mean_cosine": 0.213, "low": 0.209, "high": 0.217, "num_pairs": 1000},
        "dims": [
            {
                "dim": dim,
                "variance": share - 0.1,
                "random_variance": share - 0.2,
                "random_variance_std": 0.01,
                "ndcg": _cell(0.57 * share),
                "retention": _cell(share),
                "random": {"ndcg": _cell(0.4), "retention": _cell(share - 0.05)},
                "gain": _cell(0.05),
            }
            for dim, share in kept.items()
        ],
        "binary": {
            "sign_agreement": 0.899,
            "sign_agreement_at": {"0.95": 0.899, "0.98": 0.936},
            "ndcg": _cell(0.52),
            "retention": _cell(0.921),
        },
        "findings": [
            "A student of hidden width 384 reaches 384 of 768 dimensions.",
            "One bit per dimension keeps 92.1%.",
        ],
        "verdict": "can be inherited",
    }


def full_data() -> dict[str, Any]:
    """The example run with every part that newer runs record; a fresh copy."""
    data = example_data()
    scores = {
        "teacher": 0.573,
        "symmetric": 0.564,
        "asymmetric": 0.569,
        "reversed": 0.561,
        "baseline": 0.477,
        "bm25": 0.431,
    }
    bench = data["bench"]
    for collection in bench["collections"]:
        collection["rows"] = _measured("label", scores)
        collection["retention"]["reversed"] = _cell(0.979, 0.01)
        for row, p in zip(collection["differences"], (0.0001, 0.21, 0.4, 0.0001), strict=True):
            row["p"] = p
    away, home = bench["collections"]
    away["contamination"] = {"unknown": "the training texts of minilm are not known"}
    home |= {
        "own_documents_dropped": 1109,
        "contamination": {
            "training_texts": 40211,
            "queries": {"total": 1109, "exact": 0, "near": 12},
            "documents": {"total": 13379, "exact": 13379, "near": 0},
            "notes": ["home's documents train the student by design"],
            "examples": [
                {
                    "evaluation": "invert a matrix",
                    "training": "Invert a  matrix!",
                    "kind": "near",
                    "role": "queries",
                }
            ],
        },
        "per_query": {
            "ids": ["q1", "q2", "q3", "q4", "q5"],
            "texts": ["invert a matrix", "solve", "sort a list", "sum", "mean"],
            "teacher": [1.0, 1.0, 0.5, 0.0, math.nan],
            "asymmetric": [1.0, 1.0, 0.25, 0.63, 1.0],
        },
        "lost": [
            {
                "id": "q3",
                "query": "sort a list",
                "teacher_ndcg": 0.5,
                "student_ndcg": 0.25,
                "relevant": ["list.sort"],
                "teacher": _hits("list.sort", 0, 0.8),
                "student": _hits("sorted", 9, 0.7),
            }
        ],
    }
    bench["macro"] = {
        "num_collections": 2,
        "rows": _measured(
            "label", {name: round(score - 0.03, 4) for name, score in scores.items()}
        ),
        "differences": [
            {
                "label": "asymmetric - teacher",
                "metric": "ndcg@10",
                **_cell(-0.011, 0.007),
                "p": 0.004,
            }
        ],
        "retention": {"symmetric": _cell(0.961, 0.02), "asymmetric": _cell(0.978, 0.012)},
    }
    bench["tasks"] = [
        {
            "kind": "sts",
            "name": "stsb",
            "metric": "spearman",
            "n": 1379,
            "how": "cosine",
            "counts": {},
            "rows": [{"system": "teacher", **_cell(0.842)}, {"system": "student", **_cell(0.835)}],
            "differences": [
                {"label": "student - teacher", "metric": "spearman", **_cell(-0.007, 0.005)}
            ],
        },
    ]
    bench["indexes"] = _index_rows()
    data["inherit"] = {
        "collection": "pydocs",
        "num_queries": 1109,
        "num_documents": 13379,
        "strict": True,
        "scales": {},
        "rows": grid_rows(),
    }
    data["diagnosis"] = diagnosis()
    return data


@pytest.fixture
def data() -> dict[str, Any]:
    """The example run without the parts that only a longer benchmark measures."""
    return example_data()


@pytest.fixture
def full() -> dict[str, Any]:
    """The example run with every part."""
    return full_data()
