"""What a ladder of encoders on one index promises: the router beside every rung and a random mix.

    python benchmarks/ladder.py --corpus beir:FOLDER beir:FOLDER --folder DIR

Of every corpus the recipe's student is distilled (`instant` unless words say otherwise), and
`leafkit ladder` makes the cheaper rungs, calibrates the router on half of the judged queries and
verifies it on the other half. DIR/CORPUS keeps the teacher's vectors, so that a second call embeds
no document again; finished cells are kept too, and one that was measured with other options is
refused. Words behind the options are those of the recipe.

One split into halves is one draw. So the halves are drawn anew many times, from the same values per
query: how often a promise that was given is kept by the half that verifies, and what it costs on
average. Writes a dated report.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from lib.arguments import add_cell_options, make_parser
from lib.case import read_case_recipe
from lib.cells import about_options, check_about, write
from lib.machine import describe
from lib.pinned import pin
from lib.report import command, publish, table, title
from lib.retention import points

from leafkit.core.errors import LeafkitError
from leafkit.pipeline.ladder.measure import Measured, summarize
from leafkit.results import Interval, Ladder

DEFAULTS = ("student.kind=instant",)
NUM_SPLITS, NUM_RESAMPLES = 200, 1000  # draws of the halves, and resamples of each


def make_ladder(options: argparse.Namespace, corpus: str, stem: str) -> dict[str, object]:
    """A recipe's student and index without its benchmark, and the ladder over them."""
    from leafkit.pipeline.corpus import load_corpus
    from leafkit.pipeline.distill import load_targets, save_student
    from leafkit.pipeline.document_index import write_index
    from leafkit.pipeline.ladder.build import describe_ladder, measure_rungs, prepare
    from leafkit.pipeline.model_handle import load_teacher
    from leafkit.pipeline.run import open_run

    said = {word.partition("=")[0] for word in options.words}
    words = [
        f"data.corpus={corpus}",
        f"teacher.source={options.teacher}",
        f"checkpoints={options.folder / stem}",
        f"data.max_document_tokens={options.max_document_tokens}",
        *(word for word in DEFAULTS if word.partition("=")[0] not in said),
        *options.words,
    ]
    with open_run(read_case_recipe("own-index", words)) as run:
        teacher, corpus_read = load_teacher(run), load_corpus(run, corpus)
        targets = load_targets(run, teacher, corpus_read)
        save_student(run, teacher, corpus_read, targets)
        write_index(run, teacher, corpus_read, targets[0].vectors)
        prepared = prepare(run)
        measured = measure_rungs(run, prepared)
        ladder, _ = describe_ladder(run, prepared, measured)
        drawn = draw_splits(measured, ladder.route, run.recipe.ladder.promises)
    return {"ladder": ladder.to_json(), "splits": drawn}


def draw_splits(
    measured: Measured, route: tuple[str, ...], promises: Sequence[float]
) -> dict[str, list[float]]:
    """By promise: share of the splits in which one was given, of these the share in which the half
    that verifies kept it, and mean share kept and cost over all splits (1 for the teacher alone).
    """
    given: dict[float, list[tuple[float, float] | None]] = {promise: [] for promise in promises}
    # what was learned from a part of one draw's queries calibrates in another draw
    route = route if measured.learned is not None else ()
    for seed in range(NUM_SPLITS):
        found = summarize(measured, promises, resamples=NUM_RESAMPLES, seed=seed, route=route)
        for one in found.promises:
            cell = (one.kept.value, one.cost.value) if one.is_held else None
            given[one.promise].append(cell)
    return {f"{promise:g}": sum_up(cells, promise) for promise, cells in given.items()}


def sum_up(cells: Sequence[tuple[float, float] | None], promise: float) -> list[float]:
    """How often a promise was given, how often it was kept then, mean share kept and mean cost.

    >>> sum_up([None, (0.95, 0.2), (0.97, 0.4), None], 0.96)
    [0.5, 0.5, 0.98, 0.65]
    """
    held = [cell for cell in cells if cell is not None]
    num_kept = sum(kept >= promise for kept, _ in held)
    means = np.mean([cell or (1.0, 1.0) for cell in cells], axis=0)
    figures = (len(held) / len(cells), num_kept / len(held) if held else 1.0, *means)
    return [round(float(x), 4) for x in figures]


def measure(options: argparse.Namespace) -> dict[str, dict[str, object]]:
    """Every cell, out of DIR where it is there."""
    found: dict[str, dict[str, object]] = {}
    for corpus in options.corpus:
        stem = "".join(c if c.isalnum() else "-" for c in corpus.rstrip("/").rpartition("/")[2])
        path = options.folder / "cells" / f"{stem}-{options.label}.json"
        about = about_options(options, corpus)
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                cell = make_ladder(options, corpus, stem)
            except LeafkitError as err:
                raise SystemExit(f"{corpus}: {err}; {err.hint}") from err
            write(path, {"about": about, **cell})
        found[stem] = json.loads(path.read_text(encoding="utf-8"))
        check_about(path, found[stem].get("about"), about)
    return found


def rung_rows(name: str, ladder: Ladder) -> Iterator[list[str]]:
    """A row per rung alone."""
    for rung in ladder.rungs:
        yield [
            name,
            rung.name,
            f"{rung.ndcg.value:.3f}",
            rung.kept.percent(),
            f"{rung.encode_ms:.2f}",
            f"{rung.query_ms:.2f}",
            f"{rung.query_ms / ladder.teacher_ms:.1%}",
            str(rung.timed_on),
        ]


def promise_rows(
    name: str, ladder: Ladder, splits: Mapping[str, list[float]]
) -> Iterator[list[str]]:
    """A row per promise: of the one split that is served, then of all that were drawn."""
    for one in ladder.promises:
        often, kept, mean, cost = splits[f"{one.promise:g}"]
        yield [
            name,
            f"{one.promise:.0%}",
            "teacher alone" if one.bound is None else one.kept.percent(),
            ladder.verification_of(one) if one.is_held else "",
            _percent(one.cost),
            ", ".join(f"{rung} {share:.0%}" for rung, share in one.shares.items() if share),
            "" if one.mix is None else one.mix.percent(),
            "" if one.gain is None else points(one.gain),
            f"{often:.0%}",
            f"{kept:.0%}" if often else "",
            f"{mean:.1%}",
            f"{cost:.0%}",
        ]


def _percent(found: Interval) -> str:
    return found.percent() if found.low < found.high else f"{found.value:.0%}"


def main() -> None:
    """Measure, then write the report."""
    parser = make_parser(__doc__, can_print=True)
    add_cell_options(parser, "ladder", "own-index")
    options = parser.parse_args()
    pin(options.threads)
    found = measure(options)
    ladders = {name: Ladder.from_json(cell["ladder"]) for name, cell in found.items()}
    lines = [
        *title("A ladder of encoders on one index"),
        f"{command()}, {describe('torch', num_threads=options.threads)}. Teacher "
        f"{options.teacher}, documents cut at {options.max_document_tokens} tokens; recipe "
        f"own-index, words: {' '.join((*DEFAULTS, *options.words))}.",
        "",
        *(
            f"- {name}: {one.num_documents:,} documents, {one.index} index ({one.setting}); "
            f"{one.num_calibration:,} {one.asked_with} ({one.training}) calibrate, "
            f"{one.num_verification:,} verify; learned from {one.num_learning:,} "
            f"{one.learned_from}; timed with {one.num_timed:,} {one.timed_with}; route "
            f"{' > '.join(one.route)}."
            for name, one in ladders.items()
        ),
        "",
        "Each rung alone, on the queries that verify; medians of single queries, and what "
        "computed them.",
        "",
        *table(
            (
                "corpus",
                "rung",
                "nDCG@10",
                "of the teacher's",
                "encode ms",
                "query ms",
                "of its time",
                "computed by",
            ),
            (row for name, one in ladders.items() for row in rung_rows(name, one)),
        ),
        "The router. Kept, cost and gain: on the queries that verify, 95% intervals; the mix is "
        "the best random one of a rung and the teacher at the same cost, the gain in points. "
        f"Behind it {NUM_SPLITS} draws of the halves: how often the promise was given by less than "
        "the teacher alone, how often the other half kept it then, and means over all draws. The "
        "halves of one draw are small: a promise that holds on average is missed by a half that "
        "happens to be hard.",
        "",
        *table(
            (
                "corpus",
                "promise",
                "kept",
                "verification",
                "cost",
                "answered by",
                "mix",
                "gain",
                "given",
                "kept then",
                "mean kept",
                "mean cost",
            ),
            (
                row
                for name, one in ladders.items()
                for row in promise_rows(name, one, found[name]["splits"])  # type: ignore[arg-type]
            ),
        ),
    ]
    publish(lines, options.name, print_only=options.print_only)


if __name__ == "__main__":
    main()
