"""The systems that a benchmark compares, and the paired comparison of their values per query.

Symmetric: the student embeds queries and documents. Asymmetric: the student embeds queries, the
    teacher documents.
Reversed: the teacher embeds queries, the student documents.

Shapes: Q queries of one collection.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from leafkit.evaluation.bootstrap import Bootstrap, Draws
from leafkit.evaluation.metrics import METRICS
from leafkit.evaluation.significance import MacroBootstrap, macro_differences, randomisation_test
from leafkit.results import Difference, Interval, MacroFigures, SystemScores
from leafkit.results.retrieval import MAIN

# whose queries and whose documents, by system
ENCODERS = {
    "teacher": ("teacher", "teacher"),
    "symmetric": ("student", "student"),
    "asymmetric": ("student", "teacher"),
    "reversed": ("teacher", "student"),
    "baseline": ("baseline", "baseline"),
}
DIFFERENCES = (
    ("symmetric", "teacher"),
    ("asymmetric", "teacher"),
    ("reversed", "teacher"),
    ("asymmetric", "symmetric"),
    ("teacher", "baseline"),
    ("asymmetric", "baseline"),
    ("teacher", "bm25"),
)
RETAINED = ("symmetric", "asymmetric", "reversed")

Values = Mapping[str, Mapping[str, np.ndarray]]  # by system and metric, (Q,)
Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Systems with their intervals; see ``leafkit.results.CollectionResult``."""

    systems: tuple[SystemScores, ...]
    differences: tuple[Difference, ...]
    retention: dict[str, Interval]


def compare_systems(per_query: Values, *, num_resamples: int, seed: int) -> Comparison:
    """Means, differences and retention over the queries of one collection.

    Args:
        per_query: values of the same queries.
        num_resamples: of the bootstrap, and permutations of the randomisation test.
        seed: of both.
    """
    main = {name: values[MAIN] for name, values in per_query.items()}
    num_queries = len(next(iter(main.values())))
    draws = Bootstrap(num_queries, num_resamples, seed).draws(_flat(per_query))
    return _compare(
        draws, list(per_query), _differences(main), num_permutations=num_resamples, seed=seed
    )


def compare_macro(per_query: Sequence[Values], *, num_resamples: int, seed: int) -> MacroFigures:
    """Averages over collections that count alike, with hierarchical intervals, of the systems that
    all of them have.

    Intervals draw collections, then queries (``MacroBootstrap``); p flips the signs of the queries'
    differences (``macro_differences``), so that it speaks of these collections, and the interval of
    others like them. Retention is the ratio of two macro averages.

    Args:
        per_query: of each collection.
        num_resamples: of the bootstrap, and permutations of the randomisation test.
        seed: of both.
    """
    systems = [name for name in per_query[0] if all(name in values for values in per_query)]
    common = [{name: values[name] for name in systems} for values in per_query]
    sizes = [len(values[systems[0]][MAIN]) for values in common]
    draws = MacroBootstrap(sizes, num_resamples, seed).draws([_flat(values) for values in common])
    of_each = [_differences({name: values[name][MAIN] for name in systems}) for values in common]
    joined: dict[Pair, np.ndarray] = {}
    if of_each[0]:
        columns = macro_differences([np.stack(list(d.values()), axis=1) for d in of_each]).T
        joined = dict(zip(of_each[0], columns, strict=True))
    macro = _compare(draws, systems, joined, num_permutations=num_resamples, seed=seed)
    return MacroFigures(len(per_query), macro.systems, macro.differences, macro.retention)


def _flat(per_query: Values) -> dict[Pair, np.ndarray]:
    return {(name, metric): v for name, values in per_query.items() for metric, v in values.items()}


def _differences(main: Mapping[str, np.ndarray]) -> dict[Pair, np.ndarray]:
    """(Q,) by pair of systems."""
    return {(a, b): main[a] - main[b] for a, b in DIFFERENCES if a in main and b in main}


def _compare(
    draws: Draws[Pair],
    systems: Sequence[str],
    differences: Mapping[Pair, np.ndarray],
    *,
    num_permutations: int,
    seed: int,
) -> Comparison:
    p_values = np.empty(0)
    if differences:
        columns = np.stack(list(differences.values()), axis=1)
        p_values = randomisation_test(columns, num_permutations, seed)
    return Comparison(
        systems=tuple(
            SystemScores(name, {metric: draws.mean((name, metric)) for metric in METRICS})
            for name in systems
        ),
        differences=tuple(
            Difference(a, b, MAIN, draws.difference((a, MAIN), (b, MAIN)), p)
            for (a, b), p in zip(differences, p_values.tolist(), strict=True)
        ),
        retention={
            name: draws.ratio((name, MAIN), ("teacher", MAIN))
            for name in RETAINED
            if name in systems and "teacher" in systems
        },
    )
