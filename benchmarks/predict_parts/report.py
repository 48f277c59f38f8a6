"""How predictions turned out: coverage of intervals, order, errors.

Shapes: P predictions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from lib.report import table

from leafkit.evaluation.forecast.calibration import FEATURES
from leafkit.results import FinishedRun, Forecast
from leafkit.results.codec import from_plain, read_json
from leafkit.results.prediction import TRAINED
from predict_parts.fits import Way, shipped

FORMAT = 1  # of a file of predictions
FEWEST_COVERED, LEAST_ORDER, MOST_ERROR = 0.85, 0.85, 0.02
Pair = tuple[Forecast, FinishedRun]


@dataclass(frozen=True, slots=True)
class Turnout:
    """Predictions beside outcomes.

    Attributes:
        count: P.
        covered: share of outcomes within the 90% intervals.
        order: Spearman's rank correlation.
        error: median absolute error, a share.
        width: median width of the intervals, a share.
        outside: share that were said to be outside of what was measured.
    """

    count: int
    covered: float
    order: float
    error: float
    width: float
    outside: float

    def cells(self) -> list[str]:
        """For a table."""
        return [
            f"{self.count:,}",
            f"{self.covered:.1%}",
            "" if np.isnan(self.order) else f"{self.order:.3f}",
            f"{100 * self.error:.1f}",
            f"{100 * self.width:.1f}",
            f"{self.outside:.1%}",
        ]

    @property
    def verdict(self) -> str:
        """Which bars are met, in words."""
        bars = {
            f"coverage of {FEWEST_COVERED:.0%}": self.covered >= FEWEST_COVERED,
            f"rank correlation of {LEAST_ORDER:g}": self.order >= LEAST_ORDER,
            f"median error of {100 * MOST_ERROR:g} points": self.error <= MOST_ERROR,
        }
        return "; ".join(f"{bar} {'met' if is_met else 'missed'}" for bar, is_met in bars.items())


def turnout(pairs: Sequence[Pair]) -> Turnout:
    """Of some predictions."""
    told = np.array([forecast.value for forecast, _ in pairs])
    found = np.array([run.outcome.value for _, run in pairs])
    covered = [forecast.low <= run.outcome.value <= forecast.high for forecast, run in pairs]
    return Turnout(
        count=len(pairs),
        covered=float(np.mean(covered)),
        order=spearman(told, found),
        error=float(np.median(np.abs(told - found))),
        width=float(np.median([forecast.high - forecast.low for forecast, _ in pairs])),
        outside=float(np.mean([bool(forecast.outside) for forecast, _ in pairs])),
    )


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Correlation of ranks, equals at their mean rank; NaN where all are equal.

    >>> round(spearman(np.array([1.0, 2, 3, 3]), np.array([1.0, 2, 9, 9])), 6)
    1.0
    """
    x, y = (_ranks(values) - _ranks(values).mean() for values in (a, b))
    lengths = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float(x @ y) / lengths if lengths else float("nan")


def _ranks(values: np.ndarray) -> np.ndarray:
    below = (values[:, None] > values[None, :]).sum(axis=1)
    equal = (values[:, None] == values[None, :]).sum(axis=1)
    ranks: np.ndarray = below + (equal - 1) / 2
    return ranks


def read_foretold(path: Path) -> Mapping[str, Any]:
    """The predictions of a file that ``foretell`` wrote.

    Raises:
        LeafkitError: it cannot be read or is no JSON.
        SystemExit: it is of another format, or none.
    """
    found = read_json(path, "benchmarks/predict.py foretell")
    if not isinstance(found, dict) or not {"about", "predictions"} <= found.keys():
        raise SystemExit(f"{path} holds no predictions: `predict.py foretell` writes them")
    number = found.get("format", FORMAT)  # none was written at first
    if type(number) is not int or number != FORMAT:
        raise SystemExit(
            f"{path} has format {number!r}, and this script reads {FORMAT}: settle it with the "
            "script that foretold"
        )
    return found


def compare(foretold: Mapping[str, Any], runs: Sequence[FinishedRun]) -> dict[str, list[Pair]]:
    """Predictions with their outcomes, by what was known of queries.

    Raises:
        SystemExit: a prediction has no outcome.
    """
    by_name = {(run.corpus, run.space, run.kind): run for run in runs}
    pairs: dict[str, list[Pair]] = {asked: [] for asked in FEATURES}
    for row in foretold["predictions"]:
        run = by_name.get((row["corpus"], row["space"], row["kind"]))
        if run is None or run.num_texts != row["texts"]:
            raise SystemExit(f"{row['corpus']}, {row['space']}, {row['kind']}: not settled")
        for asked, plain in row["forecasts"].items():
            pairs[asked].append((from_plain(Forecast, plain), run))
    return pairs


def left_out_by(runs: Sequence[FinishedRun], way: Way) -> list[Pair]:
    """Each corpus foretold by the runs on all others; a trained student where one of these was."""
    pairs = []
    for corpus in dict.fromkeys(run.corpus for run in runs):
        others = [run for run in runs if run.corpus != corpus]
        can_train = any(run.kind == TRAINED for run in others)
        own = [r for r in runs if r.corpus == corpus and (r.kind != TRAINED or can_train)]
        pairs += list(zip(way(others, own), own, strict=True))
    return pairs


def left_out(runs: Sequence[FinishedRun], asked_with: str) -> list[Pair]:
    """Each corpus foretold by the package's method from the runs on all others."""
    return left_out_by(runs, shipped(asked_with))


def report_lines(
    foretold: Mapping[str, Any], runs: Sequence[FinishedRun], table_runs: Sequence[FinishedRun]
) -> list[str]:
    """The body of the report.

    Args:
        foretold: the file of predictions.
        runs: outcomes of the same cases.
        table_runs: that the predictions were made of.
    """
    pairs, about = compare(foretold, runs), foretold["about"]
    corpora = list(dict.fromkeys(run.corpus for run in runs))
    head = ["queries", "predictions", "covered", "Spearman", "median error", "interval", "outside"]
    first = next(iter(pairs))
    lines = [
        f"Foretold on {about['date']} for {', '.join(corpora)}, which no run of the table is of, "
        f"by {about['table'][0]:,} finished runs on {', '.join(about['table'][1])}; made "
        "afterwards. Errors and widths of 90% intervals in points of retention; outside: the "
        "prediction said that its probe lies beyond all runs of the table.",
        "",
        *table(head, [[asked, *turnout(found).cells()] for asked, found in pairs.items()]),
        *[f"- Queries {asked}: {turnout(found).verdict}." for asked, found in pairs.items()],
        "",
        f"By space, queries {first}:",
        "",
        *table(["space", *head[1:]], _grouped(pairs[first], lambda run: run.space)),
        f"By student, queries {first}:",
        "",
        *table(["student", *head[1:]], _grouped(pairs[first], lambda run: run.kind)),
    ]
    return [*lines, *left_out_lines([*table_runs, *runs]), *_worst(pairs[first])]


def left_out_lines(runs: Sequence[FinishedRun]) -> list[str]:
    """What the runs on all other corpora say of each, in hindsight."""
    corpora = list(dict.fromkeys(run.corpus for run in runs))
    head = ["corpus", "predictions", "covered", "Spearman", "median error", "interval", "outside"]
    rows = []
    for asked in FEATURES:
        told = left_out(runs, asked)
        rows.append([f"all, {asked}", *turnout(told).cells()])
        rows += _grouped(told, lambda run: run.corpus, f", {asked}")
    return [
        f"Each of {', '.join(corpora)} from the runs on all others, in hindsight: the method was "
        "chosen with some of these outcomes known.",
        "",
        *table(head, rows),
    ]


def _grouped(pairs: Sequence[Pair], key: Any, suffix: str = "") -> list[list[str]]:
    names = dict.fromkeys(key(run) for _, run in pairs)
    return [
        [f"{name}{suffix}", *turnout([p for p in pairs if key(p[1]) == name]).cells()]
        for name in names
    ]


def _worst(pairs: Sequence[Pair], count: int = 8) -> list[str]:
    """The predictions that were farthest off."""
    order = sorted(pairs, key=lambda pair: -abs(pair[0].value - pair[1].outcome.value))
    rows = [
        [run.corpus, run.space, run.kind, str(forecast), run.outcome.percent()]
        for forecast, run in order[:count]
    ]
    head = ["corpus", "space", "student", "predicted", "turned out"]
    return ["The farthest off:", "", *table(head, rows)]
