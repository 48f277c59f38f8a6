"""The report's sections on the run itself: latency, losses, steps, texts, recipe, versions and
hardware.

A section is None where the run did not record it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from leafkit.report import facts
from leafkit.report import figures as fig
from leafkit.report.bars import Bar, bar_chart
from leafkit.report.cells import note
from leafkit.report.curves import Series, line_chart
from leafkit.report.markup import Safe, Section, definitions, element, figure, join, table
from leafkit.report.tables import latency_table

_MAX_LOSS_POINTS = 120
_TONES = {"teacher": 1, "student": 3}
_OTHER_TONE = 4

Data = Mapping[str, Any]


def latency(data: Data) -> Section | None:
    """Single queries timed per encoder, as bars of queries per second and a table."""
    rows = facts.rows_of(data, "latency")
    if not rows:
        return None
    roles = {id(row): role for role in _TONES for row in facts.encoder_latency(data, role)}
    bars = [
        Bar(
            str(row.get("encoder", "?")),
            row["queries_per_s"],
            tone=_TONES.get(roles.get(id(row), ""), _OTHER_TONE),
            text=f"{row['queries_per_s']:,.0f}/s",
        )
        for row in rows
        if fig.is_number(row.get("queries_per_s"))
    ]
    description = "; ".join(f"{b.label}: {b.text}" for b in bars)
    chart = figure(
        bar_chart("Queries per second", description, bars),
        "Queries embedded per second, one at a time.",
    )
    plain = latency_table(data)
    listed = table(plain.title, plain.header, plain.kinds, plain.rows)
    where = (
        note(f"Measured in this run on {facts.machine(data)}.") if facts.machine(data) else Safe("")
    )
    return Section(
        "latency",
        "Latency",
        join((where, element("div", chart if bars else "", listed, class_="pair"))),
    )


def losses(data: Data) -> Section | None:
    """One curve per trained stage, each on its own scale: stages minimise different losses."""
    curves = {name: _averaged(values) for name, values in (data.get("losses") or {}).items()}
    shown = {name: curve for name, curve in curves.items() if len(curve) > 1}
    if not shown:
        return None
    charts = [_loss_curve(name, curve) for name, curve in shown.items()]
    words = note(f"Mean training loss over up to {_MAX_LOSS_POINTS} equal stretches of each stage.")
    return Section("losses", "Losses", join((words, element("div", *charts, class_="pair"))))


def _loss_curve(name: str, curve: list[tuple[float, float]]) -> Safe:
    first, last, num_steps = curve[0][1], curve[-1][1], int(curve[-1][0])
    description = f"from {first:.4g} to {last:.4g} in {fig.grouped(num_steps)} steps"
    chart = line_chart(
        f"Loss of stage {name}", description, [Series(name, curve, 3)], "optimiser step"
    )
    return figure(
        chart, join((element("b", name), f": {first:.4g} \N{RIGHTWARDS ARROW} {last:.4g}"))
    )


def _averaged(values: Sequence[Any]) -> list[tuple[float, float]]:
    """Means over equal stretches as (last step of the stretch, mean loss); undefined losses are
    left out.
    """
    kept = [
        (step, value) for step, value in enumerate(values or [], start=1) if fig.is_number(value)
    ]
    size = -(-len(kept) // _MAX_LOSS_POINTS) or 1
    stretches = [kept[start : start + size] for start in range(0, len(kept), size)]
    return [(float(s[-1][0]), sum(value for _, value in s) / len(s)) for s in stretches]


def steps(data: Data) -> Section | None:
    """Where the time went."""
    rows = data.get("steps") or []
    if not rows:
        return None
    seconds = [row["seconds"] if fig.is_number(row.get("seconds")) else 0.0 for row in rows]
    longest = max(seconds) or 1.0
    cells: list[list[object]] = [
        [
            row.get("name", "?"),
            row.get("status", ""),
            fig.duration(row.get("seconds")),
            element(
                "span",
                class_="meter",
                style=f"width:{100 * spent / longest:.1f}%",
                aria_hidden="true",
            ),
        ]
        for row, spent in zip(rows, seconds, strict=True)
    ]
    cells.append([element("b", "total"), "", element("b", fig.duration(sum(seconds))), ""])
    return Section(
        "steps",
        "Time of each step",
        table("Time of each step", ["step", "status", "time", "share"], "ttnt", cells),
    )


def models(data: Data) -> Section | None:
    """The two encoders side by side."""
    shown = [(role, data[role]) for role in ("teacher", "student") if data.get(role)]
    if not shown:
        return None
    asked: list[tuple[str, Any]] = [
        ("name", lambda m: m.get("name", fig.MISSING)),
        ("parameters", lambda m: fig.grouped(m.get("parameters"))),
        ("dimensions", lambda m: fig.grouped(m.get("dim"))),
        ("Matryoshka", lambda m: ", ".join(map(str, m.get("mrl_dims") or [])) or "none"),
        ("FLOPs per token", lambda m: fig.short_count(m.get("flops_per_token"))),
        ("query prompt", lambda m: _prompt(m, "query")),
        ("document prompt", lambda m: _prompt(m, "document")),
    ]
    cells = [[name, *(read(model) for _, model in shown)] for name, read in asked]
    return Section(
        "models",
        "Models",
        table("Models", ["", *(role for role, _ in shown)], "t" * (len(shown) + 1), cells),
    )


def _prompt(model: Data, role: str) -> object:
    prompt = (model.get("prompts") or {}).get(role)
    return element("code", prompt.replace("\n", "\\n")) if prompt else "none"


def texts(data: Data) -> Section | None:
    """The collections that were read, and what was dropped from them."""
    rows = data.get("corpora") or []
    if not rows:
        return None
    splits = fig.values_of(
        [{"split": s} for row in rows for s in row.get("queries") or {}], "split"
    )
    cells = [
        [
            row.get("name", "?"),
            fig.grouped(row.get("num_documents")),
            *(fig.grouped((row.get("queries") or {}).get(s, 0)) for s in splits),
            "; ".join(f"{what}: {fig.grouped(n)}" for what, n in (row.get("counts") or {}).items()),
        ]
        for row in rows
    ]
    header = ["collection", "documents", *(f"{s} queries" for s in splits), "counts"]
    return Section("texts", "Texts", table("Texts", header, "tn" + "n" * len(splits) + "t", cells))


def origin(data: Data) -> Section | None:
    """What it takes to run this again: command, recipe, versions, hardware."""
    hardware = data.get("hardware") or {}
    memory = f"{fig.decimal(hardware.get('memory_gib'), 1)} GiB" if "memory_gib" in hardware else ""
    peak = (
        f"{fig.decimal(hardware.get('peak_memory_gib'), 1)} GiB"
        if "peak_memory_gib" in hardware
        else ""
    )
    found = definitions(
        [
            ("created", str(data.get("created") or "").replace("T", " ")),
            ("commit", data.get("commit", "")),
            ("CPU", hardware.get("cpu", "")),
            ("cores", hardware.get("cores", "")),
            ("threads", hardware.get("threads", "")),
            ("memory", memory),
            ("peak memory", peak),
            ("device", hardware.get("device", "")),
            ("accelerator", hardware.get("accelerator", "")),
            ("precision", hardware.get("precision", "")),
            *sorted((data.get("versions") or {}).items()),
        ]
    )
    command = (
        element("pre", element("code", data["command"]), tabindex="0")
        if data.get("command")
        else Safe("")
    )
    recipe = Safe("")
    if data.get("recipe"):
        lines = "\n".join(f"{key}={value}" for key, value in fig.flatten(data["recipe"]))
        recipe = element(
            "details",
            element("summary", "Resolved recipe"),
            element("pre", element("code", lines), tabindex="0"),
        )
    body = join((command, recipe, found))
    return Section("origin", "How this was made", body) if body else None
