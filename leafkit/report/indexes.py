"""The report's section on indexes: what every kind and setting costs and keeps, teacher and student
queries side by side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from leafkit.report import facts
from leafkit.report import figures as fig
from leafkit.report.cells import note, stacked, two_lines
from leafkit.report.markup import Safe, Section, badge, element, grouped_table, join
from leafkit.report.tables import setting_key, settings_of

_SIDES = ("teacher", "student")
_METRICS = (("recall@10", "recall@10"), ("ndcg@10", "nDCG@10"))

Data = Mapping[str, Any]


def indexes(data: Data) -> Section | None:
    """One table per collection, its rows grouped by kind of index."""
    rows = facts.rows_of(data, "indexes")
    if not rows:
        return None
    words = note(
        "recall@10 is the share of the ten documents of the same encoder's own exact search that "
        "the index finds. Bytes are "
        "those of the whole index over its vectors. ",
        _mark("teacher"),
        " and ",
        _mark("student"),
        " are the "
        "first settings of a sweep that reach the recall asked for: approximate queries may need "
        "a wider search than the "
        "teacher's.",
    )
    cards = [_table(name, own) for name, own in fig.by_name(rows, "collection").items()]
    return Section("indexes", "Indexes", join((words, *cards)))


def _mark(who: str) -> Safe:
    return badge("pass", "\N{BLACK STAR}", who)


def _table(name: str, rows: Sequence[Data]) -> Safe:
    sides = [s for s in _SIDES if any(row.get("queries") == s for row in rows)]
    header = [
        "setting",
        "bytes",
        "build",
        *(two_lines("queries/s", s) for s in sides),
        *(two_lines(metric, s) for _, metric in _METRICS for s in sides),
    ]
    groups = [
        (kind, [_cells(by_side, sides) for by_side in settings_of(own)])
        for kind, own in fig.by_name(rows, "kind").items()
    ]
    threads = fig.values_of(rows, "threads")
    how = (
        note(f"{', '.join(map(str, threads))} threads, all queries in one call.")
        if threads
        else Safe("")
    )
    return join(
        (
            element("h3", name),
            how,
            grouped_table(f"Indexes on {name}", header, "t" + "n" * (len(header) - 1), groups),
        )
    )


def _cells(by_side: Mapping[str, Data], sides: Sequence[str]) -> list[object]:
    any_row = next(iter(by_side.values()))
    setting, device = setting_key(any_row)
    cheapest = [s for s in sides if (by_side.get(s) or {}).get("is_cheapest_at_target")]
    mark = element("small", _mark(" and ".join(cheapest))) if cheapest else ""
    extra = any_row.get("rescore_bytes_per_vector")
    size = two_lines(
        fig.grouped_to(any_row.get("bytes_per_vector"), 1),
        f"+{fig.grouped(extra)} to rescore" if fig.is_number(extra) and extra else "",
    )
    return [
        join((two_lines(setting, device), mark)),
        size,
        fig.duration(any_row.get("build_s")),
        *(fig.grouped_to((by_side.get(s) or {}).get("queries_per_s"), 0) for s in sides),
        *(
            stacked(fig.interval((by_side.get(s) or {}).get(metric)))
            for metric, _ in _METRICS
            for s in sides
        ),
    ]
