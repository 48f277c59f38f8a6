"""What recipes bring as they ship: quality, inheritance, time and memory of whole runs.

    python benchmarks/recipes.py --recipe mpnet-to-23m mpnet-to-static --folder DIR
    python benchmarks/recipes.py --recipe "mpnet-to-3l student.minutes=28" --folder DIR

Each recipe is run in DIR as a user would, `leafkit distill recipe=NAME`, words behind the name
being keys of it; they share the teacher's vectors there. A run that has finished is not done again,
so that the report is written of what DIR/checkpoints holds, and says when each was measured and of
which commit. Writes a dated report.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from lib.arguments import make_parser
from lib.report import command, publish, table, title

from leafkit.config.load import load_recipe
from leafkit.results import Interval, RunReport
from leafkit.results.retrieval import CollectionResult

WAYS = ("asymmetric", "symmetric", "reversed")
SYSTEMS = {"teacher": "teacher", "baseline": "baseline", "bm25": "BM25"}
METRIC = "ndcg@10"


def run_recipe(words: Sequence[str], folder: Path) -> RunReport:
    """The report of a recipe's run, after the run where there is none.

    Raises:
        SystemExit: the run failed.
    """
    name, *keys = words
    recipe = load_recipe(name, keys)
    where = folder / recipe.checkpoints / recipe.name / "report.json"
    if not where.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            [sys.executable, "-m", "leafkit", "distill", f"recipe={name}", *keys], cwd=folder
        )
        # 1 says that a gate of the inheritance failed, which the report tells
        if done.returncode > 1 or not where.is_file():
            sys.exit(f"leafkit distill recipe={' '.join(words)} ended with {done.returncode}")
    return RunReport.load(where)


def about(report: RunReport) -> str:
    """When, with which command and on which machine a run was measured."""
    machine = report.measured_on or report.machine
    return (
        f"- {report.name}: `{report.command}`, {report.measured_at or report.created}, commit "
        f"{report.commit[:7] or 'unknown'}; {machine.cpu}, {machine.threads} threads, "
        f"{machine.precision}; peak {machine.peak_memory_gib:.1f} GiB."
    )


def rows(report: RunReport) -> Iterator[list[str]]:
    """A row per collection."""
    assert report.bench is not None
    for found in report.bench.collections:
        scores = {one.system: one.metrics[METRIC] for one in found.systems}
        yield [
            report.name,
            found.name,
            str(found.num_queries),
            *(_plain(scores.get(name)) for name in SYSTEMS),
            *(_percent(found, way) for way in WAYS),
        ]


def _plain(value: Interval | None) -> str:
    return "" if value is None else f"{value.value:.3f} [{value.low:.3f}, {value.high:.3f}]"


def _percent(found: CollectionResult, way: str) -> str:
    kept = found.retention.get(way)
    return "" if kept is None else kept.percent()


def costs(report: RunReport) -> list[str]:
    """Sizes, times and gates of a run."""
    assert report.student is not None
    assert report.teacher is not None
    assert report.bench is not None
    spent = {step.name: step.seconds for step in report.steps}
    vectors = sum(s for name, s in spent.items() if "vectors" in name)
    latency = {row.encoder: row.p50_ms for row in report.bench.latency}
    grid = report.inheritance
    gates = "not measured" if grid is None else ("passed" if grid.passed else "failed")
    return [
        report.name,
        f"{(report.teacher.parameters or 0) / 1e6:.1f}M",
        f"{(report.student.parameters or 0) / 1e6:.1f}M",
        f"{vectors:,.0f} s",
        f"{spent.get('student', 0):,.0f} s",
        *(f"{latency[name]:.1f}" if name in latency else "" for name in ("teacher", "student")),
        gates,
    ]


def main() -> None:
    """Run what is missing, then write the report."""
    parser = make_parser(__doc__, can_print=True)
    parser.add_argument(
        "--recipe", nargs="+", required=True, metavar="WORDS", help="a name or file, then keys"
    )
    parser.add_argument("--folder", type=Path, required=True, help="runs are made and kept here")
    parser.add_argument("--name", default="recipes", help="of the report")
    options: argparse.Namespace = parser.parse_args()
    reports = [run_recipe(words.split(), options.folder) for words in options.recipe]
    lines = [
        *title("Recipes as they ship"),
        f"{command()}. One seed; 95% paired-bootstrap intervals over the queries.",
        "",
        *map(about, reports),
        "",
        "nDCG@10, and what the student keeps of the teacher's: its queries on the teacher's "
        "documents (asymmetric), on its own (symmetric), the teacher's queries on the student's "
        "documents (reversed). The baseline is bench.baseline, as it came.",
        "",
        *table(
            ("recipe", "collection", "queries", *SYSTEMS.values(), *WAYS),
            (row for report in reports for row in rows(report)),
        ),
        "Times of single steps, where the run made them; medians of single queries in "
        "milliseconds. Gates: whether truncation and quantisation were inherited.",
        "",
        *table(
            (
                "recipe",
                "teacher",
                "student",
                "teacher's vectors",
                "student made in",
                "teacher's query",
                "student's query",
                "gates",
            ),
            map(costs, reports),
        ),
    ]
    publish(lines, options.name, print_only=options.print_only)


if __name__ == "__main__":
    main()
