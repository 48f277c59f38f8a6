"""Measure the pair: home and away, symmetric and asymmetric, beside a baseline and BM25."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from leafkit.config import to_plain
from leafkit.progress import say
from leafkit.search.benchmark import check_judged, run_benchmark, show_samples
from leafkit.search.latency import measure_latency
from leafkit.stages.corpus import Corpus, load_corpus
from leafkit.stages.run import Run
from leafkit.stages.teacher import Side, load_side, load_student, load_teacher
from leafkit.stages.vectors import load_vectors

BENCH = "bench"
RESULTS_FILE = "results.json"
PER_QUERY_FILE = "per_query.npz"


def run_bench(run: Run) -> Path:
    """Every system on every collection; figures in results.json, per-query values in per_query.npz.

    Raises:
        LeafkitError: a model is missing or lives in another space, or no collection has judged queries.
    """
    config, recipe = run.recipe.bench, run.recipe
    teacher = load_teacher(run)
    student = load_student(run, teacher)
    baseline = load_side(run, config.baseline) if config.baseline else None
    home = load_corpus(run, recipe.data.home)
    others = [load_corpus(run, uri) for uri in config.collections]
    for corpus in others:
        check_judged(corpus.collection, config.split)
    corpora = [(home, "home", recipe.data.max_document_tokens), *((c, "away", config.max_document_tokens) for c in others)]
    if not home.collection.judged(config.split):
        say(f"  {home.collection.name} has no judged {config.split} query: it is left out of the benchmark")
        corpora = corpora[1:]
    folder = run.folder / BENCH
    inputs = {
        "config": to_plain(config), "teacher": teacher.model.fingerprint, "student": student.model.fingerprint,
        "corpora": [c.fingerprint for c, _, _ in corpora], "seed": recipe.seed, "precision": str(run.precision),
        "tokens": [recipe.data.max_query_tokens, recipe.data.max_document_tokens],
    }  # fmt: skip
    systems = {
        (corpus.fingerprint, cut): embed_systems(run, teacher, student, baseline, corpus, cut) for corpus, _, cut in corpora
    }

    def work(metrics: dict[str, Any]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        figures: dict[str, Any] = {"collections": [], "samples": []}
        per_query: dict[str, np.ndarray] = {}
        for corpus, kind, cut in corpora:
            vectors = systems[corpus.fingerprint, cut]
            result = run_benchmark(corpus.collection, config.split, vectors, kind, config.num_resamples, recipe.seed)
            figures["collections"].append(result.figures)
            for system, values in result.per_query.items():
                per_query |= {f"{corpus.collection.name}/{system}/{metric}": v for metric, v in values.items()}
            if not figures["samples"]:
                figures["samples"] = show_samples(corpus.collection, config.split, result, config.num_samples, recipe.seed)
        queries = [q.text for c, _, _ in corpora[:1] for q in c.collection.judged(config.split)][: config.num_latency_queries]
        encoders = {name: s.encoder for name, s in (("teacher", teacher), ("student", student)) if s.encoder is not None}
        figures["latency"] = measure_latency(encoders, queries, recipe.data.max_query_tokens) if queries else []
        metrics["ndcg@10"] = {
            f"{c['name']}/{row['system']}": row["ndcg@10"] for c in figures["collections"] for row in c["rows"]
        }
        return figures, per_query

    def save(result: tuple[dict[str, Any], dict[str, np.ndarray]], draft: Path) -> None:
        (draft / RESULTS_FILE).write_text(json.dumps(result[0], indent=1, ensure_ascii=False))
        np.savez_compressed(draft / PER_QUERY_FILE, **result[1])  # type: ignore[arg-type]

    run.stage(BENCH, folder, inputs, work, save)
    return folder


def embed_systems(
    run: Run, teacher: Side, student: Side, baseline: Side | None, corpus: Corpus, max_document_tokens: int
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Query and document vectors of every system on one collection; each encoder embeds each text once."""
    collection = corpus.collection
    documents = [d.full_text for d in collection.documents]
    queries = [q.text for q in collection.judged(run.recipe.bench.split)]
    sides = {"teacher": teacher, "student": student} | ({"baseline": baseline} if baseline is not None else {})
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for system, side in sides.items():
        query_store = load_vectors(
            run, side.model, side.name, queries, "query", run.recipe.data.max_query_tokens,
            f"{collection.name} {run.recipe.bench.split} queries",
        )  # fmt: skip
        document_store = load_vectors(
            run, side.model, side.name, documents, "document", max_document_tokens, f"{collection.name} documents"
        )
        found[system] = (query_store[:], document_store[:])
    systems = {
        "teacher": found["teacher"],
        "symmetric": found["student"],
        "asymmetric": (found["student"][0], found["teacher"][1]),
    }
    return systems | ({"baseline": found["baseline"]} if baseline is not None else {})
