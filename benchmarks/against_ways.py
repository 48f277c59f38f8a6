"""One student of benchmarks/against.py, one way per process: ``python benchmarks/against_ways.py
WAY --minutes M --recipe NAME key=value ...``.

Prints its figures as JSON on the last line. The clock runs from the teacher's vectors to the
finished student: reading the start model, tokenizing, closed form and training count; imports and
measuring do not.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from lib.arguments import make_parser
from lib.peers import RIDGE, Ran, embed_distill, model_folder, mse, mse_from_closed_form
from lib.pinned import pin

if TYPE_CHECKING:
    from lib.case import Case

_TEXTS_PER_LOOK = 128  # encoded between two looks at the clock
_FIT_SHARE = 0.9  # of a budget may pass before the map is fitted


def leafkit(case: Case, options: argparse.Namespace, kind: str = "") -> Ran:
    """The library's own distillation; ``kind`` instead of the recipe's."""
    from lib.timed import Clock, distill_in_time

    config = case.run.recipe.student
    config = replace(config, kind=kind) if kind else config
    clock = Clock(60 * options.minutes)
    found = distill_in_time(case, config, clock, options.seed)
    seconds, cpu_s = clock.seconds, clock.cpu_s
    embedder = found.embedder(case)
    planned = found.config
    is_instant = planned.trains_nothing
    note = f"{found.num_steps} steps, {planned.num_ridge_texts:,} texts in the closed form"
    if found.was_stopped:
        note += ", stopped by the clock"
    checked = found.distilled.held_out
    if checked is not None and not is_instant:
        note += f"; kept what it was after {checked.kept_after:,}"
    is_whole = planned.num_ridge_texts == config.num_ridge_texts
    return Ran(
        embed=embedder.embed,
        seconds=seconds,
        cpu_s=cpu_s,
        texts=found.num_texts,
        is_complete=is_instant and is_whole,
        note=note,
    )


def instant(case: Case, options: argparse.Namespace) -> Ran:
    """leafkit's closed form, no step of training."""
    return leafkit(case, options, "instant")


def closed_form(case: Case, options: argparse.Namespace) -> Ran:
    """A linear map, with intercept, of the unchanged start model's vectors onto the teacher's."""
    from lib.timed import Clock

    from leafkit.embedders.transformer import TransformerEmbedder
    from leafkit.evaluation.diagnosis.spectrum import sum_for_ridge
    from leafkit.pipeline.student.start import load_start

    rows, vectors = case.rows, case.vectors()
    clock = Clock(60 * options.minutes)
    embedder = TransformerEmbedder(
        load_start(case.run.recipe.student), case.run.device, case.run.precision
    )
    order = np.random.default_rng(options.seed).permutation(len(rows))
    found: list[np.ndarray] = []
    done = 0
    while done < len(order) and clock.seconds < _FIT_SHARE * clock.budget_s:
        part = order[done : done + _TEXTS_PER_LOOK]
        found.append(_encode_rows(case, embedder, [rows[i] for i in part]))
        done += len(part)
    if not found:
        raise SystemExit("the budget is over before a text is encoded")
    solution = sum_for_ridge(np.concatenate(found), vectors[order[:done]]).solve(RIDGE)
    seconds, cpu_s = clock.seconds, clock.cpu_s

    def embed(texts: Sequence[str], role: str, limit: int) -> np.ndarray:
        asked = [(case.teacher.model.prompt(role) + text, role) for text in texts]
        return _encode_rows(case, embedder, asked, limit) @ solution.weight + solution.bias

    note = f"{done:,} of {len(rows):,} texts, ridge {RIDGE:g}"
    return Ran(
        embed=embed,
        seconds=seconds,
        cpu_s=cpu_s,
        texts=done,
        is_complete=done == len(rows),
        note=note,
    )


def model2vec(case: Case, options: argparse.Namespace) -> Ran:
    """model2vec's distillation of the teacher's own token vectors, without its PCA, which would
    leave the teacher's space; it sees no text and takes the time that it takes.
    """
    from lib.timed import Clock
    from model2vec.distill import distill

    if case.teacher.encoder is None:
        raise SystemExit("does not apply: the teacher is no model that can be loaded here")
    folder = model_folder(case.run.recipe.teacher.source)
    clock = Clock(60 * options.minutes)
    model = distill(model_name=folder, device="cpu", pca_dims=None)
    seconds, cpu_s = clock.seconds, clock.cpu_s

    def embed(texts: Sequence[str], role: str, limit: int) -> np.ndarray:
        prompt = case.teacher.model.prompt(role)
        return np.asarray(model.encode([prompt + text for text in texts]), dtype=np.float32)

    return Ran(
        embed=embed,
        seconds=seconds,
        cpu_s=cpu_s,
        texts=0,
        is_complete=True,
        note="no PCA; sees no text",
    )


WAYS: dict[str, Callable[[Case, argparse.Namespace], Ran]] = {
    "leafkit": leafkit,
    "instant": instant,
    "embed-distill": embed_distill,
    "mse": mse,
    "closed-form-mse": mse_from_closed_form,
    "closed-form": closed_form,
    "model2vec": model2vec,
}


def _encode_rows(
    case: Case, embedder: Any, rows: Sequence[tuple[str, str]], limit: int | None = None
) -> np.ndarray:
    """(n, d) of the unchanged start model, each text cut as its role is."""
    out: np.ndarray | None = None
    for role in sorted({role for _, role in rows}):
        places = [i for i, row in enumerate(rows) if row[1] == role]
        cut = case.home.limits.of(role) if limit is None else limit
        # the texts have their prompts already
        vectors = embedder.embed([rows[i][0] for i in places], "", cut)
        if out is None:
            out = np.empty((len(rows), vectors.shape[1]), dtype=np.float32)
        out[places] = vectors
    assert out is not None
    return out


def measure(case: Case, ran: Ran, *, symmetric: bool) -> dict[str, list[float]]:
    """nDCG@10 of each judged query, of the teacher and of the student."""
    from leafkit.core.truncate import truncate_then_normalize

    home, limits = case.home, case.home.limits

    def unit(texts: Sequence[str], role: str) -> np.ndarray:
        return truncate_then_normalize(ran.embed(texts, role, limits.of(role)))

    asked = unit(home.asked, home.role)
    found = {"teacher": home.ndcg(home.queries), "asymmetric": home.ndcg(asked)}
    if symmetric:
        found["symmetric"] = home.ndcg(asked, unit(home.texts, "document"))
    return {name: np.round(values, 6).tolist() for name, values in found.items()}


def main() -> None:
    """Distil one student and print its figures."""
    parser = make_parser(__doc__)
    parser.add_argument("way", choices=list(WAYS))
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--recipe", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--symmetric", action="store_true")
    parser.add_argument("--peer-lr", type=float, default=1e-4)
    parser.add_argument("--distance", default="cosine")
    parser.add_argument("words", nargs="*")
    options = parser.parse_intermixed_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    pin(options.threads)
    # what is imported first is not timed
    import lib.timed  # noqa: F401
    from lib.case import load_case, read_case_recipe

    from leafkit.core.system import keep_freed_memory
    from leafkit.core.version import git_commit
    from leafkit.pipeline.run import open_run

    if options.way in ("leafkit", "instant", "closed-form"):
        keep_freed_memory()  # as leafkit's command line does; a peer runs as it comes
    elif options.way != "model2vec":
        import datasets  # noqa: F401
        import sentence_transformers  # noqa: F401
    with open_run(read_case_recipe(options.recipe, options.words)) as run:
        case = load_case(run)
        ran = WAYS[options.way](case, options)
        figures = {
            "about": case.about(),
            "way": options.way,
            "minutes": options.minutes,
            "seed": options.seed,
            "seconds": ran.seconds,
            "cpu_s": ran.cpu_s,
            "texts": ran.texts,
            "is_complete": ran.is_complete,
            "note": ran.note,
            "commit": git_commit(),
            "ndcg": measure(case, ran, symmetric=options.symmetric),
        }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
