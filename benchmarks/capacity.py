"""What more than a linear head brings an instant student: clusters, kernels, tokens.

    python benchmarks/capacity.py --corpus beir:FOLDER beir:FOLDER --folder DIR

Each way is a closed form on the documents of an index (capacity_parts/ways.py). A part of the
documents is held out; what these find of the teacher's ten nearest documents, asked as queries,
chooses the strength of every way, and one way of each family. Then each is fitted to all documents,
and the judged queries, by which nothing was chosen, measure it. DIR keeps the teacher's vectors and
what was measured of each corpus. Writes a dated report.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from capacity_parts.solver import Setting, Solver
from capacity_parts.ways import BASELINE, Texts, Way, list_ways
from closed_form import nearest
from lib.arguments import add_cell_options, make_parser
from lib.case import Case, case_words, load_case, read_case_recipe
from lib.cells import about_options, check_about, write
from lib.machine import describe
from lib.pinned import pin
from lib.report import command, publish, table, title
from lib.retention import Retention, points

from leafkit.core.console import log
from leafkit.evaluation.agreement import cosines, shares_found
from leafkit.pipeline.student.fit.closed_form import follow_lengths
from leafkit.pipeline.student.text_groups import DOCUMENTS, MADE_QUERIES

HELD_OUT, MOST_HELD_OUT = 0.2, 500  # of the documents
MOST_MADE = 1000  # made queries that are asked; nothing is fitted to them
WORDS = (
    "data.num_made_queries=4000",
    "student.head_layers=all",
    "student.num_ridge_texts=4096",
)


@dataclass(frozen=True, slots=True)
class Index:
    """What is fitted and what is asked.

    Attributes:
        documents: as the start reads them; all, or those that are fitted.
        rows: (n,) positions of these in the index.
        vectors: (N, D) the teacher's, of the whole index.
        made: queries made of the documents, and the teacher's vectors of them.
        judged: likewise, those of the benchmark.
    """

    documents: Texts
    rows: np.ndarray
    vectors: np.ndarray
    made: tuple[Texts, np.ndarray]
    judged: tuple[Texts, np.ndarray]


def read_index(case: Case) -> Index:
    """Every text encoded once, all layers."""
    from leafkit.embedders.transformer import TransformerEmbedder
    from leafkit.models.checkpoint import load_encoder
    from leafkit.pipeline.student.transformer import build_student

    recipe, teacher, home = case.run.recipe, case.teacher.model, case.home
    start = load_encoder(recipe.student.init)
    student = build_student(start, case.teacher, recipe.student, recipe.seed)
    embedder = TransformerEmbedder(student, case.run.device, case.run.precision)
    num_layers = len(student.spec.head_layers)

    def read(texts: Sequence[str], role: str, limit: int) -> Texts:
        # the student gets the teacher's prompts
        prompted = [teacher.prompt(role) + text for text in texts]
        ids = start.tokenize(prompted, "", limit or teacher.max_tokens)
        states = embedder.embed_ids(ids, pooled_only=True)
        return Texts(states.reshape(len(texts), num_layers, -1), [np.asarray(i) for i in ids])

    targets = {target.origin: target for target in case.targets}
    made, documents = targets[MADE_QUERIES], targets[DOCUMENTS]
    chosen = np.random.default_rng(recipe.seed).permutation(len(made.texts))[:MOST_MADE]
    asked = [made.texts[i] for i in np.sort(chosen)]
    order = np.random.default_rng(recipe.seed).permutation(len(documents.texts))
    rows = np.sort(order[: recipe.student.num_ridge_texts])
    return Index(
        read([documents.texts[i] for i in rows], "document", home.limits.document),
        rows,
        np.asarray(documents.vectors[: len(documents.texts)], dtype=np.float32),
        (
            read(asked, "query", home.limits.query),
            np.asarray(made.vectors[np.sort(chosen)], dtype=np.float32),
        ),
        (read(home.asked, home.role, home.limits.query), home.queries),
    )


def find_share(index: Index, asked: tuple[Texts, np.ndarray], vectors: np.ndarray) -> float:
    """Of the teacher's ten nearest documents, for texts that are none of them."""
    wanted, found = (nearest(v, index.vectors, None) for v in (asked[1], vectors))
    return float(shares_found(wanted, found).mean())


@dataclass(frozen=True, slots=True)
class Tried:
    """A way at its best setting.

    Attributes:
        way: which.
        setting: that held-out documents chose.
        shares: (V,) what each of them finds.
        seconds: of all fits.
    """

    way: Way
    setting: Setting
    shares: np.ndarray
    seconds: float


def choose_setting(index: Index, way: Way, held: np.ndarray, seed: int) -> Tried:
    """Fitted to the documents that are not held out."""
    began_s = time.perf_counter()
    rest = np.setdiff1d(np.arange(len(index.documents)), held)
    solver = make_solver(index, way, rest, seed)
    asked, own = index.documents[held], index.rows[held]
    wanted = nearest(index.vectors[own], index.vectors, own)
    found = {
        setting: shares_found(wanted, nearest(solver.solve(setting)(asked), index.vectors, own))
        for setting in solver.settings()
    }
    best = max(found, key=lambda setting: found[setting].mean())
    return Tried(way, best, found[best], time.perf_counter() - began_s)


def make_solver(index: Index, way: Way, rows: np.ndarray, seed: int) -> Solver:
    """Of some documents."""
    texts = index.documents[rows]
    return Solver(
        way, texts, follow_lengths(way.states(texts), index.vectors[index.rows[rows]]), seed
    )


def is_found_better(one: Tried, other: Tried) -> bool:
    """On the same held-out documents, by more than a standard error of the difference."""
    gain = one.shares - other.shares
    return bool(gain.mean() > gain.std() / len(gain) ** 0.5)


def measure_ways(case: Case, index: Index, ways: Sequence[Way]) -> dict[str, Any]:
    """Figures of each way, and the teacher's nDCG@10 of each judged query."""
    seed = case.run.recipe.seed
    count = min(MOST_HELD_OUT, int(HELD_OUT * len(index.documents)))
    held = np.sort(np.random.default_rng(seed).permutation(len(index.documents))[:count])
    rows: dict[str, Any] = {}
    baseline: Tried | None = None
    for way in ways:
        tried = choose_setting(index, way, held, seed)
        baseline = tried if way == BASELINE else baseline
        solver = make_solver(index, way, np.arange(len(index.documents)), seed)
        solve = solver.solve(tried.setting)
        judged, made = solve(index.judged[0]), solve(index.made[0])
        rows[way.name] = {
            "family": way.family,
            "ridge": tried.setting.ridge,
            "share": tried.setting.share,
            "held_out": float(tried.shares.mean()),
            "is_picked": baseline is not None and is_found_better(tried, baseline),
            "made": find_share(index, index.made, made),
            "judged": find_share(index, index.judged, judged),
            "cosine": float(cosines(index.judged[1], judged).mean()),
            "parameters": solver.num_parameters,
            "seconds": tried.seconds,
            "ndcg": np.round(case.home.ndcg(judged), 6).tolist(),
        }
        log(f"  {way.name}: held-out documents {rows[way.name]['held_out']:.3f}")
    teacher = case.home.ndcg(index.judged[1])
    return {"ways": rows, "teacher": np.round(teacher, 6).tolist(), "num_held_out": count}


def measure(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Figures of every corpus, out of DIR where they are there."""
    from leafkit.pipeline.run import open_run

    found = {}
    for corpus in options.corpus:
        stem = "".join(c if c.isalnum() else "-" for c in corpus.rstrip("/").rpartition("/")[2])
        path = options.folder / "cells" / f"{stem}-{options.label}.json"
        about = about_options(options, corpus)
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            one = argparse.Namespace(**{**vars(options), "corpus": corpus})
            words = (*WORDS, f"data.max_document_tokens={options.max_document_tokens}")
            recipe = read_case_recipe("own-index", case_words(one, words))
            with open_run(recipe) as run:
                case = load_case(run)
                figures = measure_ways(case, read_index(case), list_ways())
            write(path, {"about": about, **figures})
        found[stem] = json.loads(path.read_text(encoding="utf-8"))
        check_about(path, found[stem].get("about"), about)
    return found


def way_rows(name: str, found: Mapping[str, Any]) -> Iterator[list[str]]:
    """A row per way on one corpus."""
    kept, base = Retention({name: found["teacher"]}, [name]), found["ways"][BASELINE.name]
    for way, one in found["ways"].items():
        gain = kept.difference({name: one["ndcg"]}, {name: base["ndcg"]})
        yield [
            name,
            way,
            f"{one['ridge']:g}, {one['share']:g}",
            f"{one['parameters'] / 1e6:.1f}",
            f"{one['held_out']:.3f}",
            f"{one['made']:.3f}",
            f"{one['judged']:.3f}",
            f"{one['cosine']:.3f}",
            kept.of({name: one["ndcg"]}).percent(),
            points(gain),
            "yes" if one["is_picked"] else "",
        ]


def family_rows(found: Mapping[str, Mapping[str, Any]]) -> Iterator[list[str]]:
    """A row per family: on every corpus the way of it that held-out documents choose, where they
    choose it over the linear map, and else that.
    """
    kept = Retention({name: one["teacher"] for name, one in found.items()}, list(found))
    base = {name: one["ways"][BASELINE.name]["ndcg"] for name, one in found.items()}
    for family in dict.fromkeys(way.family for way in list_ways()):
        best = {}
        for name, one in found.items():
            ways = [way for way in one["ways"].values() if way["family"] == family]
            best[name] = max(ways, key=lambda way: way["held_out"])
        chosen = {
            name: one["ndcg"] if one["is_picked"] else base[name] for name, one in best.items()
        }
        gain = kept.difference(chosen, base)
        number = sum(one["is_picked"] for one in best.values())
        yield [family, f"{number} of {len(found)}", kept.of(chosen).percent(), points(gain)]


def main() -> None:
    """Measure, then write the report."""
    parser = make_parser(__doc__, can_print=True)
    add_cell_options(parser, "capacity", "own-index")
    options = parser.parse_args()
    pin(options.threads)
    found = measure(options)
    header = ["corpus", "way", "ridge, share", "M parameters", "held-out documents"]
    header += ["made queries", "judged queries", "their cosine", "of the teacher's nDCG@10"]
    header += ["minus linear, points", "picked"]
    families = ["family", "picked", "of the teacher's nDCG@10", "minus linear, points"]
    lines = [
        *title("What more than a linear head brings an instant student"),
        f"{command()}, {describe('torch', num_threads=options.threads)}. Teacher "
        f"{options.teacher}, documents cut at {options.max_document_tokens} tokens; closed forms "
        "alone, no step of the head. Documents, made and judged queries: share of the teacher's "
        "ten nearest documents that are found. Parameters: of the head. Picked: held-out documents "
        "find more than with the linear map, by more than a standard error of the difference.",
        "",
        *(f"- {name}: {one['num_held_out']} documents held out" for name, one in found.items()),
        "",
        *table(header, (row for name, one in found.items() for row in way_rows(name, one))),
        "The mean over the corpora, each family as held-out documents choose within it:",
        "",
        *table(families, family_rows(found)),
    ]
    publish(lines, options.name, print_only=options.print_only)


if __name__ == "__main__":
    main()
