"""What a query costs against how well it is answered: points for the frontier charts, and the
charts of one run.

Quality is nDCG@10. Cost is bytes per stored vector, queries per second of an index, or milliseconds
to embed one query.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from leafkit.report import facts
from leafkit.report import figures as fig
from leafkit.report.cells import OTHER_TONE, TONES, note
from leafkit.report.markup import Safe, Section, element, figure, join
from leafkit.report.plots import Cloud, Dot, frontier_chart

# an index holds the teacher's documents
_SYSTEM_OF_SIDE = {
    "teacher": "teacher",
    "student": "asymmetric",
}
_ENCODER_OF = {
    "teacher": "teacher",
    "reversed": "teacher",
    "symmetric": "student",
    "asymmetric": "student",
    "baseline": "baseline",
}

Data = Mapping[str, Any]


def cost_collections(data: Data) -> list[str]:
    """Collections with indexes or an inheritance grid, and the first one where encoders were timed,
    in the report's order.
    """
    named = [row.get("collection") for row in facts.rows_of(data, "indexes")]
    if facts.inherit_rows(data):
        named.append((data.get("inherit") or {}).get("collection"))
    if facts.rows_of(data, "latency"):
        # encoders take as long on any other
        named += [c.get("name") for c in facts.collections(data)[:1]]
    order = [str(c.get("name")) for c in facts.collections(data)]
    found = list(dict.fromkeys(str(name) for name in named if name))
    return sorted(found, key=lambda name: order.index(name) if name in order else len(order))


def bytes_dots(data: Data, collection: str, system: str) -> list[Dot]:
    """nDCG@10 over bytes per vector, of indexes and of the inheritance grid."""
    indexes = [
        Dot(row["bytes_per_vector"], cell["mean"], index_words(row, cell))
        for row, cell in _index_rows(data, collection, system)
        if fig.is_number(row.get("bytes_per_vector"))
    ]
    return indexes + list(dict.fromkeys(_grid_dots(data, collection, system)))


def speed_dots(data: Data, collection: str, system: str) -> list[Dot]:
    """nDCG@10 over queries per second, of indexes."""
    return [
        Dot(row["queries_per_s"], cell["mean"], index_words(row, cell))
        for row, cell in _index_rows(data, collection, system)
        if fig.is_number(row.get("queries_per_s"))
    ]


def encoder_dots(data: Data, collection: str) -> list[tuple[str, Dot]]:
    """Per system nDCG@10 over the median milliseconds that its query encoder takes for one query."""
    found = []
    for row in (
        row
        for c in facts.collections(data)
        if str(c.get("name")) == collection
        for row in c.get("rows") or []
    ):
        system, cell = str(row.get("system", "?")), facts.score(row)
        timed = [
            t
            for t in facts.encoder_latency(data, _ENCODER_OF.get(system, ""))
            if fig.is_number(t.get("p50_ms"))
        ]
        if cell is not None and timed:
            milliseconds = timed[0]["p50_ms"]
            words = f"{facts.SYSTEMS.get(system, system)}: nDCG@10 {fig.interval(cell)}, {fig.decimal(milliseconds, 1)} ms"
            found.append((system, Dot(milliseconds, cell["mean"], words)))
    return found


def _index_rows(data: Data, collection: str, system: str) -> Iterator[tuple[Data, Data]]:
    for row in facts.rows_of(data, "indexes"):
        cell = facts.score(row)
        is_wanted = (
            str(row.get("collection")) == collection
            and _SYSTEM_OF_SIDE.get(row.get("queries", "")) == system
        )
        if is_wanted and cell is not None:
            yield row, cell


def index_name(row: Data) -> str:
    """Kind, setting and device of an index in one phrase."""
    device = row.get("device")
    parts = [
        row.get("kind", "?"),
        row.get("setting", ""),
        f"on {device}" if device and device != "cpu" else "",
    ]
    return " ".join(str(part) for part in parts if part)


def index_words(row: Data, cell: Data) -> str:
    """What one setting of an index costs and keeps, for a tooltip."""
    return (
        f"{index_name(row)}, {row.get('queries', '?')} queries: nDCG@10 {fig.interval(cell)}, "
        f"{fig.grouped_to(row.get('bytes_per_vector'), 1)} bytes, {fig.grouped_to(row.get('queries_per_s'), 0)} queries/s"
    )


def _grid_dots(data: Data, collection: str, system: str) -> Iterator[Dot]:
    check = data.get("inherit") or {}
    if str(check.get("collection")) != collection:
        return
    value = "teacher" if system == "teacher" else "student"
    for row in facts.inherit_rows(data):
        if (
            system in ("teacher", row.get("mode"))
            and fig.is_number(row.get("bytes_per_vector"))
            and fig.is_number(row.get(value))
        ):
            setting = f"{row.get('dim', '?')}-d {row.get('precision', '?')}, {facts.scoring(row)}"
            words = f"{setting}: nDCG@10 {fig.decimal(row[value])}, {fig.grouped(row['bytes_per_vector'])} bytes"
            yield Dot(row["bytes_per_vector"], row[value], words)


def bytes_chart(name: str, clouds: Sequence[Cloud]) -> Safe:
    """nDCG@10 against bytes per vector; nothing where fewer than two points are there."""
    return _chart(
        f"nDCG@10 against bytes per vector on {name}",
        clouds,
        "bytes per vector",
        larger_is_better=False,
        caption="Upwards: nDCG@10, from indexes and from the inheritance grid. Lines join the settings that nothing beats: "
        "better is up and to the left. Vectors that rescoring reads are not counted.",
    )


def speed_chart(name: str, clouds: Sequence[Cloud]) -> Safe:
    """nDCG@10 against the queries per second of the indexes; nothing where fewer than two points
    are there.
    """
    return _chart(
        f"nDCG@10 against search speed on {name}",
        clouds,
        "queries searched per second",
        larger_is_better=True,
        caption="Upwards: nDCG@10 of every index and setting, embedding not included. Better is up and to the right.",
    )


def encoder_chart(name: str, clouds: Sequence[Cloud]) -> Safe:
    """nDCG@10 against the time to embed a query; nothing where fewer than two points are there."""
    return _chart(
        f"nDCG@10 against time to embed a query on {name}",
        clouds,
        "ms to embed one query (median)",
        larger_is_better=False,
        caption="Upwards: nDCG@10 with exact search. Better is up and to the left.",
    )


def _chart(
    title: str, clouds: Sequence[Cloud], x_label: str, larger_is_better: bool, caption: str
) -> Safe:
    shown = [c for c in clouds if c.dots]
    if sum(len(c.dots) for c in shown) < 2:
        return Safe("")
    description = "; ".join(f"{c.name}: {len(c.dots)} settings" for c in shown)
    return figure(frontier_chart(title, description, shown, x_label, larger_is_better), caption)


def frontiers(data: Data) -> Section | None:
    """Quality against bytes, search speed and time to embed a query, for every collection with such
    figures.
    """
    cards = []
    for name in cost_collections(data):
        systems = ("teacher", "asymmetric", "symmetric")
        charts = [
            bytes_chart(name, [Cloud(s, bytes_dots(data, name, s), TONES[s]) for s in systems]),
            speed_chart(name, [Cloud(s, speed_dots(data, name, s), TONES[s]) for s in systems]),
            encoder_chart(
                name,
                [Cloud(s, [dot], TONES.get(s, OTHER_TONE)) for s, dot in encoder_dots(data, name)],
            ),
        ]
        if any(charts):
            cards.append(
                join(
                    (element("h3", name), element("div", *(c for c in charts if c), class_="pair"))
                )
            )
    words = note("Points are settings; pointing at one shows which. The y axes do not start at 0.")
    return Section("frontiers", "Quality against cost", join((words, *cards))) if cards else None
