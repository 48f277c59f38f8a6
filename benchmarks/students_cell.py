"""One cell of benchmarks/students.py, in a process of its own: ``python benchmarks/students_cell.py
--minutes M --recipe NAME key=value ...``.

Prints its figures as JSON on the last line: nDCG@10 of every judged query at every dimension and
precision, of the teacher and of the student, and the width of HNSW's search that each needs.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from lib.arguments import make_parser
from lib.pinned import pin

if TYPE_CHECKING:
    from lib.case import Case, Judged

    from leafkit.embedders.protocol import LocalEmbedder
    from leafkit.results import IndexRow

PRECISIONS = ("float32", "int8", "binary")
EF_SEARCH = (8, 16, 32, 64, 128, 256, 512)
TARGET_RECALL = 0.95
_SYSTEMS = ("teacher", "asymmetric", "symmetric")
_INDEX_RESAMPLES = 1000  # of intervals that no report shows


def measure_collection(
    case: Case, one: Judged, embedder: LocalEmbedder, options: argparse.Namespace
) -> dict[str, Any]:
    """nDCG@10 per query by system/dimension/precision; cosine and overlap@10 of the queries."""
    from leafkit.config import InheritConfig
    from leafkit.evaluation.agreement import cosines, shares_found
    from leafkit.evaluation.inheritance.grid import run_grid
    from leafkit.index.exact import search_exact

    asked = embedder.embed(one.asked, one.role, one.limits.query)
    vectors = {"teacher": (one.queries, one.documents), "asymmetric": (asked, one.documents)}
    if not options.asymmetric_only:
        found = embedder.embed(one.texts, "document", one.limits.document)
        vectors["symmetric"] = (asked, found)
    grid = run_grid(
        vectors,
        one.judgments,
        InheritConfig(dims=options.dims, precisions=list(PRECISIONS)),
        num_resamples=1,
        seed=case.run.recipe.seed,
        own=one.own.tolist(),
        known_dims=case.teacher.model.mrl_dims,
    )
    ndcg = {}
    for column, values in grid.per_query.items():
        system, dim, precision, queries, rescoring = column.split("/")
        if system in _SYSTEMS and (queries, rescoring) == ("float", "x0"):
            ndcg[f"{system}/{dim}/{precision}"] = np.round(values, 6).tolist()
    rankings = [search_exact(v, one.documents, 10).positions for v in (one.queries, asked)]
    return {
        "ndcg": ndcg,
        "dim": case.teacher.model.dim,
        "cosine": float(cosines(one.queries, asked).mean()),
        "overlap": float(shares_found(*rankings).mean()),
    }


def measure_hnsw(case: Case, embedder: LocalEmbedder) -> dict[str, dict[str, float]]:
    """Recall@10 at each width of the search, for the teacher's and the student's queries over the
    teacher's documents.
    """
    from leafkit.config import IndexConfig
    from leafkit.evaluation.ann_indexes import compare_indexes

    home = case.home
    compared = compare_indexes(
        home.documents,
        {
            "teacher": home.queries,
            "student": embedder.embed(home.asked, home.role, home.limits.query),
        },
        home.judgments,
        IndexConfig(kinds=["hnsw"], ef_search=list(EF_SEARCH), target_recall=TARGET_RECALL),
        collection_name=home.collection.name,
        num_resamples=_INDEX_RESAMPLES,
        seed=case.run.recipe.seed,
        own=home.own.tolist(),
    )
    return recall_by_width(compared)


def recall_by_width(compared: Sequence[IndexRow]) -> dict[str, dict[str, float]]:
    """Recall@10 by whose queries and by ef."""
    found: dict[str, dict[str, float]] = {}
    for row in compared:
        ef = row.setting.rpartition("=")[2]
        found.setdefault(row.queries, {})[ef] = row.recall_at_10.value
    return found


def main() -> None:
    """Distil one student, measure it, print the figures."""
    parser = make_parser(__doc__)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--recipe", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out-of-domain", nargs="*", default=[])
    parser.add_argument("--dims", type=int, nargs="*", default=[])
    parser.add_argument("--asymmetric-only", action="store_true")
    parser.add_argument("--no-hnsw", action="store_true")
    parser.add_argument("--away-only", action="store_true", help="measure nothing at home")
    parser.add_argument("--words", nargs="*", default=[], metavar="key=value")
    options = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    pin(options.threads)
    from lib.case import load_case, read_case_recipe
    from lib.timed import Clock, distill_in_time

    from leafkit.core.system import keep_freed_memory
    from leafkit.core.version import git_commit
    from leafkit.pipeline.run import open_run

    keep_freed_memory()
    with open_run(read_case_recipe(options.recipe, options.words)) as run:
        case = load_case(run, options.out_of_domain, is_home_judged=not options.away_only)
        clock = Clock(60 * options.minutes)
        timed = distill_in_time(case, run.recipe.student, clock, options.seed)
        seconds, cpu_s = clock.seconds, clock.cpu_s
        embedder = timed.embedder(case)
        checked = timed.distilled.held_out
        figures = {
            "about": case.about(),
            "seed": options.seed,
            "seconds": seconds,
            "cpu_s": cpu_s,
            "steps": timed.num_steps,
            "kept_after": checked.kept_after if checked is not None else None,
            "was_stopped": timed.was_stopped,
            "parameters": timed.distilled.student.num_parameters(),
            "commit": git_commit(),
            "collections": {
                one.collection.name: measure_collection(case, one, embedder, options)
                for one in case.measured
            },
            "hnsw": {} if options.no_hnsw else measure_hnsw(case, embedder),
        }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
