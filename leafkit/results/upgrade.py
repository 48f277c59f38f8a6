"""Files of format 1, written before there were types, in the shape of format 2.

Format 1 kept an estimate as {"mean", "low", "high"} without the number of queries, put metrics
beside the name of their system, and called the corpus that the student was trained on "home".
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any

Plain = Mapping[str, Any]
_KINDS = {"home": "in-domain", "away": "out-of-domain"}
_CLUSTERING_RUNS = 10
_GRID_PARTS = ("teacher_retention", "student_retention", "gap")


def upgrade_interval(cell: Plain, n: int | None) -> Plain:
    """An estimate with the number of queries it was resampled over."""
    return {"value": cell["mean"], "low": cell["low"], "high": cell["high"], "n": n}


def upgrade_evaluation(data: Plain) -> Plain:
    """results.json."""
    collections = [upgrade_collection(c) for c in data["collections"]]
    sizes = {c["name"]: c["num_queries"] for c in data["collections"]}
    found: dict[str, Any] = {
        "collections": collections,
        "samples": data.get("samples", []),
        "tasks": [_task(task) for task in data.get("tasks", [])],
        "indexes": [upgrade_index(row, sizes.get(row["collection"])) for row in _rows(data)],
        "latency": data.get("latency", []),
    }
    if data.get("macro"):
        macro, total = data["macro"], sum(sizes.values())
        found["macro"] = {"num_collections": macro["num_collections"]} | _compared(macro, total)
    return found | _others(data, ("collections", "samples", "tasks", "indexes", "latency", "macro"))


def _rows(data: Plain) -> Sequence[Plain]:
    return data.get("indexes") or []


def upgrade_collection(data: Plain) -> Plain:
    """A collection of results.json, or the figures of its part."""
    scores = dict(data["per_query"])
    found = {
        "name": data["name"],
        "kind": _KINDS.get(data["kind"], data["kind"]),
        "num_documents": data["num_documents"],
        "num_queries": data["num_queries"],
        "split": data["split"],
        "own_documents_dropped": data["own_documents_dropped"],
        "per_query": {"ids": scores.pop("ids"), "texts": scores.pop("texts"), "ndcg": scores},
        "lost": data["lost"],
        **_compared(data, data["num_queries"]),
    }
    if data.get("contamination"):
        found["contamination"] = data["contamination"]
    old = {"rows", "differences", "retention", "contamination"}
    return found | _others(data, {*found, *old})


def _compared(data: Plain, n: int) -> dict[str, object]:
    """Systems, differences and retention of a collection or of the mean over them."""
    return {
        "systems": [
            {
                "system": row["system"],
                "metrics": {
                    {"map": "map@100"}.get(metric, metric): upgrade_interval(cell, n)
                    for metric, cell in row.items()
                    if metric not in ("system", "label")
                },
            }
            for row in data["rows"]
        ],
        "differences": [_difference(row, n) for row in data["differences"]],
        "retention": {name: upgrade_interval(c, n) for name, c in data["retention"].items()},
    }


def _difference(row: Plain, n: int) -> Plain:
    a, _, b = row["label"].partition(" - ")
    found = {"a": a, "b": b, "metric": row["metric"], "interval": upgrade_interval(row, n)}
    return found | ({"p": row["p"]} if "p" in row else {})


def _task(data: Plain) -> Plain:
    # an interval of a clustering is over the runs of k-means
    n = data["n"] if data["kind"] != "clustering" else _CLUSTERING_RUNS
    return {
        "kind": data["kind"],
        "name": data["name"],
        "metric": data["metric"],
        "num_rows": data["n"],
        "how": data["how"],
        "counts": data["counts"],
        "scores": {row["system"]: upgrade_interval(row, n) for row in data["rows"]},
        "differences": [_difference(row, n) for row in data["differences"]],
    }


def upgrade_index(row: Plain, n: int | None) -> Plain:
    """A row of the comparison of indexes."""
    names = {"recall@10": "recall_at_10", "ndcg@10": "ndcg_at_10"}
    kept = {key: value for key, value in row.items() if key not in names}
    return kept | {new: upgrade_interval(row[old], n) for old, new in names.items()}


def upgrade_grid(data: Plain) -> Plain:
    """grid.json."""
    n = data["num_queries"]
    cells = [_cell(row, n) for row in data["rows"]]
    rest = {key: value for key, value in data.items() if key != "rows"}
    return {"collection": "", **rest, "cells": cells}


def _cell(row: Plain, n: int) -> Plain:
    bounds = {"gap": ("low", "high")} | {
        name: (f"{name}_low", f"{name}_high") for name in _GRID_PARTS if name != "gap"
    }
    old = {end for ends in bounds.values() for end in ends}
    kept = {key: value for key, value in row.items() if key not in old and key not in bounds}
    return kept | {
        name: {"value": row[name], "low": row[low], "high": row[high], "n": n}
        for name, (low, high) in bounds.items()
    }


def upgrade_diagnosis(data: Plain) -> Plain:
    """diagnosis.json."""
    n = data["num_queries"]
    about = ("teacher", "collection", "verdict", "findings")
    cosine, binary = data["anisotropy"], data["binary"]
    nested = {
        key: _quality(binary[key], n) for key in ("float_queries", "student") if key in binary
    }
    figures = {key: value for key, value in data.items() if key not in (*about, "anisotropy")}
    figures |= {
        "spectrum": [
            {"rank": row["rank"], "variance": row["variance"]} | _quality_of(row, n)
            for row in data["spectrum"]
        ],
        "dims": [_head(row, n) for row in data["dims"]],
        "mean_cosine": {
            "value": cosine["mean_cosine"],
            "low": cosine["low"],
            "high": cosine["high"],
            "n": cosine["num_pairs"],
        },
        "binary": {"sign_agreement_at": binary["sign_agreement_at"]}
        | _quality_of(binary, n)
        | nested,
    }
    return {key: data[key] for key in about} | {"figures": figures}


def _quality(data: Plain, n: int) -> Plain:
    return {name: upgrade_interval(data[name], n) for name in ("ndcg", "retention")}


def _quality_of(data: Plain, n: int) -> dict[str, object]:
    return {"quality": _quality(data, n)} if "ndcg" in data else {}


def _head(row: Plain, n: int) -> Plain:
    names = ("dim", "variance", "random_variance", "random_variance_std")
    found = {name: row[name] for name in names} | _quality_of(row, n)
    found |= {"random": _quality(row["random"], n)} if "random" in row else {}
    return found | ({"gain": upgrade_interval(row["gain"], n)} if "gain" in row else {})


def upgrade_report(data: Plain) -> Plain:
    """report.json, or the report of a run that measured only."""
    renamed = {"hardware": "machine", "inherit": "inheritance"}
    found = {renamed.get(key, key): value for key, value in data.items()}
    parts = {
        "bench": upgrade_evaluation,
        "inheritance": upgrade_grid,
        "diagnosis": upgrade_diagnosis,
    }
    return found | {key: parts[key](found[key]) for key in parts if found.get(key)}


def _others(data: Plain, known: Container[str]) -> dict[str, object]:
    """Keys that format 1 never had: kept, so that reading refuses them by name."""
    return {key: value for key, value in data.items() if key not in known}
