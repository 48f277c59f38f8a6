"""Other ways to read a share off finished runs than the package's, each told for runs of a corpus
that it knows nothing of.

Shapes: R runs, n of them asked about, F features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np

from leafkit.evaluation.forecast.calibration import (
    CEILING,
    FEATURES,
    SMALLEST,
    SMALLEST_SHARE,
    calibrate,
    figures_of,
    share_of_logit,
    solve_ridge,
    to_logit,
)
from leafkit.results import FinishedRun, Forecast
from leafkit.results.prediction import (
    DOCUMENTS_ALONE,
    GIVEN_QUERIES,
    LAST_LAYER,
    MADE_QUERIES,
    TRAINED,
)
from predict_parts.intervals import (
    Errors,
    Reach,
    by_errors,
    mean_square,
    t_quantile,
    weights_of,
)
from predict_parts.spaces import AS_IT_IS

Runs = Sequence[FinishedRun]
Way = Callable[[Runs, Runs], list[Forecast]]  # runs that are known, runs that are asked about
NEIGHBORS = {
    MADE_QUERIES: "query_overlap",
    GIVEN_QUERIES: "query_overlap",
    DOCUMENTS_ALONE: "document_overlap",
}
# what a prediction can know by how it asks
KNOWN = {
    MADE_QUERIES: (
        "query_overlap",
        "document_cosine",
        "document_overlap",
        "source_overlap",
        "source_gain",
        "query_cosine",
        "source_share",
    ),
    GIVEN_QUERIES: ("query_overlap", "document_cosine", "document_overlap", "query_cosine"),
    DOCUMENTS_ALONE: ("document_overlap", "document_cosine", "source_overlap", "source_gain"),
}
_STRONG = 1e3  # a column times this is free of the ridge, one over it is held at 0


def shares_of(runs: Runs) -> np.ndarray:
    """(R,) that were kept."""
    return np.array([run.outcome.value for run in runs], dtype=np.float64)


def groups_of(runs: Runs) -> np.ndarray:
    """(R,) number of each run's corpus."""
    names = list(dict.fromkeys(run.corpus for run in runs))
    return np.array([names.index(run.corpus) for run in runs])


def figures_columns(names: Sequence[str]) -> Callable[[Runs], np.ndarray]:
    """Gives (R, F) logits of figures, and whether a run was trained."""

    def columns(runs: Runs) -> np.ndarray:
        values = np.stack([figures_of(run.probe, names) for run in runs])
        trained = [run.kind == TRAINED for run in runs]
        return np.column_stack([to_logit(values, 1.0, SMALLEST), np.array(trained, dtype=float)])

    return columns


def linear(
    columns: Callable[[Runs], np.ndarray],
    reach: Reach,
    *,
    slopes: Callable[[Runs], np.ndarray] | None = None,
) -> Way:
    """A ridge regression of logits.

    Args:
        columns: (R, F) of runs.
        reach: of the interval.
        slopes: (R,) what the logit is, before the regression; None for 0.
    """

    def tell(known: Runs, asked: Runs) -> list[Forecast]:
        x, new = columns(known), columns(asked)
        base = slopes(known) if slopes else np.zeros(len(known))
        begun = slopes(asked) if slopes else np.zeros(len(asked))
        y = to_logit(shares_of(known), CEILING, SMALLEST_SHARE) - base
        groups = groups_of(known)
        errors = _left_out_errors(x, y, groups, [run.kind for run in known])
        center, leverage = _fit(x, y, groups, new)
        return as_forecasts(begun + center, reach(errors, leverage))

    return tell


def _fit(
    x: np.ndarray, y: np.ndarray, groups: np.ndarray, new: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(n,) what is told, and (n,) leverages, runs of a corpus being one witness."""
    mean, weight, base, inverse = solve_ridge(x, y, weights_of(groups))
    off = new - mean
    witnesses = len(x) / len(np.unique(groups))
    return base + off @ weight, witnesses * np.einsum("nf,fg,ng->n", off, inverse, off)


def _left_out_errors(
    x: np.ndarray, y: np.ndarray, groups: np.ndarray, kinds: Sequence[str]
) -> Errors:
    values, leverages = np.zeros(len(y)), np.zeros(len(y))
    for group in np.unique(groups):
        own = groups == group
        rest = np.unique(groups[~own], return_inverse=True)[1]
        told, leverages[own] = _fit(x[~own], y[~own], rest, x[own])
        values[own] = y[own] - told
    return Errors(values, leverages, groups, np.array(kinds))


def as_forecasts(center: np.ndarray, reach: np.ndarray) -> list[Forecast]:
    """Shares of (n,) logits and their reach."""
    rows = zip(center, center - reach, center + reach, strict=True)
    return [Forecast(*(share_of_logit(float(one)) for one in row), "") for row in rows]


def shipped(asked_with: str) -> Way:
    """The package's own."""

    def tell(known: Runs, asked: Runs) -> list[Forecast]:
        found = calibrate(known, asked_with)
        return [found.forecast(run.probe, is_trained=run.kind == TRAINED) for run in asked]

    return tell


def from_neighbors(asked_with: str) -> Way:
    """The difference to the logit of the share of neighbors that the probe finds: one shift for
    all, and one for students that were trained.
    """
    name = NEIGHBORS[asked_with]

    def slopes(runs: Runs) -> np.ndarray:
        return figures_columns([name])(runs)[:, 0]

    def columns(runs: Runs) -> np.ndarray:
        cosine = figures_columns(["document_cosine"])(runs)
        cosine[:, 0] /= _STRONG  # so shrunk that it says nothing
        return cosine

    return linear(columns, by_errors, slopes=slopes)


def with_kinds(asked_with: str) -> Way:
    """The package's figures, and a shrunk shift for each kind of student: a static table, pruned
    layers, all layers, and what is stored in fewer dimensions or bits.
    """
    plain = figures_columns(FEATURES[asked_with])
    words = ("static", "2-layers", "3-layers", "all-layers", "dimensions", "binary")

    def columns(runs: Runs) -> np.ndarray:
        shifts = [[float(word in run.kind) for word in words] for run in runs]
        return np.column_stack([plain(runs), np.array(shifts)])

    return linear(columns, by_errors)


def with_teacher_gain(asked_with: str) -> Way:
    """The package's figures, and how often the teacher itself finds the document that a query was
    made of.
    """
    plain = figures_columns(FEATURES[asked_with])

    def columns(runs: Runs) -> np.ndarray:
        gains = figures_columns(["source_gain"])
        teacher = [
            np.clip((run.probe.source_gain or 0) / (run.probe.source_share or 1), 0, 1)
            for run in runs
        ]
        logits = to_logit(np.array(teacher), 1.0, SMALLEST)
        return np.column_stack([plain(runs), logits, gains(runs)[:, 0]])

    return linear(columns, by_errors)


def after_one(asked_with: str) -> Way:
    """The package's figures, shifted by what one student of the corpus turned out to be (the last
    layer's, in the teacher's own space): a corpus's own shift is known then.

    Raises:
        ValueError: a corpus has no such run.
    """
    columns = figures_columns(FEATURES[asked_with])

    def tell(known: Runs, asked: Runs) -> list[Forecast]:
        x, groups = columns(known), groups_of(known)
        y = to_logit(shares_of(known), CEILING, SMALLEST_SHARE)
        errors = _left_out_errors(x, y, groups, [run.kind for run in known])
        values = errors.values.copy()
        for group in np.unique(groups):
            own = np.flatnonzero(groups == group)
            values[own] -= errors.values[own[place_of_first([known[i] for i in own])]]
        center, leverage = _fit(x, y, groups, columns(asked))
        found = to_logit(shares_of(asked), CEILING, SMALLEST_SHARE)
        first = place_of_first(asked)
        reach = by_errors(Errors(values, errors.leverages, groups, errors.kinds), leverage)
        return as_forecasts(center + found[first] - center[first], reach)

    return tell


def place_of_first(runs: Runs) -> int:
    """Position of the last layer's student in the teacher's own space.

    Raises:
        ValueError: there is none.
    """
    return [(run.kind, run.space) for run in runs].index((LAST_LAYER, AS_IT_IS))


def monotone(asked_with: str) -> Way:
    """Shares that rise with the share of neighbors found, by pooling adjacent violators; those of
    trained students above them by their mean difference.
    """
    name = NEIGHBORS[asked_with]

    def fit(known: Runs, asked: Runs) -> np.ndarray:
        x, new = (np.array([getattr(r.probe, name) for r in runs]) for runs in (known, asked))
        took, takes = (np.array([r.kind == TRAINED for r in runs]) for runs in (known, asked))
        y, weights = shares_of(known), weights_of(groups_of(known))
        order = np.argsort(x[~took], kind="stable")
        levels = pool_adjacent(y[~took][order], weights[~took][order])
        at = x[~took][order]
        shift = float(np.mean(y[took] - np.interp(x[took], at, levels))) if took.any() else 0.0
        return np.interp(new, at, levels) + shift * takes

    def tell(known: Runs, asked: Runs) -> list[Forecast]:
        groups, off = groups_of(known), np.zeros(len(known))
        for group in np.unique(groups):
            own = np.flatnonzero(groups == group)
            rest = [known[i] for i in np.flatnonzero(groups != group)]
            off[own] = shares_of([known[i] for i in own]) - fit(rest, [known[i] for i in own])
        reach = t_quantile(len(np.unique(groups)) - 1) * np.sqrt(mean_square(off, groups))
        return [
            Forecast(value, max(0.0, value - reach), min(CEILING, value + reach), "")
            for value in fit(known, asked).tolist()
        ]

    return tell


def pool_adjacent(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(R,) rising values that are nearest to others in weighted squares.

    >>> pool_adjacent(np.array([1.0, 3.0, 2.0, 4.0]), np.ones(4)).tolist()
    [1.0, 2.5, 2.5, 4.0]
    """
    blocks: list[list[float]] = []  # mean, weight, count
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        blocks.append([value, weight, 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            mean, more, count = blocks.pop()
            last = blocks[-1]
            last[0] = (last[0] * last[1] + mean * more) / (last[1] + more)
            last[1] += more
            last[2] += count
    return np.repeat([block[0] for block in blocks], [int(block[2]) for block in blocks])


def choice_repeated(asked_with: str, reach: Reach, most: int = 3) -> Way:
    """Whichever of all sets of figures tells corpora left out of the known runs best, by the mean
    of their median errors: what a choice made by outcomes is worth where they are not known.
    """
    sets = [
        names for count in range(1, most + 1) for names in combinations(KNOWN[asked_with], count)
    ]

    def worth(known: Runs, names: Sequence[str]) -> float:
        x = figures_columns(names)(known)
        shares, groups = shares_of(known), groups_of(known)
        y = to_logit(shares, CEILING, SMALLEST_SHARE)
        errors = _left_out_errors(x, y, groups, [run.kind for run in known])
        told = CEILING / (1 + np.exp(errors.values - y))
        off = np.abs(told - shares)
        return float(np.mean([np.median(off[groups == group]) for group in np.unique(groups)]))

    def tell(known: Runs, asked: Runs) -> list[Forecast]:
        best = min(sets, key=lambda names: worth(known, names))
        return linear(figures_columns(best), reach)(known, asked)

    return tell
