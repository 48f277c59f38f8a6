"""Measure the pair: home and away, symmetric and asymmetric, beside a baseline and BM25; tasks,
indexes, contamination.

Each collection, each task and the comparison of indexes is an artifact of its own under
checkpoints/measured: a run that fails later finds them there and goes on.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from leafkit.config.schema import to_plain
from leafkit.core.artifact import fingerprint, read_manifest
from leafkit.core.checkpoint_layout import BENCH, FIGURES_FILE, PER_QUERY_FILE, RESULTS_FILE
from leafkit.core.console import log
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.core.method import method_of
from leafkit.evaluation.benchmark import MAIN, check_judged, macro_figures
from leafkit.evaluation.latency import measure_latency, serve_one
from leafkit.evaluation.per_query import read_per_query, write_per_query
from leafkit.index.kinds.plan import check_indexes
from leafkit.pipeline.corpus import Corpus, load_corpus
from leafkit.pipeline.evaluate.contamination import check_contamination
from leafkit.pipeline.evaluate.parts import (
    embed_collection,
    measure_collection,
    measure_indexes,
    measure_task,
    read_systems,
)
from leafkit.pipeline.model_handle import ModelHandle, load_handle, load_student, load_teacher
from leafkit.pipeline.run import Run

# a collection, "home" or "away", and the cut of its documents in tokens
Measured = tuple[Corpus, str, int]


@dataclass(frozen=True, slots=True)
class BenchInputs:
    """What decides about a benchmark that is put together from its parts."""

    config: dict[str, Any]
    teacher: str
    student: str
    parts: list[str]  # fingerprints
    contamination: str
    seed: int
    tokens: int  # cut of queries


def run_bench(run: Run, allow_empty: bool = True) -> Path:
    """Every system on every collection; figures in results.json, per-query values in
    per_query.parquet.

    Args:
        run: this run.
        allow_empty: a recipe without judged queries gets empty figures, as the whole road wants it;
            else it is an error.

    Raises:
        UsageError: an index that is asked for cannot be built of the first collection.
        LeafkitError: a model is missing or lives in another space, or a collection has no judged
            queries.
    """
    config, recipe = run.recipe.bench, run.recipe
    teacher = load_teacher(run)
    student = load_student(run, teacher)
    sides = {"teacher": teacher, "student": student}
    sides |= {"baseline": load_handle(run, config.baseline)} if config.baseline else {}
    corpora = choose_corpora(run)
    if not corpora and not config.tasks and not allow_empty:
        raise LeafkitError(
            f"no judged {config.split} query is left: there is nothing to measure",
            "name collections with bench.collections=[beir:PATH], or another split with "
            "bench.split=NAME",
        )
    if config.indexes.kinds and corpora:
        check_indexes(config.indexes, len(corpora[0][0].collection.documents), teacher.model.dim)
    collections = [measure_collection(run, sides, *measured) for measured in corpora]
    tasks = [measure_task(run, sides, uri) for uri in config.tasks]
    indexes = [measure_indexes(run, sides, *corpora[0])] if config.indexes.kinds and corpora else []
    contamination = (
        check_contamination(run, teacher, student, corpora)
        if config.contamination and corpora
        else {}
    )
    inputs = BenchInputs(
        config=to_plain(config),
        teacher=teacher.model.fingerprint,
        student=student.model.fingerprint,
        parts=[read_manifest(part).fingerprint() for part in (*collections, *tasks, *indexes)],
        contamination=fingerprint(contamination),
        seed=recipe.seed,
        tokens=recipe.data.max_query_tokens,
    )
    folder = run.folder / BENCH

    def work(metrics: dict[str, Any]) -> dict[str, Any]:
        figures = assemble(run, collections, tasks, indexes, contamination)
        figures["latency"] = _time_queries(run, sides, corpora)
        metrics[MAIN] = {
            f"{c['name']}/{row['system']}": row[MAIN]
            for c in figures["collections"]
            for row in c["rows"]
        }
        return figures

    def save(figures: dict[str, Any], draft: Path) -> None:
        (draft / RESULTS_FILE).write_text(
            json.dumps(figures, indent=1, ensure_ascii=False), encoding="utf-8"
        )
        write_per_query(
            draft / PER_QUERY_FILE,
            [one for part in collections for one in read_per_query(part / PER_QUERY_FILE)],
        )

    run.step(
        name=BENCH,
        folder=folder,
        inputs=inputs,
        method=method_of(assemble, _time_queries),
        work=work,
        save=save,
    )
    return folder


def choose_corpora(run: Run) -> list[Measured]:
    """Home, where it has judged queries, and the collections beside it.

    Raises:
        LeafkitError: one of the latter has no judged query.
        UsageError: two have one name.
    """
    config, data = run.recipe.bench, run.recipe.data
    corpora: list[Measured] = []
    if data.corpus:
        home = load_corpus(run, data.corpus)
        if home.collection.judged(config.split):
            corpora.append((home, "home", data.max_document_tokens))
        else:
            log(
                f"  {home.collection.name} has no judged {config.split} query: it is left out of "
                f"the benchmark"
            )
    for uri in config.collections:
        corpus = load_corpus(run, uri)
        check_judged(corpus.collection, config.split)
        corpora.append((corpus, "away", config.max_document_tokens))
    names = [corpus.collection.name for corpus, _, _ in corpora]
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise UsageError(
            f"bench.collections: two collections are called {twice[0]!r}, and their figures "
            f"could not be told apart",
            "rename one's file or folder, or leave it out",
        )
    return corpora


def assemble(
    run: Run,
    collections: list[Path],
    tasks: list[Path],
    indexes: list[Path],
    contamination: dict[str, dict[str, Any]],
) -> dict[str, Any]:
    """What the parts found, as one: the figures of results.json without the latency."""
    parts = [json.loads((part / FIGURES_FILE).read_text(encoding="utf-8")) for part in collections]
    figures: dict[str, Any] = {"collections": [part["figures"] for part in parts], "samples": []}
    for part in figures["collections"]:
        if part["name"] in contamination:
            part["contamination"] = contamination[part["name"]]
    if parts:
        figures["samples"] = parts[0]["samples"]
    if len(parts) > 1:
        values = [
            one.values for part in collections for one in read_per_query(part / PER_QUERY_FILE)
        ]
        figures["macro"] = macro_figures(values, run.recipe.bench.num_resamples, run.recipe.seed)
    for name, found in (("tasks", tasks), ("indexes", indexes)):
        if found:
            figures[name] = [
                row
                for part in found
                for row in json.loads((part / FIGURES_FILE).read_text(encoding="utf-8"))
            ]
    return figures


def _time_queries(
    run: Run, sides: dict[str, ModelHandle], corpora: list[Measured]
) -> list[dict[str, Any]]:
    """Latency of the models at hand, on the first collection's queries."""
    config = run.recipe.bench
    queries = [
        q.text for corpus, _, _ in corpora[:1] for q in corpus.collection.judged(config.split)
    ]
    queries = queries[: config.num_latency_queries]
    ways = {
        name: serve_one(sides[name].model, run.recipe.data.max_query_tokens)
        for name in ("teacher", "student")
    }
    at_hand = {name: way for name, way in ways.items() if way is not None}
    return measure_latency(at_hand, queries) if queries and at_hand else []


def embed_systems(
    run: Run,
    teacher: ModelHandle,
    student: ModelHandle,
    baseline: ModelHandle | None,
    corpus: Corpus,
    max_document_tokens: int,
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Query and document vectors of every system on one collection; each encoder embeds each text
    once.
    """
    sides = {"teacher": teacher, "student": student} | (
        {"baseline": baseline} if baseline is not None else {}
    )
    return read_systems(embed_collection(run, sides, corpus, max_document_tokens))
