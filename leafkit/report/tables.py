"""The run's figures as plain tables, so that the page, the card and the console show the same cells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from leafkit.report import figures as fig


@dataclass(frozen=True, slots=True)
class PlainTable:
    """Cells of text under their headings.

    Attributes:
        title: what the table holds.
        header: one heading per column.
        kinds: one letter per column: t is text, n is a number.
        rows: the cells.
    """

    title: str
    header: tuple[str, ...]
    kinds: str
    rows: list[list[str]]


def metrics_of(collection: Mapping[str, Any]) -> list[str]:
    """Metrics that at least one system was measured by."""
    return [m for m in fig.METRICS if any(m in row for row in collection.get("rows") or [])]


def retrieval_table(collection: Mapping[str, Any]) -> PlainTable:
    """Every system's metrics with their intervals."""
    metrics = metrics_of(collection)
    return PlainTable(
        title=f"{fig.describe(collection)}, {fig.grouped(collection.get('num_documents'))} documents",
        header=("system", *(fig.METRICS[m] for m in metrics)),
        kinds="t" + "n" * len(metrics),
        rows=[[fig.system_name(row), *(fig.interval(row.get(m)) for m in metrics)] for row in collection.get("rows") or []],
    )


def differences_table(data: Mapping[str, Any]) -> PlainTable:
    """Paired differences on all collections, and what each allows one to say."""
    rows = [
        [
            str(collection.get("name", "?")),
            fig.difference_name(row),
            fig.METRICS.get(row.get("metric", ""), str(row.get("metric", ""))),
            fig.signed_interval(row),
            fig.noise_verdict(row),
        ]
        for collection in fig.collections(data)
        for row in collection.get("differences") or []
    ]
    return PlainTable("Differences", ("collection", "difference", "metric", "value", "verdict"), "tttnt", rows)


def inheritance_table(data: Mapping[str, Any]) -> PlainTable:
    """Every setting of the inheritance check with its gap, what is allowed, and the verdict."""
    rows = [
        [
            str(row.get("dim", "?")),
            str(row.get("precision", "?")),
            str(row.get("mode", "?")),
            fig.decimal(row.get("teacher")),
            fig.decimal(row.get("student")),
            fig.signed_interval(row, "gap"),
            fig.decimal(row.get("max_gap")),
            str(row.get("verdict", "undecided")),
        ]
        for row in fig.inherit_rows(data)
    ]
    header = ("dim", "precision", "mode", "teacher", "student", "gap", "allowed", "verdict")
    where = (data.get("inherit") or {}).get("collection", "?")
    return PlainTable(f"Inheritance on {where}", header, "nttnnnnt", rows)


def latency_table(data: Mapping[str, Any]) -> PlainTable:
    """Single queries timed per encoder."""
    rows = [
        [
            str(row.get("encoder", "?")),
            fig.decimal(row.get("queries_per_s"), 1),
            fig.decimal(row.get("p50_ms"), 1),
            fig.decimal(row.get("p99_ms"), 1),
            fig.grouped(row.get("threads")),
            str(row.get("dtype", "?")),
            fig.grouped(row.get("num_queries")),
        ]
        for row in fig.rows_of(data, "latency")
    ]
    header = ("encoder", "queries/s", "p50 ms", "p99 ms", "threads", "dtype", "queries timed")
    return PlainTable("Latency of single queries", header, "tnnnntn", rows)


def steps_table(data: Mapping[str, Any]) -> PlainTable:
    """Every step's seconds and their sum."""
    steps = data.get("steps") or []
    rows = [[str(s.get("name", "?")), str(s.get("status", "")), fig.decimal(s.get("seconds"), 1)] for s in steps]
    if rows:
        total = sum(s["seconds"] for s in steps if fig.is_number(s.get("seconds")))
        rows.append(["total", "", fig.decimal(total, 1)])
    return PlainTable("Steps", ("step", "status", "seconds"), "ttn", rows)
