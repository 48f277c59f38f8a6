"""The paired bootstrap against a plain numpy loop and scipy.stats.bootstrap: seconds and memory,
and that they agree.

    python benchmarks/bootstrap.py

The interval of one system's mean. Each measurement runs in a process of its own, so that its peak
memory is its own; the ways take turns. Writes a dated report.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import resource
import shlex
import statistics
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import numpy as np

from leafkit.core.system import cpu_name
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


def peak_mib() -> float:
    """Most memory this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


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


def measure(way: str, num_queries: int, num_resamples: int) -> dict[str, float | list[float]]:
    """Seconds, CPU seconds and peak memory of one way, in this process; making the values is not
    timed.
    """
    # as nDCG: many near 0 and near 1
    values = np.random.default_rng(1).beta(0.6, 0.4, size=(num_queries, 30))
    if way == "scipy":
        from scipy import stats  # noqa: F401  importing it is not timed
    before_mib, started_s, cpu_s = peak_mib(), time.perf_counter(), time.process_time()
    found = run_way(way, values, num_resamples)
    seconds, cpu_s = time.perf_counter() - started_s, time.process_time() - cpu_s
    return {
        "seconds": seconds,
        "cpu_s": cpu_s,
        "extra_mib": peak_mib() - before_mib,
        "found": found,
    }


def measure_apart(way: str, num_queries: int, num_resamples: int) -> dict[str, float | list[float]]:
    """The same in a fresh process."""
    command = [
        sys.executable,
        __file__,
        "--way",
        way,
        "--queries",
        str(num_queries),
        "--resamples",
        str(num_resamples),
    ]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def report(
    results: dict[str, list[dict]], num_queries: int, num_resamples: int, load: tuple[float, ...]
) -> str:
    """The measurements as Markdown; medians of the repeats."""
    lines = [
        f"# Bootstrap, {datetime.date.today().isoformat()}",
        "",
        f"`python benchmarks/bootstrap.py {shlex.join(sys.argv[1:])}`".replace(" `", "`")
        + f", {cpu_name()},"
        f" {len(os.sched_getaffinity(0))} cores, "
        f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')},"
        f" numpy {np.__version__}, Python {platform.python_version()}"
        + (
            f", scipy {metadata.version('scipy')}."
            if "scipy" in results
            else "; scipy is not installed."
        ),
        f"{num_resamples:,} resamples of {num_queries:,} queries; {len(results['leafkit'])} "
        f"repetition(s), taking turns, each"
        f" in a process of its own; medians. Load average before and after: {load[0]:.1f} and "
        f"{load[1]:.1f}.",
        "",
        "| way | seconds | CPU seconds | memory above the values, MiB | 95% interval |",
        "|---|---|---|---|---|",
    ]
    for way, runs in results.items():
        seconds, cpu_s, extra = (
            statistics.median(r[key] for r in runs) for key in ("seconds", "cpu_s", "extra_mib")
        )
        ends = (
            " to ".join(f"{end:.5f}" for end in runs[0]["found"])
            if way != "randomisation"
            else "(p values)"
        )
        lines.append(f"| {WAYS[way]} | {seconds:.2f} | {cpu_s:.2f} | {extra:,.0f} | {ends} |")
    lines += [
        "",
        "The intervals come from different draws and agree to the spread of a percentile of so "
        "many resamples.",
    ]
    if max(load) > len(os.sched_getaffinity(0)):
        lines += [
            "",
            "The machine had more to do than it has cores: seconds are those of a shared "
            "machine. CPU seconds count the",
            "waiting of BLAS's threads for one another too, which a busy machine prolongs.",
        ]
    return "\n".join([*lines, ""])


def main() -> None:
    """Take turns, then write the report; with --way, one measurement as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--queries", type=int, default=10_000, help="n")
    parser.add_argument("--resamples", type=int, default=10_000, help="times n queries are drawn")
    parser.add_argument("--repeats", type=int, default=3, help="turns of each way")
    parser.add_argument("--way", choices=WAYS, help="measure this way here and print it")
    parser.add_argument("--print-only", action="store_true", help="write no report")
    options = parser.parse_args()
    if options.way:
        print(json.dumps(measure(options.way, options.queries, options.resamples)))
        return
    ways = [way for way in WAYS if way != "scipy" or _has_scipy()]
    results: dict[str, list[dict]] = {way: [] for way in ways}
    before = os.getloadavg()[0]
    for repeat in range(options.repeats):
        for way in ways if repeat % 2 == 0 else ways[::-1]:
            results[way].append(measure_apart(way, options.queries, options.resamples))
    text = report(results, options.queries, options.resamples, (before, os.getloadavg()[0]))
    print(text)
    if not options.print_only:
        path = (
            Path(__file__).parent / "reports" / f"{datetime.date.today().isoformat()}-bootstrap.md"
        )
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(path)


def _has_scipy() -> bool:
    try:
        metadata.version("scipy")
    except metadata.PackageNotFoundError:
        return False
    return True


if __name__ == "__main__":
    main()
