"""leafkit beside other ways to a student: the same teacher vectors, texts, minutes and cores; what
each keeps of the teacher's nDCG@10.

    python benchmarks/against.py --corpus beir:FOLDER --teacher builtin:mpnet --folder DIR
        [--minutes 1 3 10 30] [--ways leafkit mse] [--turns 1] [--symmetric] [--report-only]
        [key=value ...]

Ways: leafkit (closed-form start, then L2 and KL of scores), instant (its closed form alone), embed-
distill (sentence-transformers' EmbedDistillLoss, the projection added to the student by hand), mse
(its MSELoss with a Dense module), closed-form (one linear map of the unchanged start model's
vectors, aecp's idea), closed-form-mse (such a map in the Dense module, then MSELoss), model2vec
(where it is installed). Peers that train do so at every --peer-lr, each a line. The clock runs from
the teacher's vectors, which are made once and kept in DIR, to the finished student. Every student
is made in a process of its own; finished ones are kept in DIR, so that a run that was broken off
goes on. No text that is a judged query trains. Further words are the recipe's. Writes a dated
report and a plot as SVG.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from against_ways import WAYS
from lib.arguments import make_parser
from lib.case import add_case_options, case_words, describe_case
from lib.cells import FAILED, Cell, check_one_case, is_done, read_cells, run_missing
from lib.machine import describe
from lib.peers import ST_BATCH, TRAINED, at_rates, base_of
from lib.pinned import thread_variables
from lib.plot import stack
from lib.report import REPORTS, command, save, table, title, today
from lib.retention import Retention, mean_of_seeds, points, verdict

from leafkit.report.charts.plots import Series, line_chart
from leafkit.results import Interval

WAYS_FILE = str(Path(__file__).parent / "against_ways.py")
OURS = "leafkit"
PEERS = (*TRAINED, "closed-form", "model2vec")  # instant is leafkit's, too
# what leafkit trains with unless the words say otherwise
LEAFKIT_WORDS = (
    "data.num_made_queries=4000",
    "data.num_pseudo_texts=0",
    "student.losses.score_kl=1",
    "student.optimizer.lr=2e-5",
)
PLOT_HEIGHT = 250.0
_NAME = "home"  # of the one collection, where several could be


@dataclass(frozen=True, slots=True)
class Point:
    """One way within one budget, over the turns.

    Attributes:
        way: a key of ``WAYS``, with the learning rate where that is a peer's.
        minutes: the budget.
        cells: figures of the turns, at least one.
    """

    way: str
    minutes: float
    cells: Sequence[Mapping[str, Any]]

    def median(self, key: str) -> float:
        """Over the turns."""
        return statistics.median(float(cell[key]) for cell in self.cells)

    def values(self, system: str) -> dict[str, Any] | None:
        """nDCG per query of a system, the mean of the turns; None where it was not measured."""
        found = [{_NAME: cell["ndcg"][system]} for cell in self.cells if system in cell["ndcg"]]
        return dict(mean_of_seeds(found)) if found else None


def plan(options: argparse.Namespace, ways: Sequence[str]) -> dict[float, list[tuple[str, Cell]]]:
    """Ways and cells by budget, the shortest first; every other turn goes through the ways
    backwards.
    """
    common = [
        "--recipe",
        options.recipe,
        "--threads",
        str(options.threads),
        "--distance",
        options.distance,
        *(["--symmetric"] if options.symmetric else []),
        *case_words(options, LEAFKIT_WORDS),
    ]
    rated = at_rates(ways, options.peer_lr)
    planned: dict[float, list[tuple[str, Cell]]] = {}
    for number, minutes in enumerate(sorted(set(options.minutes))):
        planned[minutes] = []
        for turn in range(options.turns):
            for way in list(rated)[::-1] if (number + turn) % 2 else rated:
                name = f"{way}-{minutes:g}min-{turn}"
                words = (base_of(way), "--minutes", f"{minutes:g}", "--seed", str(turn))
                words = (*words, *rated[way], *common)
                planned[minutes].append((way, Cell(name, words)))
    return planned


def measure(
    planned: Mapping[float, Sequence[tuple[str, Cell]]], folder: Path, num_threads: int
) -> None:
    """Every cell that is not there; a way that has used up its texts gets no longer budget."""
    for minutes, cells in planned.items():
        shorter = [pair for other, pairs in planned.items() if other < minutes for pair in pairs]
        complete = complete_ways(shorter, read_cells(folder, [cell for _, cell in shorter]))
        wanted = [cell for way, cell in cells if way not in complete]
        print(f"{minutes:g} minutes: {len(wanted)} students", flush=True)
        run_missing(WAYS_FILE, wanted, folder, thread_variables(num_threads))


def complete_ways(
    cells: Sequence[tuple[str, Cell]], found: Mapping[Cell, Mapping[str, Any]]
) -> set[str]:
    """Ways to which more time would bring nothing: complete in all of their finished cells of some
    budget.
    """
    seen = [(way, found[cell]) for way, cell in cells if is_done(found.get(cell))]
    by_budget: dict[tuple[str, float], list[bool]] = {}
    for way, figures in seen:
        by_budget.setdefault((way, figures["minutes"]), []).append(figures["is_complete"])
    return {way for (way, _), complete in by_budget.items() if all(complete)}


def collect(
    planned: Mapping[float, Sequence[tuple[str, Cell]]], found: Mapping[Cell, Mapping[str, Any]]
) -> list[Point]:
    """What is there, by budget and way."""
    collected = []
    for minutes, cells in planned.items():
        for way in in_order(way for way, _ in cells):
            figures = [found[cell] for w, cell in cells if w == way and is_done(found.get(cell))]
            if figures:
                collected.append(Point(way, minutes, figures))
    return collected


def in_order(ways: Iterable[str]) -> list[str]:
    """Each once, as ``WAYS`` has them, by learning rate."""
    order = {way: number for number, way in enumerate(WAYS)}
    return sorted(set(ways), key=lambda way: (order[base_of(way)], _rate(way)))


def _rate(way: str) -> float:
    return float(way.rpartition(" ")[2]) if "," in way else 0.0


def at_budget(found: Sequence[Point], way: str, minutes: float) -> Point | None:
    """A way's point within a budget: its own, or that of the longest shorter budget with which it
    was complete.
    """
    own = [p for p in found if p.way == way and p.minutes <= minutes]
    best = max(own, key=lambda p: p.minutes, default=None)
    if best is None or best.minutes == minutes:
        return best
    return best if all(cell["is_complete"] for cell in best.cells) else None


def rows(found: Sequence[Point], kept: Retention, minutes: Sequence[float]) -> list[list[str]]:
    """The table: a row for each budget and way."""
    lines = []
    has_symmetric = any(p.values("symmetric") for p in found)
    for budget in minutes:
        ours = at_budget(found, OURS, budget)
        for way in in_order(point.way for point in found):
            point = at_budget(found, way, budget)
            if point is None:
                continue
            values = point.values("asymmetric")
            assert values is not None
            difference = ""
            if ours is not None and way != OURS:
                gap = kept.difference(ours.values("asymmetric") or {}, values)
                difference = f"{points(gap)} {verdict(gap)}"
            symmetric = point.values("symmetric")
            lines.append(
                [
                    f"{budget:g}",
                    way,
                    f"{point.median('seconds'):,.0f}",
                    f"{point.median('cpu_s'):,.0f}",
                    f"{point.median('texts'):,.0f}",
                    f"{float(values[_NAME].mean()):.3f}",
                    kept.of(values).percent(),
                    difference,
                    *([kept.of(symmetric).percent() if symmetric else ""] if has_symmetric else []),
                    point.cells[0]["note"]
                    + ("" if point.minutes == budget else f"; as at {point.minutes:g}"),
                ]
            )
    return lines


def compare_times(found: Sequence[Point], kept: Retention, minutes: Sequence[float]) -> list[str]:
    """For each budget, in how many minutes the best peer keeps as much as leafkit does."""
    lines = []
    for budget in minutes:
        ours = at_budget(found, OURS, budget)
        if ours is None:
            continue
        share = kept.of(ours.values("asymmetric") or {}).value
        peers = [
            (p.minutes, p.way, kept.of(p.values("asymmetric") or {}).value)
            for p in found
            if base_of(p.way) in PEERS
        ]
        if not peers:
            continue
        as_good = sorted((m, way, value) for m, way, value in peers if value >= share)
        longest, best, most = max(peers, key=lambda peer: peer[2])
        lines.append(
            f"- What leafkit keeps after {budget:g} minutes ({share:.1%}), "
            + (
                f"{as_good[0][1]} keeps within {as_good[0][0]:g} ({as_good[0][2]:.1%})."
                if as_good
                else f"no peer keeps within {max(m for m, *_ in peers):g}: the best, {best} "
                f"({longest:g} minutes), keeps {most:.1%}."
            )
        )
    return lines


def best_rates(
    curves: Mapping[str, Sequence[tuple[float, Interval]]],
) -> dict[str, Sequence[tuple[float, Interval]]]:
    """Of each way the curve of the learning rate that comes highest, by the name with it."""
    best: dict[str, str] = {}
    for way in in_order(curves):
        known = best.get(base_of(way))
        if known is None or _highest(curves[way]) > _highest(curves[known]):
            best[base_of(way)] = way
    return {way: curves[way] for way in best.values()}


def _highest(curve: Sequence[tuple[float, Interval]]) -> float:
    return max(kept.value for _, kept in curve)


def draw(curves: Mapping[str, Sequence[tuple[float, Interval]]]) -> str:
    """Percent kept over minutes, with intervals; of each way the learning rate that comes highest.

    Args:
        curves: (minutes that it took, share kept) by way.
    """
    series = []
    tones = {way: tone for tone, way in enumerate(WAYS, 1)}
    for way, curve in best_rates(curves).items():
        tone = tones[base_of(way)]
        placed = sorted(curve, key=lambda one: one[0])
        line = [(minutes, 100 * kept.value) for minutes, kept in placed]
        band = [(minutes, 100 * kept.low, 100 * kept.high) for minutes, kept in placed]
        series.append(Series(way, line, tone, band if len(band) > 1 else ()))
    drawn = line_chart(
        "What a student keeps of its teacher",
        "Percent of the teacher's nDCG@10 that each way's student keeps, over minutes",
        series,
        "minutes from the teacher's vectors to the student",
        log_x=True,
        y_label="% of the teacher's nDCG@10, asymmetric",
        height=PLOT_HEIGHT,
    )
    return stack([drawn], PLOT_HEIGHT + 110)


def write_report(options: argparse.Namespace, found: Sequence[Point], notes: Sequence[str]) -> Path:
    """Table, plot and what was not measured."""
    minutes = sorted(set(options.minutes))
    about = found[0].cells[0]["about"]
    kept = Retention(found[0].values("teacher") or {}, [_NAME])
    teacher = found[0].values("teacher") or {}
    curves: dict[str, list[tuple[float, Interval]]] = {}
    for point in found:
        share = kept.of(point.values("asymmetric") or {})
        curves.setdefault(point.way, []).append((point.median("seconds") / 60, share))
    folder = options.out
    folder.mkdir(parents=True, exist_ok=True)
    plot = folder / f"{today()}-{options.name}.svg"
    plot.write_text(draw(curves), encoding="utf-8")
    header = ["minutes", "way", "seconds", "CPU s", "texts seen", "nDCG@10", "asymmetric kept"]
    header += ["leafkit minus it, points"]
    header += ["symmetric kept"] if any(p.values("symmetric") for p in found) else []
    commits = sorted({cell["commit"] or "unknown" for point in found for cell in point.cells})
    lines = [
        *title("leafkit beside other ways to a student"),
        f"{command()}, {describe('torch', 'sentence_transformers', num_threads=options.threads)}; "
        f"commit(s) {', '.join(commits)}. {describe_case(about)}",
        f"Teacher's nDCG@10 {float(teacher[_NAME].mean()):.3f}; kept: the student's share of it, "
        f"95% paired bootstrap over queries (10,000 resamples), medians of {options.turns} turn(s) "
        "and means of their rankings. Asymmetric: the student embeds queries, the teacher "
        "documents. Seconds are from the teacher's vectors to the finished student. All ways get "
        "the same texts; leafkit keeps some of them to check itself on. Peers train in batches of "
        f"{ST_BATCH} at the peak learning rates named, warm-up and linear decay over the budget; "
        "the plot shows of each peer the rate that came highest on the judged queries themselves. "
        "EmbedDistillLoss leaves its projection out of the model that it saves, so it is "
        "put behind the student here.",
        "",
        f"![Kept over minutes]({plot.name})",
        "",
        *table([*header, "note"], rows(found, kept, minutes)),
        *compare_times(found, kept, minutes),
        "",
        *([*notes, ""] if notes else []),
    ]
    return save(lines, options.name, folder)


def main() -> None:
    """Measure what is missing and write the report."""
    parser = make_parser(__doc__, turns=1)
    add_case_options(parser, "own-data")
    parser.add_argument("--minutes", type=float, nargs="+", default=[1.0, 3.0, 10.0, 30.0])
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--symmetric", action="store_true", help="embed documents by students too")
    parser.add_argument(
        "--peer-lr",
        type=float,
        nargs="+",
        default=[1e-4, 1e-3],
        help="of sentence-transformers' trainer, one line each",
    )
    parser.add_argument(
        "--distance",
        choices=("cosine", "l2", "mse"),
        default="cosine",
        help="of EmbedDistillLoss; cosine is its own default",
    )
    parser.add_argument("--out", type=Path, default=REPORTS, help="folder of the report")
    parser.add_argument("--name", default="against", help="of the report")
    parser.add_argument("--report-only", action="store_true", help="of what DIR holds")
    options = parser.parse_intermixed_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    ways, notes = list(options.ways), []
    if "model2vec" in ways and importlib.util.find_spec("model2vec") is None:
        ways.remove("model2vec")
        notes.append("- model2vec: not installed.")
    planned, folder = plan(options, ways), options.folder / "against"
    if not options.report_only:
        prepare(options)
        measure(planned, folder, options.threads)
    found = read_cells(folder, [cell for cells in planned.values() for _, cell in cells])
    check_one_case(found)
    notes += [
        f"- {cell.name} failed: {figures[FAILED]}"
        for cell, figures in found.items()
        if FAILED in figures
    ]
    collected = collect(planned, found)
    if not collected:
        sys.exit("\n".join(["nothing is measured yet", *notes]))
    print(write_report(options, collected, notes))


def prepare(options: argparse.Namespace) -> None:
    """The teacher's vectors, which no student's clock counts; what is there already is kept."""
    from lib.case import load_case, read_case_recipe

    from leafkit.core.console import set_verbosity
    from leafkit.pipeline.run import open_run

    set_verbosity("info")
    recipe = read_case_recipe(options.recipe, case_words(options, LEAFKIT_WORDS))
    with open_run(recipe) as run:
        load_case(run)
    set_verbosity("warning")


if __name__ == "__main__":
    main()
