"""The charts of one run: what was measured, as drawings with captions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, NamedTuple, TypeVar

from markupsafe import Markup

from leafkit.report.charts.axes import ticks
from leafkit.report.charts.bars import Bar, bar_chart, grouped_bars
from leafkit.report.charts.plots import Cloud, Dot, Series, line_chart, square_scatter
from leafkit.report.facts import Scored, difference_name, system_name
from leafkit.report.format import (
    decimal,
    grouped,
    interval,
    is_known,
    noise_verdict,
    percent_interval,
    shorten,
    signed_interval,
)
from leafkit.report.tables import difference_label, difference_table
from leafkit.results import Difference, GridCell, Interval

TONES = {"teacher": 1, "symmetric": 2, "asymmetric": 3, "baseline": 4, "bm25": 5, "reversed": 7}
_GREY, _LOSS_TONE, _GAIN_TONE = 5, 4, 3
_SAME = 1e-9  # scores closer than this are equal
_MAX_GROUPS = 4  # of bars in one chart

_Key = TypeVar("_Key", int, str)


def tone_of(system: str) -> int:
    """The color of a system in charts and keys."""
    return TONES.get(system, 6)


@dataclass(frozen=True, slots=True)
class Figure:
    """A chart and the words below it."""

    chart: Markup
    caption: str = ""


class Line(NamedTuple, Generic[_Key]):
    """Shares of the full score that a system keeps, by dimension or precision."""

    name: str
    tone: int
    shares: Mapping[_Key, Interval]


def interval_bar(label: str, cell: Interval, tone: int, form: str, *, scale: float = 1.0) -> Bar:
    """A score times ``scale`` with its interval, where that is known; ``form`` is how it is
    printed beside the bar, "" for not at all.
    """
    value = scale * cell.value
    bar = Bar(label, value, tone=tone, text=f"{value:{form}}" if form else "")
    if not is_known(cell.low):
        return bar
    return replace(bar, low=scale * cell.low, high=scale * cell.high)


def retrieval_chart(part: Scored, beside: Iterable[Scored]) -> Figure | None:
    """nDCG@10 of every system as bars, on one scale with the charts ``beside`` it."""
    bars = _retrieval_bars(part)
    words = "; ".join(
        f"{system_name(row.system)}: {interval(part.score(row.system))}" for row in part.systems
    )
    shared = [bar for other in beside for bar in _retrieval_bars(other)]
    chart = bar_chart(f"nDCG@10 on {part.title}", words, bars, shared=shared)
    return Figure(chart) if bars else None


def _retrieval_bars(part: Scored) -> list[Bar]:
    cells = [(row.system, cell) for row in part.systems if (cell := part.score(row.system))]
    return [interval_bar(system_name(s), cell, tone_of(s), ".3f") for s, cell in cells]


def difference_chart(part: Scored, beside: Iterable[Scored]) -> Figure | None:
    """Paired differences as dots beside 0; strong where the interval tells them from it."""
    bars = _difference_bars(part)
    words = "; ".join(
        f"{difference_name(d)}: {signed_interval(d.interval)}, {noise_verdict(d.interval, d.p)}"
        for d in part.differences
    )
    shared = [bar for other in beside for bar in _difference_bars(other)]
    chart = bar_chart(difference_table(part).title, words, bars, shared=shared, dots=True)
    return Figure(chart) if bars else None


def _difference_bars(part: Scored) -> list[Bar]:
    return [
        interval_bar(difference_label(d), d.interval, _difference_tone(d), "")
        for d in part.differences
        if is_known(d.interval.value)
    ]


def _difference_tone(row: Difference) -> int:
    return 1 if noise_verdict(row.interval, row.p) in ("higher", "lower") else _GREY


def query_change(teacher: float, student: float) -> str:
    """nDCG@10 of one query, in words."""
    return f"teacher {decimal(teacher, 2)}, student {decimal(student, 2)}"


def query_chart(part: Scored) -> Figure | None:
    """The student's nDCG@10 over the teacher's, one dot per query."""
    if part.collection is None:
        return None
    queries = part.collection.per_query
    mode = next((m for m in ("asymmetric", "symmetric") if queries.ndcg.get(m)), None)
    if mode is None or "teacher" not in queries.ndcg:
        return None
    scores = queries.ndcg["teacher"], queries.ndcg[mode]
    dots = [
        Dot(teacher, student, f"{shorten(text, 90)} ({query_change(teacher, student)})")
        for text, teacher, student in zip(queries.texts or queries.ids, *scores, strict=True)
        if is_known(teacher) and is_known(student)
    ]
    sides = (
        ("student worse", _LOSS_TONE, [d for d in dots if d.y < d.x - _SAME]),
        ("equal", _GREY, [d for d in dots if abs(d.y - d.x) <= _SAME]),
        ("student better", _GAIN_TONE, [d for d in dots if d.y > d.x + _SAME]),
    )
    clouds = [Cloud(f"{name}: {grouped(len(own))}", own, tone) for name, tone, own in sides]
    words = "; ".join(cloud.name for cloud in clouds)
    title = f"nDCG@10 per query on {part.title}"
    y_label = f"nDCG@10 of the student ({mode})"
    chart = square_scatter(title, words, clouds, "nDCG@10 of the teacher", y_label=y_label)
    is_sample = len(dots) < part.collection.num_queries
    sample = f"A sample of {grouped(len(dots))} queries." if is_sample else ""
    return Figure(chart, sample) if dots else None


def kept_by_dim(cells: Iterable[GridCell]) -> list[Line[int]]:
    """Shares kept by dimension in float32, without rescoring."""
    plain = [c for c in cells if (c.scoring, c.precision) == ("plain", "float32")]
    return kept_lines(plain, lambda c: c.dim)


def kept_lines(cells: Sequence[GridCell], key: Callable[[GridCell], _Key]) -> list[Line[_Key]]:
    """Shares kept by the teacher and by the student in either mode, by ``key`` of the settings."""
    every = [("teacher", TONES["teacher"], [(key(c), c.teacher_retention) for c in cells])]
    for mode in dict.fromkeys(c.mode for c in cells):
        own = [(key(c), c.student_retention) for c in cells if c.mode == mode]
        every.append((f"student, {mode}", tone_of(mode), own))
    known = [(n, t, {k: cell for k, cell in own if is_known(cell.value)}) for n, t, own in every]
    return [Line(*line) for line in known if line[2]]


def retention_series(name: str, tone: int, shares: Mapping[int, Interval]) -> Series:
    """Shares in percent, with the band of their intervals."""
    rows = sorted((x, c) for x, c in shares.items() if is_known(c.value))
    band = [(x, 100 * c.low, 100 * c.high) for x, c in rows if is_known(c.low)]
    return Series(name, [(x, 100 * c.value) for x, c in rows], tone, band)


def matryoshka_chart(title: str, lines: Sequence[Line[int]]) -> Figure | None:
    """What is left of nDCG@10 over the dimensions kept; None where there is one alone."""
    dims = sorted({dim for line in lines for dim in line.shares})
    if len(dims) < 2:
        return None
    series = [retention_series(line.name, line.tone, line.shares) for line in lines]
    words = _in_words((line.name, sorted(line.shares.items()), "-d ") for line in lines)
    label = "dimensions kept (float32)"
    y_label = "% of the own nDCG@10 at full size"
    chart = line_chart(title, words, series, label, log_x=True, x_marks=dims, y_label=y_label)
    drawn = [y for s in series for _, *ys in (*s.points, *s.band) for y in ys]
    starts_at_0 = ticks(min(drawn), max(drawn))[0] <= 0
    return Figure(
        chart,
        "Percent of the own nDCG@10 at full size that is left when only the first dimensions of "
        "every vector are kept. Bands are 95% intervals."
        + ("" if starts_at_0 else " The y axis does not start at 0."),
    )


def _in_words(lines: Iterable[tuple[str, Iterable[tuple[object, Interval]], str]]) -> str:
    return "; ".join(
        f"{name}: " + ", ".join(f"{key}{unit}{percent_interval(cell)}" for key, cell in shares)
        for name, shares, unit in lines
    )


def precision_charts(cells: Sequence[GridCell]) -> list[Figure]:
    """Shares kept by precision at full dimension with float queries, as they are and rescored, on
    as many charts as it takes to read them.
    """
    full = max((c.dim for c in cells), default=0)
    whole = [c for c in cells if (c.dim, c.queries) == (full, "float")]
    charts = []
    for way in dict.fromkeys(c.scoring for c in whole):
        own = [c for c in whole if c.scoring == way]
        names = list(dict.fromkeys(c.precision for c in own))
        num_charts = -(-len(names) // _MAX_GROUPS) if len(names) > 1 else 0
        for i in range(num_charts):
            shown = names[len(names) * i // num_charts : len(names) * (i + 1) // num_charts]
            charts.append(_precision_chart(own, shown, "" if way == "plain" else f", {way}"))
    return charts


def _precision_chart(cells: Sequence[GridCell], precisions: Sequence[str], how: str) -> Figure:
    lines = kept_lines(cells, lambda c: c.precision)
    groups = [
        (p, [interval_bar(n, s[p], t, ".0f", scale=100) for n, t, s in lines if p in s])
        for p in precisions
    ]
    words = _in_words((p, [(n, s[p]) for n, _, s in lines if p in s], " ") for p in precisions)
    chart = grouped_bars(f"nDCG@10 kept by precision ({', '.join(precisions)}){how}", words, groups)
    size = f"all {cells[0].dim} dimensions{how}"
    return Figure(
        chart, f"Percent of the own nDCG@10 that is left, {size}; whiskers are 95% intervals."
    )
