"""Measure the pair, in-domain and out-of-domain, symmetric and asymmetric, beside a baseline and
BM25; tasks, indexes, contamination.

Each collection, each task and the comparison of indexes is an artifact of its own under
checkpoints/measured: a run that fails later finds them there and goes on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from leafkit.config import BenchConfig, to_plain
from leafkit.core.artifact import fingerprint, read_manifest
from leafkit.core.checkpoint_layout import BENCH, FIGURES_FILE, PER_QUERY_FILE, RESULTS_FILE
from leafkit.core.errors import LeafkitError
from leafkit.core.method import method_of
from leafkit.evaluation.comparison import compare_macro
from leafkit.evaluation.latency import measure_latency, serve_one
from leafkit.evaluation.per_query import PerQuery, read_per_query, write_per_query
from leafkit.index.kinds.registry import check_indexes
from leafkit.pipeline.collect import describe_machine
from leafkit.pipeline.evaluate.agreement import measure_unjudged
from leafkit.pipeline.evaluate.contamination import check_contamination
from leafkit.pipeline.evaluate.corpora import BenchCorpus, choose_corpora
from leafkit.pipeline.evaluate.parts import (
    measure_collection,
    measure_indexes,
    measure_task,
)
from leafkit.pipeline.model_handle import ModelHandle, load_handle, load_student, load_teacher
from leafkit.pipeline.run import Run
from leafkit.results import Contamination, EvaluationResult, LatencyRow, MacroFigures, codec
from leafkit.results.retrieval import MAIN


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
        allow_empty: a recipe without judged queries gets empty figures, as a distillation wants it;
            else it is an error.

    Raises:
        UsageError: an index that is asked for cannot be built of the first collection.
        LeafkitError: a model is missing or lives in another space, or a collection has no judged
            queries.
    """
    config, recipe = run.recipe.bench, run.recipe
    teacher = load_teacher(run)
    student = load_student(run, teacher)
    handles = {"teacher": teacher, "student": student}
    handles |= {"baseline": load_handle(run, config.baseline)} if config.baseline else {}
    corpora = choose_corpora(run)
    agreements = measure_unjudged(run, teacher, student)
    if not corpora and not config.tasks and not agreements and not allow_empty:
        raise LeafkitError(
            f"no judged {config.split} query is left: there is nothing to measure",
            "name collections with bench.collections=[beir:PATH], or another split with "
            "bench.split=NAME",
        )
    if config.indexes.kinds and corpora:
        check_indexes(config.indexes, len(corpora[0].collection.documents), teacher.model.dim)
    collections = [measure_collection(run, handles, corpus) for corpus in corpora]
    tasks = [measure_task(run, handles, uri) for uri in config.tasks]
    has_indexes = config.indexes.kinds and corpora
    indexes = [measure_indexes(run, handles, corpora[0])] if has_indexes else []
    contamination = (
        check_contamination(run, teacher, student, corpora)
        if config.contamination and corpora
        else {}
    )
    inputs = BenchInputs(
        config=to_plain(config),
        teacher=teacher.model.fingerprint,
        student=student.model.fingerprint,
        parts=[
            read_manifest(part).fingerprint()
            for part in (*collections, *tasks, *indexes, *agreements)
        ],
        contamination=fingerprint(codec.to_plain(contamination)),
        seed=recipe.seed,
        tokens=recipe.data.max_query_tokens,
    )
    folder = run.folder / BENCH

    def read_values() -> list[PerQuery]:
        return [one for part in collections for one in read_per_query(part / PER_QUERY_FILE)]

    def work(metrics: dict[str, Any]) -> EvaluationResult:
        measured = (*collections, *tasks, *indexes, *agreements)
        parts = [EvaluationResult.load(part / FIGURES_FILE) for part in measured]
        result = replace(
            join_parts(parts, contamination),
            macro=average_collections(read_values(), config.num_resamples, recipe.seed),
            latency=_time_queries(
                handles, _latency_queries(corpora, config), recipe.data.max_query_tokens
            ),
        )
        metrics[MAIN] = {
            f"{part.name}/{row.system}": codec.to_plain(row.metrics[MAIN])
            for part in result.collections
            for row in part.systems
        }
        metrics["machine"] = codec.to_plain(describe_machine(run))
        return result

    def save(result: EvaluationResult, draft: Path) -> None:
        result.save(draft / RESULTS_FILE)
        write_per_query(draft / PER_QUERY_FILE, read_values())

    run.step(
        name=BENCH,
        folder=folder,
        inputs=inputs,
        method=method_of(join_parts, average_collections, _time_queries),
        work=work,
        save=save,
    )
    return folder


def join_parts(
    parts: Sequence[EvaluationResult], contamination: Mapping[str, Contamination]
) -> EvaluationResult:
    """What was measured part by part, as one; the samples are the first collection's.

    Args:
        parts: of collections, tasks and indexes, in any order.
        contamination: by name of the collection.
    """
    return EvaluationResult(
        collections=tuple(
            replace(one, contamination=contamination.get(one.name))
            for part in parts
            for one in part.collections
        ),
        samples=next((part.samples for part in parts if part.collections), ()),
        tasks=tuple(task for part in parts for task in part.tasks),
        indexes=tuple(row for part in parts for row in part.indexes),
        agreements=tuple(found for part in parts for found in part.agreements),
    )


def average_collections(
    per_query: Sequence[PerQuery], num_resamples: int, seed: int
) -> MacroFigures | None:
    """Means over the collections; None where there are fewer than two."""
    if len(per_query) < 2:
        return None
    values = [one.values for one in per_query]
    return compare_macro(values, num_resamples=num_resamples, seed=seed)


def _latency_queries(corpora: Sequence[BenchCorpus], config: BenchConfig) -> list[str]:
    """The first queries of the first collection."""
    judged = [q for corpus in corpora[:1] for q in corpus.collection.judged(config.split)]
    return [query.text for query in judged[: config.num_latency_queries]]


def _time_queries(
    handles: Mapping[str, ModelHandle], queries: Sequence[str], max_tokens: int
) -> tuple[LatencyRow, ...]:
    """Latency of teacher and student, where they can be loaded here."""
    ways = {name: serve_one(handles[name].model, max_tokens) for name in ("teacher", "student")}
    available = {name: way for name, way in ways.items() if way is not None}
    return measure_latency(available, queries) if queries and available else ()
