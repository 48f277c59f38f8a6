"""The run's figures as plain tables, so that the page, the card and the console show the same
cells.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from leafkit.report import facts
from leafkit.report import figures as fig

LARGE_GRID = (
    20  # settings; card and console show of a larger grid what is not inherited, and how many are
)
_SIDES = ("teacher", "student")

Data = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PlainTable:
    """Cells of text under their headings.

    Attributes:
        title: what the table holds.
        header: one heading per column.
        kinds: one letter per column: t is text, n is a number.
        rows: the cells.
        notes: what one has to know beside the cells.
    """

    title: str
    header: tuple[str, ...]
    kinds: str
    rows: list[list[str]]
    notes: tuple[str, ...] = ()


def metrics_of(collection: Data) -> list[str]:
    """Metrics that at least one system was measured by."""
    return [m for m in facts.METRICS if any(m in row for row in collection.get("rows") or [])]


def retrieval_table(collection: Data, narrow: bool = False) -> PlainTable:
    """Every system's metrics with their intervals; a ``narrow`` table leaves out MAP, and remarks
    on contamination.
    """
    metrics = [m for m in metrics_of(collection) if not (narrow and m == "map")]
    size = (
        ""
        if collection.get("is_macro")
        else f", {fig.grouped(collection.get('num_documents'))} documents"
    )
    return PlainTable(
        title=f"{facts.describe(collection)}{size}",
        header=("system", *(facts.METRICS[m] for m in metrics)),
        kinds="t" + "n" * len(metrics),
        rows=[
            [facts.system_name(row), *(fig.interval(row.get(m)) for m in metrics)]
            for row in collection.get("rows") or []
        ],
        notes=tuple(facts.notes_on(collection, brief=narrow)),
    )


def differences_table(data: Data) -> PlainTable:
    """Paired differences on all collections and tasks, and what each allows one to say."""
    found = [
        (str(part.get("name", "?")), row)
        for part in (*facts.measured(data), *facts.rows_of(data, "tasks"))
        for row in part.get("differences") or []
    ]
    has_p = any("p" in row for _, row in found)
    rows = [
        [
            name,
            facts.difference_name(row),
            facts.metric_name(row.get("metric", "")),
            fig.signed_interval(row),
            *([fig.p_value(row)] if has_p else []),
            fig.noise_verdict(row),
        ]
        for name, row in found
    ]
    header = ("collection", "difference", "metric", "value", *(["p"] if has_p else []), "verdict")
    return PlainTable("Differences", header, "tttnnt" if has_p else "tttnt", rows)


def tasks_table(data: Data) -> PlainTable:
    """Every system's score on every task without a search."""
    rows = [
        [
            str(task.get("name", "?")),
            str(task.get("kind", "?")),
            facts.metric_name(task.get("metric", "?")),
            fig.grouped(task.get("n")),
            facts.system_name(row),
            fig.interval(row),
        ]
        for task in facts.rows_of(data, "tasks")
        for row in task.get("rows") or []
    ]
    return PlainTable(
        "Tasks without a search",
        ("task", "kind", "measure", "n", "system", "score"),
        "tttntn",
        rows,
    )


def setting_key(row: Data) -> tuple[str, str]:
    """What tells the settings of one kind of index apart: the setting, and the device where it is
    not the CPU.
    """
    device = str(row.get("device") or "cpu")
    return str(row.get("setting", "?")), "" if device == "cpu" else device


def settings_of(rows: Iterable[Data]) -> list[dict[str, Data]]:
    """Rows of one kind of index by setting and device, and within by side."""
    found: dict[tuple[str, str], dict[str, Data]] = {}
    for row in rows:
        found.setdefault(setting_key(row), {})[str(row.get("queries"))] = row
    return list(found.values())


def index_tables(data: Data, narrow: bool = False) -> list[PlainTable]:
    """For each collection and kind of index the setting that each side needs for the recall asked
    for.

    Where no setting of a kind reaches it, the one with the highest recall is shown and said to fall
    short. A ``narrow`` table leaves out nDCG.
    """
    header = (
        "index",
        "queries",
        "setting",
        "bytes",
        "queries/s",
        "recall@10",
        *(() if narrow else ("nDCG@10",)),
    )
    note = "The first setting that reaches the recall asked for; * the best one where none does."
    return [
        PlainTable(
            f"Indexes on {name}",
            header,
            "tttnnnn"[: len(header)],
            [
                _index_cells(kind, side, chosen, reached)[: len(header)]
                for kind, own in fig.by_name(rows, "kind").items()
                for side in _SIDES
                for chosen, reached in _chosen([row for row in own if row.get("queries") == side])
            ],
            (note,),
        )
        for name, rows in fig.by_name(facts.rows_of(data, "indexes"), "collection").items()
    ]


def _chosen(rows: Sequence[Data]) -> list[tuple[Data, bool]]:
    """The settings marked as cheapest, one per device, or the best one."""
    marked = [(row, True) for row in rows if row.get("is_cheapest_at_target")]
    measured = [row for row in rows if facts.score(row, "recall@10")]
    best = [(max(measured, key=lambda row: row["recall@10"]["mean"]), False)] if measured else []
    return marked or best


def _index_cells(kind: str, side: str, row: Data, reached: bool) -> list[str]:
    setting = " ".join(part for part in setting_key(row) if part)
    return [
        kind,
        side,
        setting if reached else f"{setting}*",
        fig.grouped_to(row.get("bytes_per_vector"), 0),
        fig.grouped_to(row.get("queries_per_s"), 0),
        fig.interval(row.get("recall@10")),
        fig.interval(row.get("ndcg@10")),
    ]


def inheritance_table(data: Data, narrow: bool = False) -> PlainTable:
    """The settings of the inheritance check with their gap, what is allowed, and the verdict; of a
    large grid those alone that are not inherited, the undecided ones last.

    Args:
        data: what the stages measured.
        narrow: leave out the scores of the two where a column says how a setting is scored.
    """
    every = facts.inherit_rows(data)
    is_large = len(every) > LARGE_GRID
    failing = [row for row in every if row.get("verdict") != "inherited"]
    shown = (
        sorted(failing, key=lambda row: row.get("verdict") != "not inherited")
        if is_large
        else every
    )
    scored = any(facts.scoring(row) != "plain" for row in every)
    with_scores = not (narrow and scored)
    rows = [
        [
            str(row.get("dim", "?")),
            str(row.get("precision", "?")),
            str(row.get("mode", "?")),
            *([facts.scoring(row)] if scored else []),
            *(
                [fig.decimal(row.get("teacher")), fig.decimal(row.get("student"))]
                if with_scores
                else []
            ),
            fig.signed_interval(row, "gap"),
            fig.decimal(row.get("max_gap")),
            str(row.get("verdict", "undecided")),
        ]
        for row in shown
    ]
    header = (
        "dim",
        "precision",
        "mode",
        *(["scored"] if scored else []),
        *(["teacher", "student"] if with_scores else []),
        "gap",
        "allowed",
        "verdict",
    )
    kinds = "ntt" + "t" * scored + "nn" * with_scores + "nnt"
    which = ", settings that are not inherited" if is_large else ""
    where = (data.get("inherit") or {}).get("collection", "?")
    return PlainTable(f"Inheritance on {where}{which}", header, kinds, rows)


def diagnosis_table(data: Data, part: str) -> PlainTable:
    """What low-rank maps (``part`` is spectrum) or the teacher's first dimensions (dims) keep.

    ``gain`` is what a head keeps beyond as many dimensions of the same space turned at random.
    """
    title, key = {"spectrum": ("Best affine maps", "rank"), "dims": ("First dimensions", "dim")}[
        part
    ]
    found = facts.diagnosis(data).get(part) or []
    has_quality = any(facts.score(row, "ndcg") for row in found)
    has_gain = any(facts.score(row, "gain") for row in found)
    rows = [
        [
            str(row.get(key, "?")),
            fig.percent(row.get("variance")),
            *(
                [fig.interval(row.get("ndcg")), fig.percent_interval(row.get("retention"))]
                if has_quality
                else []
            ),
            *([fig.signed_interval(row["gain"]) if row.get("gain") else ""] if has_gain else []),
        ]
        for row in found
    ]
    quality = ("nDCG@10", "of the full nDCG@10") if has_quality else ()
    header = (key, "variance", *quality, *(("gain",) if has_gain else ()))
    return PlainTable(title, header, "n" * len(header), rows)


def latency_table(data: Data) -> PlainTable:
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
        for row in facts.rows_of(data, "latency")
    ]
    header = ("encoder", "queries/s", "p50 ms", "p99 ms", "threads", "dtype", "queries timed")
    return PlainTable("Latency of single queries", header, "tnnnntn", rows)


def steps_table(data: Data) -> PlainTable:
    """Every step's seconds and their sum."""
    steps = data.get("steps") or []
    rows = [
        [str(s.get("name", "?")), str(s.get("status", "")), fig.decimal(s.get("seconds"), 1)]
        for s in steps
    ]
    if rows:
        total = sum(s["seconds"] for s in steps if fig.is_number(s.get("seconds")))
        rows.append(["total", "", fig.decimal(total, 1)])
    return PlainTable("Steps", ("step", "status", "seconds"), "ttn", rows)
