"""How far a student carries alignment away from home, by the number and kind of texts it learned
from: retention on collections that it never saw, over the texts that the teacher embedded.

    python benchmarks/text_curve.py --texts questions=jsonl:FILE --texts definitions=jsonl:FILE
        --out-of-domain beir:FOLDER ... --teacher builtin:mpnet --folder DIR [--mix]
        [--counts 3000 10000 30000 100000] [--minutes 10] [--seeds 3] [--asymmetric-only]
        [--report-only] [key=value ...]

Each point is a student of that many texts of one kind, drawn by content, so that a larger count
keeps what a smaller one took, and of nothing else; ``--mix`` adds a kind of equal parts of all. All
points of a curve have the same minutes. No text that is a judged query trains. Writes a dated
report with a plot, and a law per curve, 1 - retention = a n^-b, with the number of texts that it
promises for a target. Every student is kept in DIR, where the teacher's vectors are too. All texts
are embedded as documents, so the teacher may have no prompt of its own for queries.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from lib.arguments import add_pool_options, make_parser
from lib.case import case_words, describe_case, load_case, read_case_recipe
from lib.cells import FAILED, Cell, is_done, read_cells, run_missing
from lib.machine import describe
from lib.pinned import thread_variables
from lib.plot import stack
from lib.power_law import FAR_TEXTS, TARGETS, Law, fit_law
from lib.report import REPORTS, command, save, table, title, today
from lib.retention import Retention, mean_of_seeds
from students_cell import PRECISIONS

from leafkit.config import DataConfig
from leafkit.core.console import set_verbosity
from leafkit.data.sources import read_collection
from leafkit.data.sources.sample import choose_numbers
from leafkit.pipeline.run import open_run
from leafkit.report.charts.plots import Series, line_chart

CELL_FILE = str(Path(__file__).parent / "students_cell.py")
MIX = "all kinds"
# what the students have in common unless the words say otherwise: alignment alone, on short texts
BASE_WORDS = (
    "data.num_made_queries=0",
    "data.num_pseudo_texts=0",
    "data.max_document_tokens=256",
    "bench.max_document_tokens=256",
    "student.num_ridge_texts=40000",
    "student.tokens_per_batch=4096",
    "student.max_texts_per_batch=256",
)
_PLOT_HEIGHT = 300
_SYSTEMS = ("asymmetric", "symmetric")


@dataclass(frozen=True, slots=True)
class Point:
    """A student to train."""

    kind: str
    count: int
    seed: int


def write_texts(texts: Sequence[str], path: Path) -> None:
    """As documents, line by line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as out:
        for i, one in enumerate(texts):
            out.write(json.dumps({"id": str(i), "text": one}) + "\n")


def read_kinds(named: Sequence[str], *, is_mixed: bool) -> dict[str, list[list[str]]]:
    """Texts of each kind; those of the mixture are several lists, of which each gives its part.

    Raises:
        SystemExit: one is not NAME=URI, or two have one name.
    """
    kinds: dict[str, list[list[str]]] = {}
    for one in named:
        name, separator, uri = one.partition("=")
        if not name or not separator or name in kinds or name == MIX:
            sys.exit(f"--texts {one!r} is not NAME=URI, or its name comes twice")
        documents = read_collection(uri, DataConfig(corpus=uri)).documents
        kinds[name] = [list(dict.fromkeys(document.full_text for document in documents))]
    if is_mixed:
        kinds[MIX] = [parts[0] for parts in list(kinds.values())]
    return kinds


def plan(
    kinds: Mapping[str, Sequence[Sequence[str]]], counts: Sequence[int], seeds: int, folder: Path
) -> dict[Point, Path]:
    """The points that there are texts for, with the files of their texts."""
    planned = {}
    for kind, parts in kinds.items():
        for count in counts:
            share = count // len(parts)
            if _fewest(parts) < share:
                continue  # see ``missing_points``
            path = folder / "texts" / f"{kind.replace(' ', '-')}-{count}.jsonl"
            write_texts([part[i] for part in parts for i in choose_numbers(part, share)], path)
            planned |= {Point(kind, count, seed): path for seed in range(seeds)}
    return planned


def missing_points(
    kinds: Mapping[str, Sequence[Sequence[str]]], counts: Sequence[int]
) -> list[str]:
    """Lines of the report on points that there are too few texts for."""
    return [
        f"- no point of {count:,} texts of {kind}: "
        + (f"each kind gives {count // len(parts):,}, and one has" if len(parts) > 1 else "it has")
        + f" {_fewest(parts):,}"
        for kind, parts in kinds.items()
        for count in counts
        if _fewest(parts) < count // len(parts)
    ]


def _fewest(parts: Sequence[Sequence[str]]) -> int:
    return min(map(len, parts))


def cell_of(options: Any, point: Point, path: Path) -> Cell:
    """The child that trains and measures a point."""
    words = ["--minutes", f"{options.minutes:g}", "--recipe", options.recipe]
    words += ["--seed", str(point.seed), "--threads", str(options.threads), "--no-hnsw"]
    words += ["--away-only", "--out-of-domain", *options.out_of_domain]
    words += ["--asymmetric-only"] if options.asymmetric_only else []
    words += ["--words", *point_words(options, path)]
    return Cell(f"{point.kind}-{point.count}-{options.minutes:g}min-{point.seed}", tuple(words))


def point_words(options: Any, path: Path) -> list[str]:
    """Words of the recipe of a point."""
    options.corpus = f"jsonl:{path}"
    return case_words(options, BASE_WORDS)


class Curves:
    """Finished points by kind and count.

    Args:
        found: figures by point.
    """

    def __init__(self, found: Mapping[Point, Mapping[str, Any]]) -> None:
        self.by_place: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
        for point, figures in found.items():
            self.by_place.setdefault((point.kind, point.count), []).append(figures)
        first = next(iter(found.values()))
        self.about = first["about"]
        self.names = [name for name, *_ in self.about["collections"]]
        self.kept = Retention(self._values("teacher", [first]), self.names)
        columns = {name.partition("/")[0] for name in first["collections"][self.names[0]]["ndcg"]}
        self.systems = [system for system in _SYSTEMS if system in columns]

    def _values(self, system: str, cells: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
        by_cell = []
        for cell in cells:
            parts = cell["collections"]
            column = {name: f"{system}/{parts[name]['dim']}/{PRECISIONS[0]}" for name in self.names}
            by_cell.append({name: parts[name]["ndcg"][column[name]] for name in self.names})
        return mean_of_seeds(by_cell)

    def of(self, kind: str, count: int, system: str) -> dict[str, np.ndarray]:
        """nDCG per query by collection, the mean over seeds."""
        return self._values(system, self.by_place[kind, count])

    def counts(self, kind: str) -> list[int]:
        """That there are points of."""
        return sorted(count for one, count in self.by_place if one == kind)

    @property
    def kinds(self) -> list[str]:
        """In the order of the plan."""
        return list(dict.fromkeys(kind for kind, _ in self.by_place))

    def law(self, kind: str, system: str) -> Law | None:
        """Of a curve; None of fewer than three points."""
        counts = self.counts(kind)
        if len(counts) < 3:
            return None
        values = [self.of(kind, count, system) for count in counts]
        estimates = np.array([self.kept.of(one).value for one in values])
        return fit_law(counts, 1 - estimates, 1 - self.kept.resampled(values))


def rows(curves: Curves) -> list[list[str]]:
    """A line per point."""
    lines = []
    for kind in curves.kinds:
        for count in curves.counts(kind):
            cells = curves.by_place[kind, count]
            middle = [
                float(np.median([cell[key] for cell in cells])) for key in ("seconds", "steps")
            ]
            cosine = np.mean([one["cosine"] for c in cells for one in c["collections"].values()])
            values = [curves.of(kind, count, system) for system in curves.systems]
            kept = [curves.kept.of(one).percent() for one in values]
            numbers = [f"{count:,}", f"{len(cells)}", *(f"{value:,.0f}" for value in middle)]
            lines.append([kind, *numbers, f"{cosine:.3f}", *kept])
    return lines


def law_rows(curves: Curves) -> list[list[str]]:
    """A line per curve."""
    lines = []
    for kind in curves.kinds:
        for system in curves.systems:
            law = curves.law(kind, system)
            if law is None:
                continue
            b = law.exponent
            slope = f"{b.value:.3f} [{b.low:.3f}, {b.high:.3f}]"
            needed = [_texts(*law.needed[target]) for target in TARGETS]
            error = f"{100 * law.error:.1f}"
            lines.append([kind, system, slope, error, law.far.percent(), *needed])
    return lines


def _texts(value: float, low: float, high: float) -> str:
    def short(number: float) -> str:
        return f"{number:.2g}" if number < 1e12 else "never"

    return f"{short(value)} [{short(low)}, {short(high)}]"


def draw(curves: Curves) -> str:
    """Percent kept over texts, with intervals, asymmetric above symmetric."""
    plots = []
    for system in curves.systems:
        series = []
        for tone, kind in enumerate(curves.kinds, 1):
            counts = curves.counts(kind)
            shares = [curves.kept.of(curves.of(kind, count, system)) for count in counts]
            line = [(n, 100 * share.value) for n, share in zip(counts, shares, strict=True)]
            band = [(n, 100 * s.low, 100 * s.high) for n, s in zip(counts, shares, strict=True)]
            series.append(Series(kind, line, tone, band if len(band) > 1 else ()))
        plots.append(
            line_chart(
                f"What is kept away from home, {system}",
                f"Percent of the teacher's nDCG@10, {system}, over the number of texts",
                series,
                "texts that the teacher embedded",
                log_x=True,
                y_label=f"% of the teacher's nDCG@10, {system}",
                height=_PLOT_HEIGHT,
            )
        )
    return stack(plots, _PLOT_HEIGHT + 110)


def write_report(options: Any, curves: Curves, notes: Sequence[str]) -> Path:
    """Plot, points and laws."""
    options.out.mkdir(parents=True, exist_ok=True)
    plot = options.out / f"{today()}-{options.name}.svg"
    plot.write_text(draw(curves), encoding="utf-8")
    cells = [cell for cells in curves.by_place.values() for cell in cells]
    commits = sorted({cell["commit"] or "unknown" for cell in cells})
    stopped = sum(bool(cell["was_stopped"]) for cell in cells)
    lines = [
        *title("How many texts carry a student away from home"),
        f"{command()}, {describe('torch', num_threads=options.threads)}; commit(s) "
        f"{', '.join(commits)}. {describe_case({**curves.about, 'texts': []})}",
        f"Each student has {options.minutes:g} minutes from the teacher's vectors to its end, "
        f"{stopped} of {len(cells)} were stopped by the clock before the end of their plan. Kept: "
        f"share of the teacher's nDCG@10, mean over {', '.join(curves.names)} and over seeds, 95% "
        "paired bootstrap over queries (10,000 resamples).",
        "",
        f"![Kept over texts]({plot.name})",
        "",
        *table(
            ["texts", "number", "seeds", "seconds", "steps", "cosine"]
            + [f"{system} kept" for system in curves.systems],
            rows(curves),
        ),
    ]
    if laws := law_rows(curves):
        lines += [
            "## The law",
            "",
            "1 - retention = a n^-b, least squares of the logarithms; intervals are over queries "
            "alone: what other seeds, texts and minutes would change is not in them, and far "
            "beyond the points the law is a guess. It knows of no floor.",
            "",
            *table(
                ["texts", "", "b", "off by, points", f"at LEAF's {FAR_TEXTS:,}"]
                + [f"texts for {target:.0%}" for target in TARGETS],
                laws,
            ),
        ]
    lines += [*notes, ""] if notes else []
    return save(lines, options.name, options.out)


def main() -> None:
    """Train what is missing and write the report."""
    parser = make_parser(__doc__)
    add_pool_options(parser, "students")
    parser.add_argument("--counts", type=int, nargs="+", default=[3000, 10_000, 30_000, 100_000])
    parser.add_argument("--mix", action="store_true", help="a curve of all kinds in equal parts")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=REPORTS, help="folder of the report")
    parser.add_argument("--name", default="text_curve", help="of the report")
    parser.add_argument(
        "--asymmetric-only", action="store_true", help="no document is embedded by a student"
    )
    parser.add_argument("--report-only", action="store_true", help="of what DIR holds")
    parser.add_argument("words", nargs="*", metavar="key=value", help="of the recipe")
    options = parser.parse_intermixed_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    kinds = read_kinds(options.texts, is_mixed=options.mix)
    planned = plan(kinds, options.counts, options.seeds, options.folder)
    if not planned:
        sys.exit("no kind has as many texts as the smallest of --counts")
    # few texts first, so that a run that is broken off has all kinds
    points = sorted(planned, key=lambda point: (point.seed, point.count))
    cells = {point: cell_of(options, point, planned[point]) for point in points}
    folder = options.folder / "text_curve"
    if not options.report_only:
        print(f"{len(cells)} students of {options.minutes:g} minutes", flush=True)
        set_verbosity("info")
        for path in dict.fromkeys(planned[point] for point in points):
            with open_run(read_case_recipe(options.recipe, point_words(options, path))) as run:
                case = load_case(run, options.out_of_domain, is_home_judged=False)
            if case.teacher.model.prompt("query") != case.teacher.model.prompt("document"):
                sys.exit("the teacher has a prompt for queries, and the texts train without it")
        set_verbosity("warning")
        run_missing(CELL_FILE, list(cells.values()), folder, thread_variables(options.threads))
    done = read_cells(folder, cells.values())
    failed = [f"- {cell.name} failed: {one[FAILED]}" for cell, one in done.items() if FAILED in one]
    notes = [*missing_points(kinds, options.counts), *failed]
    found = {point: done[cell] for point, cell in cells.items() if is_done(done.get(cell))}
    if missing := len(cells) - len(found) - len(failed):
        notes.append(f"- {missing} of {len(cells)} students are not trained yet")
    if not found:
        sys.exit("\n".join(["nothing is measured yet", *notes]))
    print(write_report(options, Curves(found), notes))


if __name__ == "__main__":
    main()
