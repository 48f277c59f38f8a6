"""Know before you pay: whether `leafkit predict` foretells what students are worth.

    python benchmarks/predict.py develop --case CHECKPOINTS --case ... --folder DIR --table FILE
    python benchmarks/predict.py foretell --case CHECKPOINTS ... --table FILE --foretold JSON
    python benchmarks/predict.py settle --case CHECKPOINTS ... --table FILE --foretold JSON
    python benchmarks/predict.py hindsight [--table FILE]
    python benchmarks/predict.py compare [--table FILE]

A case is a checkpoints folder in which a recipe of one corpus was finished: its collection, and the
teacher's vectors of documents, made queries and judged queries. Of each case the teacher's space is
taken as it is, and made into others (rotated, widened, non-linear, truncated, noisy, anisotropic),
documents and queries alike. `develop` probes students of some cases, makes them of all texts, and
writes the table that the package ships. `foretell` probes students of other cases and writes what
that table says of them; commit that file. `settle` makes the students, and writes a dated report of
how the predictions turned out, those that a corpus gets from the others (left out in turn) beside
them. `hindsight` needs no case: each corpus of the package's table, or of another, gets its shares
from the others; `compare` does the same with other ways to read shares off finished runs. States of
the start model, probes and outcomes are kept in DIR and not computed again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lib.arguments import make_parser
from lib.machine import describe
from lib.pinned import pin
from lib.report import command, publish, title, today
from predict_parts.case import START, Case
from predict_parts.cells import PROBED, cells
from predict_parts.report import FORMAT, left_out_lines, read_foretold, report_lines
from predict_parts.runs import expected, expected_of_all, runs_of
from predict_parts.spaces import AS_IT_IS, SPACES

OF_A_TABLE = ("hindsight", "compare")  # steps that need no case
FEWEST_LEFT_OUT = 3  # corpora: of two, one alone says nothing of how corpora differ


def develop(cases: Sequence[Case], options: argparse.Namespace) -> None:
    """Write the table."""
    from leafkit.results import FinishedRuns

    runs = tuple(runs_of(cases, options))
    runs += tuple(run for path in options.beside for run in FinishedRuns.load(path).runs)
    FinishedRuns(today(), "benchmarks/predict.py", runs).save(options.table)
    print(f"{len(runs)} runs: {options.table}")
    if len({run.corpus for run in runs}) < FEWEST_LEFT_OUT:
        return
    lines = [
        *title("Finished runs, each corpus foretold by the others"),
        f"{command()}, {describe('torch', num_threads=options.threads)}. Teacher "
        f"{options.teacher_name}, start {START}; probes of at most {PROBED:,} texts, students of "
        f"at most {options.fitted:,}. Errors and widths of 90% intervals in points of retention. "
        "One seed.",
        "",
        *left_out_lines(runs),
    ]
    publish(lines, "predict-left-out", print_only=options.print_only)


def foretell(cases: Sequence[Case], options: argparse.Namespace) -> None:
    """Write what the table says of cases that are not in it."""
    from leafkit.evaluation.forecast.calibration import FEATURES, calibrate
    from leafkit.results import FinishedRuns
    from leafkit.results.codec import to_plain
    from leafkit.results.prediction import TRAINED

    table = FinishedRuns.load(options.table)
    known = {run.corpus for run in table.runs} & {case.name for case in cases}
    if known:
        raise SystemExit(f"{', '.join(sorted(known))} is in the table")
    ways = {asked: calibrate(table.runs, asked) for asked in FEATURES}
    rows = []

    def add(place: tuple[str, str, str, int, int], figures: Any, *, is_trained: bool) -> None:
        told = {k: c.forecast(figures, is_trained=is_trained) for k, c in ways.items()}
        names = ("corpus", "space", "kind", "texts", "probed")
        rows.append(
            dict(zip(names, place, strict=True))
            | {"figures": to_plain(figures), "forecasts": to_plain(told)}
        )

    for case, space, cell in cells(cases, options.folder, "probes", options):
        for kind, num_probed, figures in expected(case, cell):
            place = (case.name, space, kind, len(case.fit), num_probed)
            add(place, figures, is_trained=False)
        if space == AS_IT_IS and all(c.has_trained for c in ways.values()):
            num_probed, figures = expected_of_all(case, cell)
            place = (case.name, space, TRAINED, len(case.texts), num_probed)
            add(place, figures, is_trained=True)
    about = {
        "date": today(),
        "table": [len(table.runs), sorted({run.corpus for run in table.runs}), table.date],
    }
    text = json.dumps({"format": FORMAT, "about": about, "predictions": rows}, indent=1)
    options.foretold.write_text(text + "\n", encoding="utf-8")
    print(f"{len(rows)} predictions: {options.foretold}")


def report(cases: Sequence[Case], options: argparse.Namespace) -> None:
    """Settle what was foretold, and write the report."""
    from leafkit.results import FinishedRuns

    foretold = read_foretold(options.foretold)
    runs = runs_of(cases, options)
    table = FinishedRuns.load(options.table).runs
    lines = [
        *title("Predictions of students, and how they turned out"),
        f"{command()}, {describe('torch', num_threads=options.threads)}. Teacher "
        f"{options.teacher_name}, start {START}; probes of at most {PROBED:,} texts, students of "
        f"at most {options.fitted:,}; closed form, or a table trained on documents. One seed.",
        "",
        *report_lines(
            foretold, runs, [run for run in table if run.corpus not in {c.name for c in cases}]
        ),
    ]
    publish(lines, "predict", print_only=options.print_only)


def table_of(options: argparse.Namespace) -> Sequence[Any]:
    """The runs of a table, of the package's where none is named.

    Raises:
        SystemExit: they are of too few corpora to leave one out.
    """
    from leafkit.evaluation.forecast.calibration import shipped_runs
    from leafkit.results import FinishedRuns

    runs = shipped_runs() if options.table is None else FinishedRuns.load(options.table).runs
    if len({run.corpus for run in runs}) < FEWEST_LEFT_OUT:
        raise SystemExit(f"--table has runs of fewer than {FEWEST_LEFT_OUT} corpora")
    return runs


def compare(options: argparse.Namespace) -> None:
    """Report what each corpus of a table gets from the others in other ways."""
    from predict_parts.fits_report import comparison_lines

    runs = table_of(options)
    lines = [
        *title("Ways to read a student's share off finished runs"),
        f"{command()}. {len(runs)} finished runs; each corpus is foretold by the runs on all "
        "others, never a run by others of its corpus. No student was made for it.",
        "",
        *comparison_lines(runs),
    ]
    publish(lines, "predict-ways", print_only=options.print_only)


def hindsight(options: argparse.Namespace) -> None:
    """Report what each corpus of a table gets from the others."""
    from leafkit.evaluation.forecast.calibration import CEILING, FEATURES

    runs = table_of(options)
    used = "; ".join(f"{asked}: {', '.join(names)}" for asked, names in FEATURES.items())
    lines = [
        *title("Predictions in hindsight, each corpus foretold by the others"),
        f"{command()}. {len(runs)} finished runs. Logit of the share, of {CEILING:g}; figures of "
        f"queries {used}. Scale and figures were chosen by these same outcomes: this is no test of "
        "them. Errors and widths of 90% intervals in points of retention.",
        "",
        *left_out_lines(runs),
    ]
    publish(lines, "predict-hindsight", print_only=options.print_only)


def main() -> None:
    """One step."""
    from leafkit.results.prediction import KINDS, TRAINED

    made = [kind for kind in KINDS if kind != TRAINED]
    parser = make_parser(__doc__, can_print=True)
    parser.add_argument("step", choices=("develop", "foretell", "settle", *OF_A_TABLE))
    parser.add_argument(
        "--case", type=Path, action="append", default=[], help="a checkpoints folder; several"
    )
    parser.add_argument("--folder", type=Path, help="keeps states and cells")
    parser.add_argument("--table", type=Path, help="of finished runs")
    parser.add_argument(
        "--beside", type=Path, action="append", default=[], help="a table whose runs are taken, too"
    )
    parser.add_argument("--foretold", type=Path, help="predictions, to be committed")
    parser.add_argument("--spaces", nargs="+", default=list(SPACES), choices=SPACES)
    parser.add_argument("--kinds", nargs="+", default=made, choices=made)
    parser.add_argument(
        "--static-spaces",
        nargs="*",
        default=[AS_IT_IS, "non-linear"],
        choices=SPACES,
        help="in which tables are trained, too: each takes some seconds",
    )
    parser.add_argument("--fitted", type=int, default=1536, help="texts that students are made of")
    parser.add_argument("--teacher-name", default="all-mpnet-base-v2")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    pin(options.threads)
    if options.step in OF_A_TABLE:
        {"hindsight": hindsight, "compare": compare}[options.step](options)
        return
    if not options.case or options.folder is None or options.table is None:
        raise SystemExit(f"{options.step} takes --case, --folder and --table")
    if options.step != "develop" and options.foretold is None:
        raise SystemExit("--foretold FILE holds the predictions")
    cases = [Case(place, options.folder, options.fitted) for place in options.case]
    {"develop": develop, "foretell": foretell, "settle": report}[options.step](cases, options)


if __name__ == "__main__":
    main()
