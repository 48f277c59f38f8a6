"""Does the student inherit Matryoshka truncation and quantisation? With a verdict for each setting."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from leafkit.config import to_plain
from leafkit.inherit.grid import run_grid
from leafkit.search.benchmark import check_judged
from leafkit.stages.bench import embed_systems
from leafkit.stages.corpus import load_corpus
from leafkit.stages.run import Run
from leafkit.stages.teacher import load_student, load_teacher

INHERIT = "inherit"
GRID_FILE = "grid.json"


def run_inherit(run: Run) -> dict[str, Any]:
    """The grid on the home collection's judged queries; returns it as plain data, with ``passed``.

    Raises:
        LeafkitError: a model is missing or lives in another space, or there is no judged query.
    """
    recipe = run.recipe
    teacher = load_teacher(run)
    student = load_student(run, teacher)
    corpus = load_corpus(run, recipe.data.home)
    check_judged(corpus.collection, recipe.bench.split)
    config = recipe.inherit
    dims = config.dims or list(teacher.model.mrl_dims)
    folder = run.folder / INHERIT
    inputs = {
        "config": to_plain(config), "teacher": teacher.model.fingerprint, "student": student.model.fingerprint,
        "seed": recipe.seed, "corpus": corpus.fingerprint, "split": recipe.bench.split, "precision": str(run.precision),
        "tokens": [recipe.data.max_query_tokens, recipe.data.max_document_tokens], "resamples": recipe.bench.num_resamples,
    }  # fmt: skip
    vectors = embed_systems(run, teacher, student, None, corpus, recipe.data.max_document_tokens)

    def work(metrics: dict[str, Any]) -> dict[str, Any]:
        collection = corpus.collection
        grid = run_grid(
            vectors, [q.id for q in collection.judged(recipe.bench.split)], [d.id for d in collection.documents],
            collection.qrels,
            dims, config.precisions, config.max_gap, recipe.bench.num_resamples, recipe.seed,
        )  # fmt: skip
        metrics["passed"] = grid["passed"]
        return {"collection": collection.name} | grid

    def save(grid: dict[str, Any], draft: Path) -> None:
        (draft / GRID_FILE).write_text(json.dumps(grid, indent=1))

    run.stage(INHERIT, folder, inputs, work, save)
    found: dict[str, Any] = json.loads((folder / GRID_FILE).read_text())
    return found
