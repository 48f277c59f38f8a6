"""Charts of what comes before the figures: the teacher's spectrum, the student's room, losses."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from leafkit.report.charts.bars import Bar, bar_chart
from leafkit.report.charts.plots import Series, line_chart
from leafkit.report.format import decimal, grouped, is_known, percent
from leafkit.report.run_charts import Figure, retention_series
from leafkit.results import DiagnosisFigures, RunReport, SpectrumSummary

_GREY, _QUALITY_TONE = 5, 3
_MAX_CURVE_POINTS, MAX_LOSS_POINTS = 128, 120
_LOW_RANKS = (1, 4, 16)  # marked on the axis below the ranks that were measured one by one


def rank_chart(found: DiagnosisFigures) -> Figure | None:
    """Shares of variance and of nDCG@10 that affine maps of rising rank keep."""
    kept = {row.rank: row.quality.retention for row in found.spectrum if row.quality}
    series = [_variance_series(found), retention_series("nDCG@10", _QUALITY_TONE, kept)]
    return _low_rank_figure(
        "What a low-rank map keeps",
        series,
        "rank of the map",
        "Percent of the variance and of the full nDCG@10 that the best affine map of a rank keeps.",
    )


def _variance_series(found: DiagnosisFigures) -> Series:
    """Cumulative share of the eigenvalues, a point per rank; of long spectra evenly spaced ranks by
    their logarithm.
    """
    values = [value for value in found.eigenvalues if is_known(value)]
    whole = found.total_variance if is_known(found.total_variance) else sum(values)
    shares = [100 * kept / whole for kept in accumulate(values)]
    last = _MAX_CURVE_POINTS - 1
    ranks = sorted({round(len(shares) ** (i / last)) for i in range(last + 1)})
    points = [(float(rank), shares[rank - 1]) for rank in ranks if shares]
    return Series("variance", points, _GREY)


def head_chart(found: DiagnosisFigures) -> Figure | None:
    """What the first dimensions keep, beside as many dimensions of the same space turned at
    random.
    """
    kept = {row.dim: row.quality.retention for row in found.dims if row.quality}
    turned = {row.dim: row.random.retention for row in found.dims if row.random}
    series = [retention_series("nDCG@10", _QUALITY_TONE, kept)]
    words = "Percent of the full nDCG@10 that the first dimensions of the teacher's vectors keep."
    if len(turned) > 1:
        series.append(retention_series("turned at random", _GREY, turned))
        words += " Turned at random: as many dimensions of the same space without an order."
    return _low_rank_figure("What the first dimensions keep", series, "dimensions kept", words)


def _low_rank_figure(
    title: str, series: Sequence[Series], x_label: str, caption: str
) -> Figure | None:
    shown = [s for s in series if len(s.points) > 1]
    if not shown:
        return None
    measured = [x for s in shown if s.tone == _QUALITY_TONE for x, _ in s.points]
    first = min(s.points[0][0] for s in shown)
    low = [rank for rank in _LOW_RANKS if measured and first <= rank < measured[0]]
    words = "; ".join(f"{s.name}: {_end(s.points[0])}, {_end(s.points[-1])}" for s in shown)
    marks = [*low, *measured]
    chart = line_chart(title, words, shown, x_label, log_x=True, x_marks=marks, y_label="% kept")
    return Figure(chart, caption)


def _end(point: tuple[float, float]) -> str:
    return f"{point[1]:.1f}% at {point[0]:g}"


def spectrum_chart(found: SpectrumSummary) -> Figure:
    """How much of the teacher a student of this width can express at all."""
    bars = [
        Bar("variance kept", found.variance_kept, tone=3, text=percent(found.variance_kept)),
        Bar("ridge cosine", found.ridge_cosine, tone=3, text=decimal(found.ridge_cosine)),
    ]
    words = "; ".join(f"{bar.label}: {bar.text}" for bar in bars)
    return Figure(bar_chart("What a low-rank map keeps", words, bars, shared=[Bar("all", 1.0)]))


def loss_charts(report: RunReport) -> list[tuple[str, Figure]]:
    """A curve per trained stage, each on its own scale: stages minimise different losses."""
    charts = []
    for name, values in report.losses.items():
        curve = _averaged(values)
        if len(curve) > 1:
            ends = f"{curve[0][1]:.4g}", f"{curve[-1][1]:.4g}"
            words = f"from {ends[0]} to {ends[1]} in {grouped(curve[-1][0])} steps"
            series = [Series(name, curve, 3)]
            title = f"Loss of stage {name}"
            chart = line_chart(title, words, series, "optimiser step", y_label="loss")
            charts.append((name, Figure(chart, " \N{RIGHTWARDS ARROW} ".join(ends))))
    return charts


def _averaged(values: Sequence[float]) -> list[tuple[float, float]]:
    """Means over equal stretches as (last step of the stretch, mean loss); undefined losses are
    left out.
    """
    kept = [(step, value) for step, value in enumerate(values, start=1) if is_known(value)]
    size = -(-len(kept) // MAX_LOSS_POINTS) or 1
    stretches = [kept[start : start + size] for start in range(0, len(kept), size)]
    return [(float(s[-1][0]), sum(value for _, value in s) / len(s)) for s in stretches]
