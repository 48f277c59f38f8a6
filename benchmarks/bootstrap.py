"""The paired bootstrap against a plain numpy loop and scipy.stats.bootstrap: seconds and memory,
and that they agree.

    python benchmarks/bootstrap.py

The interval of one system's mean. Each measurement runs in a process of its own, so that its peak
memory is its own; the ways take turns. Writes a dated report.
"""

from __future__ import annotations

import json
import os
from importlib import metadata

import numpy as np
from lib.arguments import make_parser
from lib.children import Figures, median, take_turns
from lib.machine import Cost, describe, num_cores
from lib.report import command, publish, table, title

from leafkit.evaluation.bootstrap import Bootstrap, interval
from leafkit.evaluation.significance import randomisation_test

WAYS = {
    "leafkit": "leafkit.evaluation.bootstrap.Bootstrap(...).mean(values)",
    "leafkit30": "the same with the means of 30 systems and metrics, Bootstrap(...).means",
    "randomisation": "leafkit.evaluation.significance.randomisation_test of 7 differences",
    "loop": "numpy: values[generator.integers(n, size=n)].mean() in a loop",
    "loop30": "the same loop over 30 systems and metrics, values[drawn].mean(axis=0)",
    "scipy": "scipy.stats.bootstrap, percentile, vectorised, 200 resamples a batch",
}


def run_way(way: str, values: np.ndarray, num_resamples: int) -> list[float]:
    """Lower and upper end of the interval of the first column's mean, or the p values of the
    randomisation test.
    """
    if way == "leafkit":
        found = Bootstrap(len(values), num_resamples, 0).mean(values[:, 0])
    elif way == "leafkit30":
        found = interval(
            values[:, 0].mean(), Bootstrap(len(values), num_resamples, 0).means(values)[:, 0]
        )
    elif way == "loop":
        generator, column = np.random.default_rng(0), values[:, 0].copy()
        means = [
            column[generator.integers(len(column), size=len(column))].mean()
            for _ in range(num_resamples)
        ]
        found = interval(column.mean(), np.array(means))
    elif way == "loop30":
        generator = np.random.default_rng(0)
        drawn = (generator.integers(len(values), size=len(values)) for _ in range(num_resamples))
        found = interval(
            values[:, 0].mean(), np.array([values[rows].mean(axis=0)[0] for rows in drawn])
        )
    elif way == "scipy":
        from scipy import stats

        result = stats.bootstrap(
            (values[:, 0],),
            np.mean,
            n_resamples=num_resamples,
            batch=200,
            method="percentile",
            rng=np.random.default_rng(0),
        )
        return [float(result.confidence_interval.low), float(result.confidence_interval.high)]
    else:
        return randomisation_test(values[:, :7] - values[:, 7:14], num_resamples, 0).tolist()
    return [found.low, found.high]


def measure(way: str, num_queries: int, num_resamples: int) -> Figures:
    """Seconds, CPU seconds and peak memory of one way, in this process; making the values is not
    timed.
    """
    # as nDCG: many near 0 and near 1
    values = np.random.default_rng(1).beta(0.6, 0.4, size=(num_queries, 30))
    if way == "scipy":
        from scipy import stats  # noqa: F401  importing it is not timed
    with Cost() as cost:
        found = run_way(way, values, num_resamples)
    return cost.figures() | {"found": found}


def report(
    results: dict[str, list[Figures]],
    num_queries: int,
    num_resamples: int,
    load: tuple[float, ...],
) -> list[str]:
    """The measurements as Markdown; medians of the repeats."""
    packages = ["numpy", *(["scipy"] if "scipy" in results else [])]
    machine = describe(*packages, python=True)
    lines = [
        *title("Bootstrap"),
        f"{command()}, {machine}, OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}"
        + ("." if "scipy" in results else "; scipy is not installed."),
        f"{num_resamples:,} resamples of {num_queries:,} queries; {len(results['leafkit'])} "
        f"repetition(s), taking turns, each in a process of its own; medians. Load average before "
        f"and after: {load[0]:.1f} and {load[1]:.1f}.",
        "",
    ]
    header = ["way", "seconds", "CPU seconds", "memory above the values, MiB", "95% interval"]
    rows = []
    for way, runs in results.items():
        extra = median(runs, "peak_mib") - median(runs, "before_mib")
        ends = " to ".join(f"{end:.5f}" for end in runs[0]["found"])
        cells = [f"{median(runs, key):.2f}" for key in ("seconds", "cpu_s")]
        rows.append(
            [WAYS[way], *cells, f"{extra:,.0f}", "(p values)" if way == "randomisation" else ends]
        )
    lines += [
        *table(header, rows),
        "The intervals come from different draws and agree to the spread of a percentile of so "
        "many resamples.",
    ]
    if max(load) > num_cores():
        lines += [
            "",
            "The machine had more to do than it has cores: seconds are those of a shared "
            "machine. CPU seconds count the",
            "waiting of BLAS's threads for one another too, which a busy machine prolongs.",
        ]
    return lines


def main() -> None:
    """Take turns, then write the report; with --way, one measurement as JSON."""
    parser = make_parser(__doc__, turns=3, turns_flag="--repeats", can_print=True)
    parser.add_argument("--queries", type=int, default=10_000, help="n")
    parser.add_argument("--resamples", type=int, default=10_000, help="times n queries are drawn")
    parser.add_argument("--way", choices=WAYS, help="measure this way here and print it")
    options = parser.parse_args()
    if options.way:
        print(json.dumps(measure(options.way, options.queries, options.resamples)))
        return
    words = ["--queries", str(options.queries), "--resamples", str(options.resamples)]
    ways = {way: ["--way", way, *words] for way in WAYS if way != "scipy" or _has_scipy()}
    before = os.getloadavg()[0]
    results = take_turns(__file__, ways, options.repeats, is_alternating=True)
    load = before, os.getloadavg()[0]
    lines = report(results, options.queries, options.resamples, load)
    publish(lines, "bootstrap", print_only=options.print_only)


def _has_scipy() -> bool:
    try:
        metadata.version("scipy")
    except metadata.PackageNotFoundError:
        return False
    return True


if __name__ == "__main__":
    main()
