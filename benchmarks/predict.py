"""Know before you pay: whether `leafkit predict` foretells what students are worth.

    python benchmarks/predict.py develop --case CHECKPOINTS --case ... --folder DIR --table FILE
    python benchmarks/predict.py foretell --case CHECKPOINTS ... --table FILE --foretold JSON
    python benchmarks/predict.py settle --case CHECKPOINTS ... --table FILE --foretold JSON
    python benchmarks/predict.py hindsight [--table FILE]

A case is a checkpoints folder in which a recipe of one corpus was finished: its collection, and the
teacher's vectors of documents, made queries and judged queries. Of each case the teacher's space is
taken as it is, and made into others (rotated, widened, non-linear, truncated, noisy, anisotropic),
documents and queries alike. `develop` probes students of some cases, makes them of all texts, and
writes the table that the package ships. `foretell` probes students of other cases and writes what
that table says of them; commit that file. `settle` makes the students, and writes a dated report of
how the predictions turned out, those that a corpus gets from the others (left out in turn) beside
them. `hindsight` needs no case: each corpus of the package's table, or of another, gets its shares
from the others. States of the start model, probes and outcomes are kept in DIR and not computed
again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from lib.arguments import make_parser
from lib.cells import write
from lib.machine import describe
from lib.pinned import pin
from lib.prediction_case import SEED, START, Case, Space
from lib.prediction_report import left_out_lines, report_lines
from lib.prediction_spaces import AS_IT_IS, SPACES
from lib.report import command, publish, title, today

# a prediction has two minutes: it probes some texts, and speaks of all
PROBED = 512
DIMS_PART, WAYS = 2, ("int8", "binary")
FEWEST_LEFT_OUT = 3  # corpora: of two, one alone says nothing of how corpora differ
OWN_DOCUMENTS = "its own documents"  # where all of them are read


def layers_of(states: np.ndarray, kind: str) -> slice:
    """Columns of a kind of MiniLM's six layers and its embeddings."""
    from leafkit.results.prediction import ALL_LAYERS, LAST_LAYER, THREE_LAYERS, TWO_LAYERS

    width = states.shape[1] // 7
    layer = {TWO_LAYERS: 2, THREE_LAYERS: 3, LAST_LAYER: 6}.get(kind)
    if layer is None:
        assert kind == ALL_LAYERS
        return slice(0, states.shape[1])
    return slice(layer * width, (layer + 1) * width)


def ways_of(space: Space, dim: int) -> list[tuple[int, str]]:
    """Dimensions and precisions that are measured of one kind."""
    return [(dim // DIMS_PART, "float32"), *((dim, precision) for precision in WAYS)]


def static_probe(space: Space) -> Any:
    """Trains tables."""
    from leafkit.config import StudentConfig
    from leafkit.embedders.precomputed import PrecomputedVectors
    from leafkit.models.checkpoint import load_encoder
    from leafkit.pipeline.model_handle import ModelHandle
    from leafkit.pipeline.predict.static_probe import StaticProbe
    from leafkit.pipeline.student.targets import TokenLimits

    case = space.case
    place = next(p for p in (case.checkpoints / "vectors").iterdir() if "-document-" in p.name)
    teacher = ModelHandle(PrecomputedVectors(place), "stored", "")
    limits = TokenLimits(*case.limits)
    return StaticProbe(load_encoder(START), teacher, StudentConfig(), limits, seed=SEED)


def probe(space: Space, kinds: Sequence[str]) -> dict[str, Any]:
    """Figures of each kind's probes, and of its ways by their names."""
    from leafkit.config import InheritConfig
    from leafkit.pipeline.predict.closed_probe import StatesOf, apply_head, probe_closed_form
    from leafkit.pipeline.predict.probe_students import counts_to
    from leafkit.pipeline.predict.ways import measure_ways
    from leafkit.results.codec import to_plain
    from leafkit.results.prediction import LAST_LAYER, STATIC

    case, found = space.case, {}
    counts = counts_to(min(PROBED, len(case.fit) // 2))
    fit = case.fit[: counts[-1]]
    for kind in kinds:
        if kind == STATIC:
            texts = [case.texts[i] for i in fit.tolist()]
            asked = ([case.texts[i] for i in case.held_out.tolist()], case.queries)
            probes, _ = static_probe(space).probe(
                texts, space.documents[fit], asked, space.yardstick, counts
            )
            found[kind] = {"probes": to_plain(probes)}
            continue
        states = case.states
        own = StatesOf(states["fit"][: len(fit)], states["held_out"], states["queries"])
        own = own.of(layers_of(states["fit"], kind))
        probes, head = probe_closed_form(own, space.documents[fit], space.yardstick, counts)
        found[kind] = {"probes": to_plain(probes)}
        if kind == LAST_LAYER:
            parts = [apply_head(head, part) for part in (own.held_out, own.queries)]
            ways = measure_ways(
                space.yardstick,
                *parts,
                ways_of(space, space.documents.shape[1]),
                InheritConfig(),
                seed=SEED,
            )
            found[kind]["ways"] = {name_of(w.dim, w.precision, space): to_plain(f) for w, f in ways}
            if case.is_whole:
                found[kind]["own"] = to_plain(probe_own_documents(space, own, fit))
    return found


def probe_own_documents(space: Space, states: Any, fit: np.ndarray) -> Any:
    """Ratios of the figures over a student's own documents, as a prediction measures them."""
    from leafkit.pipeline.predict.closed_probe import apply_head, fit_head
    from leafkit.pipeline.predict.sample import Sample
    from leafkit.pipeline.predict.ways import measure_symmetric
    from leafkit.results.prediction import MADE_QUERIES

    case, half = space.case, len(fit) // 2
    head = fit_head(states.fit[:half], space.documents[fit[:half]])
    parts = (states.held_out, states.queries, states.fit[half:])
    held_out, queries, documents = (apply_head(head, part) for part in parts)
    asked = (case.queries, MADE_QUERIES, space.yardstick)
    sample = Sample(case.texts, case.fit, case.held_out, *asked)
    return measure_symmetric(sample, fit[half:], (held_out, queries, documents))


def name_of(dim: int, precision: str, space: Space) -> str:
    """Of a way, the same in spaces of all widths."""
    return precision if dim == space.documents.shape[1] else f"1/{DIMS_PART} of the dimensions"


def settle(space: Space, kinds: Sequence[str]) -> dict[str, Any]:
    """Retention of each kind made of all texts that are fitted, and of its ways."""
    from leafkit.config import InheritConfig
    from leafkit.core.truncate import truncate_then_normalize
    from leafkit.index.codecs.fit import fit_codecs
    from leafkit.pipeline.predict.closed_probe import apply_head, fit_head
    from leafkit.results.prediction import LAST_LAYER, STATIC

    case, found = space.case, {}
    for kind in kinds:
        if kind == STATIC:
            maker = static_probe(space)
            texts = [case.texts[i] for i in case.fit.tolist()]
            table = maker.train(texts, space.documents[case.fit])
            queries = maker.embed(table, [query.text for query in case.judged], "query")
            found[kind] = {"outcome": space.retention(space.ndcg(queries))}
            continue
        columns = layers_of(case.states["fit"], kind)
        head = fit_head(case.states["fit"][:, columns], space.documents[case.fit])
        queries = apply_head(head, case.states["judged"][:, columns])
        found[kind] = {"outcome": space.retention(space.ndcg(queries))}
        if kind != LAST_LAYER:
            continue
        ways = {}
        for dim, precision in ways_of(space, space.documents.shape[1]):
            stored = truncate_then_normalize(space.documents, dim)
            if precision != "float32":
                codec = fit_codecs(space.documents, [dim], [precision], InheritConfig(), seed=SEED)
                stored = codec[dim, precision].round_trip(stored)
            cut = truncate_then_normalize(queries, dim)
            values = space.ndcg(cut, np.ascontiguousarray(stored))
            ways[name_of(dim, precision, space)] = space.retention(values)
        if case.is_whole:
            own = np.empty_like(space.documents)
            own[case.fit] = apply_head(head, case.states["fit"][:, columns])
            own[case.held_out] = apply_head(head, case.states["held_out"][:, columns])
            ways[OWN_DOCUMENTS] = space.retention(space.ndcg(queries, own))
        found[kind]["ways"] = ways
    return found


def cells(
    cases: Sequence[Case], folder: Path, what: str, options: argparse.Namespace
) -> Iterator[tuple[Case, str, dict[str, Any]]]:
    """Probes or outcomes by case and space, measured where they are not kept."""
    from leafkit.results.prediction import STATIC

    work = {"probes": probe, "outcomes": settle}[what]
    for case in cases:
        for name in options.spaces:
            place = folder / what / f"{case.name}-{options.fitted}-{name.replace(' ', '-')}.json"
            place.parent.mkdir(parents=True, exist_ok=True)
            kept = json.loads(place.read_text()) if place.is_file() else {}
            kinds = [k for k in options.kinds if k != STATIC or name in options.static_spaces]
            missing = [kind for kind in kinds if kind not in kept]
            if missing:
                print(f"{what}: {case.name}, {name}: {', '.join(missing)}", flush=True)
                kept |= work(Space(case, name), missing)
                write(place, kept)
            yield case, name, {kind: kept[kind] for kind in kinds}


def expected(case: Case, cell: Mapping[str, Any]) -> Iterator[tuple[str, int, Any]]:
    """Kind or way, texts of the largest probe, and the figures that are expected of all texts."""
    from leafkit.evaluation.forecast.growth import expect_at
    from leafkit.pipeline.predict.ways import ratios_of, scale_figures
    from leafkit.results import ProbeFigures
    from leafkit.results.codec import from_plain
    from leafkit.results.prediction import ProbeAt

    for kind, found in cell.items():
        probes = from_plain(tuple[ProbeAt, ...], found["probes"])
        whole = expect_at(probes, len(case.fit))
        yield kind, probes[-1].num_texts, whole
        for way, plain in found.get("ways", {}).items():
            ratios = ratios_of(from_plain(ProbeFigures, plain), probes[-1].figures)
            yield f"{kind}, {way}", probes[-1].num_texts, scale_figures(whole, ratios)
        if "own" in found:
            ratios = from_plain(ProbeFigures, found["own"])
            yield f"{kind}, {OWN_DOCUMENTS}", probes[-1].num_texts, scale_figures(whole, ratios)


def trained_outcome(case: Case) -> dict[str, float | int] | None:
    """Retention of the student that a finished run of the recipe own-index trained for ten minutes,
    as benchmarks/students.py or benchmarks/against.py kept it; None where there is none.
    """
    from leafkit.evaluation.bootstrap import Bootstrap

    kept = [*case.checkpoints.glob("students/trained-10min-*.json")]
    kept += case.checkpoints.glob("against/leafkit-10min-*.json")
    if not kept:
        return None
    found = json.loads(max(kept, key=lambda path: path.stat().st_mtime).read_text())
    if "collections" in found:
        ndcg = found["collections"][case.name]["ndcg"]
        teacher, student = (
            next(v for k, v in ndcg.items() if k.startswith(f"{who}/") and k.endswith("/float32"))
            for who in ("teacher", "asymmetric")
        )
    else:
        teacher, student = (found["ndcg"][who] for who in ("teacher", "asymmetric"))
    values = np.array(student), np.array(teacher)
    return asdict(Bootstrap(len(values[0]), 2000, SEED).ratio(*values))


def expected_of_all(case: Case, cell: Mapping[str, Any]) -> tuple[int, Any]:
    """Texts of the largest probe of the last layer, and its figures of all documents."""
    from leafkit.evaluation.forecast.growth import expect_at
    from leafkit.results.codec import from_plain
    from leafkit.results.prediction import LAST_LAYER, ProbeAt

    probes = from_plain(tuple[ProbeAt, ...], cell[LAST_LAYER]["probes"])
    return probes[-1].num_texts, expect_at(probes, len(case.texts))


def runs_of(cases: Sequence[Case], options: argparse.Namespace) -> list[Any]:
    """Finished runs: probes with outcomes."""
    from leafkit.results import FinishedRun, Interval
    from leafkit.results.prediction import TRAINED

    probed = {(c.name, s): cell for c, s, cell in cells(cases, options.folder, "probes", options)}
    runs = []
    for case, space, cell in cells(cases, options.folder, "outcomes", options):
        outcomes = {}
        for kind, found in cell.items():
            outcomes[kind] = found["outcome"]
            outcomes |= {f"{kind}, {way}": one for way, one in found.get("ways", {}).items()}
        for kind, num_probed, figures in expected(case, probed[case.name, space]):
            runs.append(
                FinishedRun(
                    corpus=case.name,
                    teacher=options.teacher_name,
                    space=space,
                    kind=kind,
                    num_texts=len(case.fit),
                    num_probed=num_probed,
                    probe=figures,
                    outcome=Interval(**outcomes[kind]),
                )
            )
        trained = trained_outcome(case) if space == AS_IT_IS else None
        if trained is not None:
            num_probed, figures = expected_of_all(case, probed[case.name, space])
            about = (case.name, options.teacher_name, space, TRAINED, len(case.texts), num_probed)
            runs.append(FinishedRun(*about, figures, Interval(**trained)))
    return runs


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
    text = json.dumps({"about": about, "predictions": rows}, indent=1)
    options.foretold.write_text(text + "\n", encoding="utf-8")
    print(f"{len(rows)} predictions: {options.foretold}")


def report(cases: Sequence[Case], options: argparse.Namespace) -> None:
    """Settle what was foretold, and write the report."""
    from leafkit.results import FinishedRuns

    foretold = json.loads(options.foretold.read_text(encoding="utf-8"))
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


def hindsight(options: argparse.Namespace) -> None:
    """Report what each corpus of a table gets from the others."""
    from leafkit.evaluation.forecast.calibration import CEILING, FEATURES, shipped_runs
    from leafkit.results import FinishedRuns

    runs = shipped_runs() if options.table is None else FinishedRuns.load(options.table).runs
    if len({run.corpus for run in runs}) < FEWEST_LEFT_OUT:
        raise SystemExit(f"--table has runs of fewer than {FEWEST_LEFT_OUT} corpora")
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
    parser.add_argument("step", choices=("develop", "foretell", "settle", "hindsight"))
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
    if options.step == "hindsight":
        hindsight(options)
        return
    if not options.case or options.folder is None or options.table is None:
        raise SystemExit(f"{options.step} takes --case, --folder and --table")
    if options.step != "develop" and options.foretold is None:
        raise SystemExit("--foretold FILE holds the predictions")
    cases = [Case(place, options.folder, options.fitted) for place in options.case]
    {"develop": develop, "foretell": foretell, "settle": report}[options.step](cases, options)


if __name__ == "__main__":
    main()
