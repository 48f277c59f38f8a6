"""How other ways to read a share off finished runs compare with the package's, by corpora that are
left out whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from lib.report import table

from leafkit.evaluation.forecast.calibration import FEATURES
from leafkit.results import FinishedRun
from leafkit.results.prediction import MADE_QUERIES
from predict_parts import fits, intervals
from predict_parts.fits import KNOWN, Way, figures_columns, linear
from predict_parts.hierarchy import hierarchical
from predict_parts.report import FEWEST_COVERED, Pair, left_out_by, turnout

_TO_SIGMA = 2 * 1.96  # standard deviations in an outcome's 95% interval
_OF_HALF = 0.6745  # standard deviations that half of a normal distribution's draws are within
SHIPPED = "as the package does"
REPEATED = "figures chosen anew without the corpus"
_CENTERS: dict[str, Callable[[str], Way]] = {
    "difference to the neighbors found": fits.from_neighbors,
    "all figures, ridge": lambda asked: linear(figures_columns(KNOWN[asked]), intervals.by_errors),
    "hierarchy of corpora, Bayesian": hierarchical,
    "shifts of kinds, shrunk": fits.with_kinds,
    "the teacher's own gain, too": fits.with_teacher_gain,
    "monotone map of the neighbors found": fits.monotone,
    "after one student was measured": fits.after_one,
}
_REACHES: dict[str, intervals.Reach] = {
    "errors alone": intervals.by_errors,
    "studentised": intervals.studentized,
    "corpora and kinds apart": intervals.in_two_parts,
    "pooled quantile, conformal": intervals.conformal,
}


ABOUT = (
    "A way may stand in for the package's if, on every corpus, its intervals are narrower or its "
    "errors smaller; its median error is no larger and its rank correlation no less by .01; its "
    f"90% intervals cover {FEWEST_COVERED:.0%} of each corpus; and the same interval covers as "
    "much, of all, where the figures are chosen anew by the other corpora alone (among all sets of "
    "up to three, by the mean of the corpora's median errors; for other shares that of the errors "
    "alone). It must hold however queries are asked. The rule was written when most of these "
    "figures were known: it asks for caution, and tests nothing. The package's own figures were "
    "chosen with all outcomes known, so its error here is kinder than a new corpus will be; the "
    "last rows say by how much.",
    "",
    "- *As the package does*: ridge regression of the logit of the share, below 125%, on two "
    "figures; Student's interval, in which the leverage counts beside the errors of corpora left "
    "out, and wider where a probe lies outside of the table.",
    "- *Difference to the neighbors found*: the logit of the share less that of the neighbors, one "
    "shift for all corpora, one for trained students.",
    "- *All figures, ridge*; *shifts of kinds, shrunk*; *the teacher's own gain, too* (nDCG of the "
    "teacher's own queries with the document they were made of): the same regression with more "
    "columns; interval of the errors alone.",
    "- *Hierarchy of corpora, Bayesian*: corpora have shifts and slopes of their own, of unknown "
    "spread; the posterior's median and quantiles, the noise of outcomes included.",
    "- *Monotone map of the neighbors found*: pooled adjacent violators.",
    "- *After one student was measured*: the package's regression, moved to where the last layer's "
    "student of the corpus turned out to be; that student is among the rows.",
    "- *Its shares, interval of ...*: the package's shares with other intervals: Student's of the "
    "errors alone; studentised, which divides each error by its own leverage; Satterthwaite's, of "
    "what corpora are off and what kinds are off within them; the pooled 90% quantile of the "
    "errors. No promise without assumptions can be had from four corpora: a conformal interval "
    "over whole corpora reaches 90% from nine on.",
    "",
    "Not tried, as the table does not hold them: the figures of each probe (it holds what they "
    "lead to for all texts), and the teacher's nDCG by query, which nobody knows before queries "
    "are judged. Errors and widths in points of the share; errors by corpus in the order of the "
    "heading.",
    "",
)


@dataclass(frozen=True, slots=True)
class Compared:
    """A way's predictions of corpora left out.

    Attributes:
        error: median, a share.
        errors: medians by corpus.
        covered: share of outcomes within the intervals.
        least: of a corpus.
        width: mean width of the intervals, a share.
        widths: means by corpus.
        order: Spearman's rank correlation.
    """

    error: float
    errors: Mapping[str, float]
    covered: float
    least: float
    width: float
    widths: Mapping[str, float]
    order: float

    def cells(self) -> list[str]:
        """For a table."""
        return [
            f"{100 * self.error:.1f}",
            " / ".join(f"{100 * one:.1f}" for one in self.errors.values()),
            f"{self.covered:.1%}",
            f"{self.least:.1%}",
            f"{100 * self.width:.1f}",
            f"{self.order:.3f}",
        ]


def compared(pairs: Sequence[Pair]) -> Compared:
    """Of predictions beside outcomes."""
    corpora = dict.fromkeys(run.corpus for _, run in pairs)
    own = {name: [pair for pair in pairs if pair[1].corpus == name] for name in corpora}
    parts, whole = {name: turnout(found) for name, found in own.items()}, turnout(pairs)
    return Compared(
        whole.error,
        {name: part.error for name, part in parts.items()},
        whole.covered,
        min(part.covered for part in parts.values()),
        _mean_width(pairs),
        {name: _mean_width(found) for name, found in own.items()},
        whole.order,
    )


def _mean_width(pairs: Sequence[Pair]) -> float:
    return float(np.mean([forecast.high - forecast.low for forecast, _ in pairs]))


def ways_of_asking(asked_with: str) -> dict[str, Way]:
    """Every way by its name, the package's first."""
    found = {SHIPPED: fits.shipped(asked_with)}
    for name, center in _CENTERS.items():
        if center is not fits.with_teacher_gain or asked_with == MADE_QUERIES:
            found[name] = center(asked_with)
    columns = figures_columns(FEATURES[asked_with])
    for name, reach in _REACHES.items():
        found[f"its shares, interval of {name}"] = linear(columns, reach)
    for name, reach in {"as the package's": intervals.by_leverage, **_REACHES}.items():
        found[f"{REPEATED}, interval of {name}"] = fits.choice_repeated(asked_with, reach)
    return found


def is_better(name: str, found: Mapping[str, Compared]) -> bool:
    """Whether a way may stand in for the package's: its intervals are narrower or its errors
    smaller on every corpus, its rank correlation is no less by more than .01, and its intervals
    cover enough of each corpus; the same interval must cover enough where the figures are chosen
    anew without the corpus.
    """
    one, own = found[name], found[SHIPPED]
    is_narrower = all(one.widths[corpus] < own.widths[corpus] for corpus in own.widths)
    is_nearer = all(one.errors[corpus] < own.errors[corpus] for corpus in own.errors)
    reach = name.rpartition("interval of ")[2] if "interval of" in name else "errors alone"
    again = found[f"{REPEATED}, interval of {reach}"]
    return (
        (is_narrower or is_nearer)
        and one.error <= own.error
        and one.order >= own.order - 0.01
        and min(one.least, again.covered) >= FEWEST_COVERED
    )


def comparison_lines(runs: Sequence[FinishedRun]) -> list[str]:
    """The body of the report.

    Args:
        runs: of at least three corpora.
    """
    corpora = list(dict.fromkeys(run.corpus for run in runs))
    head = [
        "way",
        "median error",
        " / ".join(corpora),
        "covered",
        "least of a corpus",
        "mean width",
        "Spearman",
    ]
    lines, passed = [*ABOUT, *noise_lines(runs)], []
    for asked_with in FEATURES:
        found = {
            name: compared(left_out_by(runs, way))
            for name, way in ways_of_asking(asked_with).items()
        }
        better = {n for n in found if not n.startswith((SHIPPED, REPEATED)) and is_better(n, found)}
        passed.append(better)
        lines += [
            f"## Queries {asked_with}",
            "",
            *table(head, [[name, *one.cells()] for name, one in found.items()]),
            f"By the rule above: {_listed(better)}.",
            "",
        ]
    return [*lines, f"However queries are asked: {_listed(set.intersection(*passed))}.", ""]


def _listed(names: set[str]) -> str:
    return "; ".join(sorted(names)) if names else "none may stand in for the package's"


def noise_lines(runs: Sequence[FinishedRun]) -> list[str]:
    """What a predictor would get that knew every student's share among all queries: the error that
    the judged ones alone make of it.
    """
    rows = []
    for name in dict.fromkeys(run.corpus for run in runs):
        own = [run for run in runs if run.corpus == name]
        rows.append([name, str(len(own)), str(own[0].outcome.n), f"{100 * _noise(own):.1f}"])
    rows.append(["all", str(len(runs)), "", f"{100 * _noise(runs):.1f}"])
    head = ["corpus", "runs", "judged queries", "median error of one who knew"]
    return ["## What no predictor can do", "", *table(head, rows)]


def _noise(runs: Sequence[FinishedRun]) -> float:
    wide = [run.outcome.high - run.outcome.low for run in runs]
    return float(np.median(wide)) / _TO_SIGMA * _OF_HALF
