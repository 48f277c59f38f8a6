"""The sections of a comparison: runs are columns, and each has one colour everywhere.

A section is None where no run measured it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, TypeVar

from leafkit.report import facts, frontiers
from leafkit.report import figures as fig
from leafkit.report.bars import grouped_bars
from leafkit.report.cells import bar, inherit_badge, note, stacked, two_lines
from leafkit.report.inheritance import kept_by_system, plain_rows, retention_chart
from leafkit.report.markup import Safe, Section, badge, element, figure, grouped_table, join, table
from leafkit.report.plots import Cloud, Dot
from leafkit.report.theme import NUM_TONES

MAX_RUNS = NUM_TONES
_ABSENT = "\N{EN DASH}"
_ALWAYS_DIFFERENT = ("created", "peak_memory_gib")

Data = Mapping[str, Any]
Runs = Sequence[tuple[str, Data]]
_Name = TypeVar("_Name", bound=Hashable)


def tone(place: int) -> int:
    """The colour of a run by its place."""
    return place % MAX_RUNS + 1


def swatch(place: int) -> Safe:
    """A patch in the colour of a run."""
    return element("i", class_=f"swatch back-{tone(place)}", aria_hidden="true")


def _heads(runs: Runs) -> list[Safe]:
    return [
        element("span", swatch(place), name, class_="run") for place, (name, _) in enumerate(runs)
    ]


def _united(lists: Sequence[Sequence[_Name]]) -> list[_Name]:
    """Every name once, in order of appearance."""
    return list(dict.fromkeys(name for names in lists for name in names))


def retrieval(runs: Runs) -> Section | None:
    """nDCG@10 of every system in every run, one card per collection, and the means over all
    collections.
    """
    by_run = [{_key(c): c for c in facts.measured(data) if c.get("rows")} for _, data in runs]
    # the mean comes last
    keys = sorted(_united([list(found) for found in by_run]), key=lambda key: key[0])
    cards = [_collection(runs, [found.get(key) for found in by_run]) for key in keys]
    if not cards:
        return None
    words = note(
        "nDCG@10 with 95% intervals over the queries of each run. Two runs of this page are not "
        "paired: where their intervals "
        "overlap, a run that measures both encoders is what tells them apart."
    )
    return Section("retrieval", "Retrieval", join((words, *cards)))


def _key(collection: Data) -> tuple[bool, str]:
    """What two runs have to have in common for their collections to stand side by side."""
    return bool(collection.get("is_macro")), str(collection.get("name", "?"))


def _collection(runs: Runs, found: Sequence[Data | None]) -> Safe:
    measured = [c for c in found if c is not None]
    rows = [
        {str(row.get("system", "?")): row for row in (c or {}).get("rows") or []} for c in found
    ]
    systems = _united([list(by_system) for by_system in rows])
    kept = [(c or {}).get("retention") or {} for c in found]
    name = str(measured[0].get("name", "?"))
    scores = [
        [
            facts.system_name({"system": s}),
            *(_cell(fig.interval, own.get(s, {}).get("ndcg@10")) for own in rows),
        ]
        for s in systems
    ]
    modes = _united([list(share) for share in kept])
    shares = [
        [mode, *(_cell(fig.percent_interval, share.get(mode)) for share in kept)] for mode in modes
    ]
    about = [
        ["queries", *(_size(c, "num_queries") for c in found)],
        ["documents", *(_size(c, "num_documents") for c in found)],
        *(
            [f"{what} seen in training", *(_seen(c, what) for c in found)]
            for what in ("queries", "documents")
        ),
    ]
    is_macro = bool(measured[0].get("is_macro"))
    groups = [
        ("nDCG@10", scores),
        *([("share of the teacher", shares)] if shares else []),
        *([] if is_macro else [("", about)]),
    ]
    listed = grouped_table(f"nDCG@10 on {name}", ["", *_heads(runs)], "t" + "n" * len(runs), groups)
    chart = _system_bars(runs, systems, rows, name)
    words = element("div", element("h3", name), _mismatch(found), chart)
    return element("div", words, listed, class_="split")


def _cell(write: Callable[[Any], str], cell: Data | None) -> object:
    return stacked(write(cell)) if cell else _ABSENT


def _size(collection: Data | None, key: str) -> str:
    return fig.grouped((collection or {}).get(key)) if collection else _ABSENT


def _seen(collection: Data | None, what: str) -> str:
    """Contamination in short; the report of the run itself says more."""
    found = (collection or {}).get("contamination") or {}
    part = found.get(what)
    if part:
        return f"{fig.grouped(part.get('exact'))} exact, {fig.grouped(part.get('near'))} near"
    return "unknown" if collection else _ABSENT


def _mismatch(found: Sequence[Data | None]) -> Safe:
    """A warning where the runs did not measure the same queries or documents under this name."""
    sizes = {
        (c.get("num_queries"), c.get("num_documents"))
        for c in found
        if c is not None and not c.get("is_macro")
    }
    counts = {c.get("num_collections") for c in found if c is not None and c.get("is_macro")}
    if len(sizes) <= 1 and len(counts) <= 1:
        return Safe("")
    words = (
        "not the same queries and documents in every run"
        if sizes
        else "not the same collections in every run"
    )
    return element("p", badge("open", "!", words))


def _system_bars(
    runs: Runs, systems: Sequence[str], rows: Sequence[Mapping[str, Data]], name: str
) -> Safe:
    groups = []
    for system in systems:
        cells = [(place, facts.score(own.get(system) or {})) for place, own in enumerate(rows)]
        bars = [
            bar(runs[place][0], cell, tone(place), f"{cell['mean']:.2f}")
            for place, cell in cells
            if cell is not None
        ]
        if bars:
            groups.append((facts.system_name({"system": system}), bars))
    if not groups:
        return Safe("")
    description = "; ".join(
        f"{s}: " + ", ".join(f"{b.label} {b.text}" for b in bars) for s, bars in groups
    )
    return figure(grouped_bars(f"nDCG@10 on {name}", description, groups))


def inheritance(runs: Runs) -> Section | None:
    """Outcome and counts of verdicts, what is kept over dimensions, and the settings on which the
    runs disagree.
    """
    if not any(facts.inherit_rows(data) for _, data in runs):
        return None
    listed = table("Inheritance", ["", *_heads(runs)], "t" + "t" * len(runs), _outcomes(runs))
    modes = _united(
        [[str(m) for m in fig.values_of(facts.inherit_rows(data), "mode")] for _, data in runs]
    )
    charts = [chart for mode in modes if (chart := _curves(runs, mode))]
    body = join(
        (listed, element("div", *charts, class_="pair") if charts else "", _disagreements(runs))
    )
    return Section("inheritance", "Inheritance", body)


def _outcomes(runs: Runs) -> list[list[object]]:
    checks = [(data.get("inherit") or {}, facts.verdict_counts(data)) for _, data in runs]
    outcome = [
        _ABSENT
        if not counts
        else badge("pass", "\N{CHECK MARK}", "passed")
        if check.get("passed")
        else badge("fail", "\N{BALLOT X}", "not passed")
        for check, counts in checks
    ]
    rows: list[list[object]] = [["outcome", *outcome]]
    rows.append(
        [
            "collection",
            *(str(check.get("collection", "?")) if counts else _ABSENT for check, counts in checks),
        ]
    )
    rows += [
        [word, *(fig.grouped(counts.get(word, 0)) if counts else _ABSENT for _, counts in checks)]
        for word in facts.VERDICTS
    ]
    return rows


def _curves(runs: Runs, mode: str) -> Safe:
    """The student's retention over dimensions in one mode, a line per run; of a run alone the
    teacher's beside it.
    """
    lines = []
    for place, (name, data) in enumerate(runs):
        rows = [
            row
            for row in plain_rows(facts.inherit_rows(data))
            if row.get("mode") == mode
            and row.get("precision") == "float32"
            and fig.is_number(row.get("dim"))
        ]
        lines += [
            (name, tone(place), cells)
            for system, _, cells in kept_by_system(rows, "dim")
            if system != "teacher"
        ]
    return retention_chart(
        f"nDCG@10 that the student keeps over Matryoshka dimensions, {mode}", lines
    )


def _disagreements(runs: Runs) -> Safe:
    """Settings that two runs at least were measured on and that have not the same verdict
    everywhere.
    """
    found = [{_setting(row): row for row in facts.inherit_rows(data)} for _, data in runs]
    rows = []
    for setting in _united([list(own) for own in found]):
        cells = [own.get(setting) for own in found]
        verdicts = {str(row.get("verdict")) for row in cells if row is not None}
        if len(verdicts) > 1:
            rows.append([setting, *(_verdict(row) for row in cells)])
    if not rows:
        return Safe("")
    listed = table(
        "Settings with different verdicts", ["setting", *_heads(runs)], "t" + "t" * len(runs), rows
    )
    return element(
        "details", element("summary", f"{len(rows)} settings on which the runs differ"), listed
    )


def _setting(row: Data) -> str:
    return (
        f"{row.get('dim', '?')}-d {row.get('precision', '?')}, {row.get('mode', '?')}, "
        f"{facts.scoring(row)}"
    )


def _verdict(row: Data | None) -> object:
    return (
        two_lines(inherit_badge(row), f"gap {fig.signed_interval(row, 'gap')}")
        if row is not None
        else _ABSENT
    )


def costs(runs: Runs) -> Section | None:
    """Quality against bytes, search speed and time to embed a query, one colour per run."""
    cards = []
    for name in _united([frontiers.cost_collections(data) for _, data in runs]):
        charts = [
            frontiers.bytes_chart(name, _clouds(runs, name, _bytes)),
            frontiers.speed_chart(name, _clouds(runs, name, _speeds)),
            frontiers.encoder_chart(name, _clouds(runs, name, _encoders)),
        ]
        if any(charts):
            cards.append(
                join(
                    (element("h3", name), element("div", *(c for c in charts if c), class_="pair"))
                )
            )
    words = note(
        "Bytes and search speed: the student embeds the queries, the teacher the documents. Time "
        "to embed a query: every "
        "system of a run. Speeds compare only where the machine is the same. Pointing at a point "
        "shows its setting."
    )
    return Section("frontiers", "Quality against cost", join((words, *cards))) if cards else None


def _clouds(runs: Runs, collection: str, read: Callable[[Data, str], list[Dot]]) -> list[Cloud]:
    return [
        Cloud(name, read(data, collection), tone(place)) for place, (name, data) in enumerate(runs)
    ]


def _bytes(data: Data, collection: str) -> list[Dot]:
    return frontiers.bytes_dots(data, collection, "asymmetric")


def _speeds(data: Data, collection: str) -> list[Dot]:
    return frontiers.speed_dots(data, collection, "asymmetric")


def _encoders(data: Data, collection: str) -> list[Dot]:
    return [dot for _, dot in frontiers.encoder_dots(data, collection)]


def recipes(runs: Runs) -> Section | None:
    """The keys of the recipes that have not the same value in every run."""
    flat = [dict(fig.flatten(data["recipe"])) if data.get("recipe") else {} for _, data in runs]
    if sum(map(bool, flat)) < 2:
        return None
    known = [own for own in flat if own]
    keys = [
        key
        for key in _united([sorted(own) for own in flat])
        if len({own.get(key) for own in known}) > 1
    ]
    if not keys:
        return Section("recipes", "What differs in the recipes", note("Nothing."))
    cells = [
        [
            key,
            *(element("code", own[key], class_="kept") if key in own else _ABSENT for own in flat),
        ]
        for key in sorted(keys)
    ]
    listed = table(
        "What differs in the recipes", ["key", *_heads(runs)], "t" + "t" * len(runs), cells
    )
    return Section("recipes", "What differs in the recipes", listed)


def origins(runs: Runs) -> Section | None:
    """Versions and hardware side by side, those that differ marked, and the exact commands."""
    facts_by_run = [_origin(data) for _, data in runs]
    keys = _united([list(own) for own in facts_by_run])
    cells = [
        [_marked(key, facts_by_run), *(own.get(key, _ABSENT) for own in facts_by_run)]
        for key in keys
    ]
    listed = (
        table("Versions and hardware", ["", *_heads(runs)], "t" + "t" * len(runs), cells)
        if cells
        else Safe("")
    )
    commands = [
        join((element("h4", name), element("pre", element("code", data["command"]), tabindex="0")))
        for name, data in runs
        if data.get("command")
    ]
    body = join((*commands, listed))
    return Section("origin", "How these were made", body) if body else None


def _marked(key: str, facts_by_run: Sequence[Mapping[str, str]]) -> Safe:
    """The name of a fact, with a badge where it differs between runs and could matter."""
    differs = key not in _ALWAYS_DIFFERENT and len({own.get(key) for own in facts_by_run}) > 1
    return (
        join((key, " ", badge("open", "\N{NOT EQUAL TO}", "differs"))) if differs else join((key,))
    )


def _origin(data: Data) -> dict[str, str]:
    hardware = {
        key: value for key, value in (data.get("hardware") or {}).items() if value not in ("", None)
    }
    rounded = {
        key: fig.grouped_to(value, 1) if isinstance(value, float) else str(value)
        for key, value in hardware.items()
    }
    made = {
        key: str(data[key])[:19].replace("T", " ") for key in ("created", "commit") if data.get(key)
    }
    return (
        made
        | rounded
        | {key: str(value) for key, value in sorted((data.get("versions") or {}).items())}
    )


SECTIONS = (retrieval, inheritance, costs, recipes, origins)
