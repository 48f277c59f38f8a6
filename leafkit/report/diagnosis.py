"""The report's sections on the teacher before training: its spectrum, low-rank maps, Matryoshka
heads and binary codes.

A section is None where the run did not measure it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from leafkit.report import facts
from leafkit.report import figures as fig
from leafkit.report.bars import Bar, bar_chart
from leafkit.report.cells import TONES, note, stacked
from leafkit.report.curves import Series, line_chart
from leafkit.report.inheritance import retention_series
from leafkit.report.markup import Safe, Section, badge, definitions, element, figure, join, table
from leafkit.report.tables import diagnosis_table

_BADGES = {
    "can be inherited": ("pass", "\N{CHECK MARK}"),
    "with losses": ("open", "\N{ALMOST EQUAL TO}"),
    "cannot be inherited": ("fail", "\N{BALLOT X}"),
}
_VARIANCE_TONE, _QUALITY_TONE, _RANDOM_TONE = 5, 3, 5
_MAX_CURVE_POINTS = 128
_LOW_RANKS = (1, 4, 16)  # marked on the axis below the ranks that were measured one by one

Data = Mapping[str, Any]


def diagnosis(data: Data) -> Section | None:
    """Whether this teacher can be inherited from, judged on its vectors alone."""
    found = facts.diagnosis(data)
    if not found:
        return None
    verdict = str(found.get("verdict", ""))
    outcome = (
        element("p", badge(*_BADGES.get(verdict, ("open", "?")), verdict), class_="outcome")
        if verdict
        else Safe("")
    )
    items = [element("li", sentence) for sentence in found.get("findings") or []]
    findings = element("ul", *items, class_="findings") if items else Safe("")
    charts = element("div", _rank_chart(found), _head_chart(found), class_="pair")
    tables = [diagnosis_table(data, part) for part in ("spectrum", "dims")]
    listed = element(
        "div",
        *(
            table(t.title, t.header, t.kinds, [_stacked(row) for row in t.rows])
            for t in tables
            if t.rows
        ),
        class_="pair",
    )
    body = join((outcome, findings, definitions(facts.diagnosis_facts(data)), charts, listed))
    return Section("diagnosis", "Diagnosis of the teacher", body)


def _stacked(row: Sequence[str]) -> list[Safe]:
    return [stacked(cell) for cell in row]


def _rank_chart(found: Data) -> Safe:
    """Share of variance and of nDCG@10 that affine maps of rising rank keep."""
    series = [_variance_series(found), *_quality_series(found.get("spectrum") or [], "rank")]
    shown = [s for s in series if len(s.points) > 1]
    if not shown:
        return Safe("")
    chart = line_chart(
        "What a low-rank map keeps",
        _in_words(shown),
        shown,
        "rank of the map",
        log_x=True,
        x_marks=_marks(shown),
    )
    return figure(
        chart,
        "Percent of the variance and of the full nDCG@10 that the best affine map of a rank keeps.",
    )


def _variance_series(found: Data) -> Series:
    """Cumulative share of the eigenvalues, a point per rank; of long spectra evenly spaced ranks by
    their logarithm.
    """
    values = [v for v in found.get("eigenvalues") or [] if fig.is_number(v)]
    total = found.get("total_variance")
    whole = total if fig.is_number(total) and total > 0 else sum(values)
    if not whole:
        return Series("variance", [], _VARIANCE_TONE)
    shares = [100 * kept / whole for kept in accumulate(values)]
    ranks = sorted(
        {round(len(shares) ** (i / (_MAX_CURVE_POINTS - 1))) for i in range(_MAX_CURVE_POINTS)}
    )
    return Series("variance", [(float(rank), shares[rank - 1]) for rank in ranks], _VARIANCE_TONE)


def _quality_series(rows: Sequence[Data], key: str) -> list[Series]:
    cells = {
        row[key]: row["retention"]
        for row in rows
        if fig.is_number(row.get(key)) and facts.score(row, "retention")
    }
    return [retention_series("nDCG@10", _QUALITY_TONE, cells)] if len(cells) > 1 else []


def _head_chart(found: Data) -> Safe:
    """What the first dimensions keep, beside as many dimensions of the same space turned at random."""
    rows = found.get("dims") or []
    turned = [
        {"dim": row.get("dim"), **row["random"]}
        for row in rows
        if isinstance(row.get("random"), Mapping)
    ]
    series = _quality_series(rows, "dim")
    series += [
        Series("turned at random", s.points, _RANDOM_TONE, s.band)
        for s in _quality_series(turned, "dim")
    ]
    if not series:
        return Safe("")
    chart = line_chart(
        "What the first dimensions keep",
        _in_words(series),
        series,
        "dimensions kept",
        log_x=True,
        x_marks=_marks(series),
    )
    random = (
        " Turned at random: as many dimensions of the same space without an order."
        if len(series) > 1
        else ""
    )
    return figure(
        chart,
        f"Percent of the full nDCG@10 that the first dimensions of the teacher's vectors "
        f"keep.{random}",
    )


def _marks(series: Sequence[Series]) -> list[float]:
    """Ranks or dimensions that were measured one by one, for the axis, and low ranks where a line
    reaches down to them.
    """
    marked = [s for s in series if s.tone == _QUALITY_TONE]
    measured = [x for x, _ in marked[0].points] if marked else []
    return (
        [
            *(
                rank
                for rank in _LOW_RANKS
                if any(s.points[0][0] <= rank < min(measured) for s in series)
            ),
            *measured,
        ]
        if measured
        else []
    )


def _in_words(series: Sequence[Series]) -> str:
    ends = [(s.name, s.points[0], s.points[-1]) for s in series]
    return "; ".join(
        f"{name}: {a[1]:.1f}% at {a[0]:g}, {b[1]:.1f}% at {b[0]:g}" for name, a, b in ends
    )


def spectrum(data: Data) -> Section | None:
    """How much of the teacher a student of this width can express at all."""
    found = data.get("spectrum") or {}
    labels = {"variance_kept": "variance kept", "ridge_cosine": "ridge cosine"}
    bars = [
        Bar(
            label,
            found[key],
            tone=TONES["asymmetric"],
            text=fig.percent(found[key]) if key == "variance_kept" else fig.decimal(found[key]),
        )
        for key, label in labels.items()
        if fig.is_number(found.get(key))
    ]
    if not bars:
        return None
    dim = (data.get("teacher") or {}).get("dim")
    texts = f", measured on {fig.grouped(found['num_texts'])} texts" if "num_texts" in found else ""
    sentence = (
        f"The student's output passes through {found.get('rank', '?')} hidden dimensions, the "
        f"teacher's vectors have "
        f"{dim or '?'}. The first bar is the variance that the best affine map of that rank "
        f"keeps, the second the mean cosine "
        f"to the teacher at the closed-form ridge start of the last layer{texts}."
    )
    chart = bar_chart(
        "What a low-rank map keeps",
        "; ".join(f"{b.label}: {b.text}" for b in bars),
        bars,
        [Bar("all", 1.0)],
    )
    return Section("spectrum", "Room in the student", join((note(sentence), figure(chart))))
