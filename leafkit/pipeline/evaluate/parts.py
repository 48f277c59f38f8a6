"""The parts of a benchmark: one collection, one task, one comparison of indexes; each an artifact
that a rerun finds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from leafkit.config import to_plain
from leafkit.core.artifact import fingerprint
from leafkit.core.checkpoint_layout import FIGURES_FILE, MEASURED_FOLDER, PER_QUERY_FILE
from leafkit.core.method import method_of
from leafkit.data.stored.prefix_vectors import StoredVectors
from leafkit.evaluation.ann_indexes import compare_indexes
from leafkit.evaluation.benchmark import Benchmark, run_benchmark
from leafkit.evaluation.comparison import ENCODERS
from leafkit.evaluation.examples import show_samples
from leafkit.evaluation.metrics import Judgments
from leafkit.evaluation.per_query import PerQuery, write_per_query
from leafkit.evaluation.tasks import run_task, task_fingerprint
from leafkit.pipeline.embed import load_query_vectors, load_vectors
from leafkit.pipeline.evaluate.corpora import BenchCorpus
from leafkit.pipeline.model_handle import ModelHandle
from leafkit.pipeline.run import Run, folder_name, plain_inputs
from leafkit.results import EvaluationResult, IndexRow, TaskScore

FORMAT = 2  # of the parts, and of what is measured in them

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T")
Stores = dict[str, tuple[StoredVectors, StoredVectors]]  # of queries and of documents, by encoder


@dataclass(frozen=True, slots=True)
class CollectionInputs:
    """What decides about the figures of a collection, whatever is measured on it."""

    format: int
    corpus: str
    kind: str  # in-domain or out-of-domain
    split: str
    own_documents: str  # policy for a query's own document
    resamples: int
    seed: int
    precision: str
    spaces: dict[str, list[dict[str, Any]]]  # of queries and documents, by model


@dataclass(frozen=True, slots=True)
class SearchInputs:
    """What decides about the systems' figures on one collection."""

    collection: CollectionInputs
    samples: int


@dataclass(frozen=True, slots=True)
class IndexComparisonInputs:
    """What decides about the comparison of indexes on one collection."""

    collection: CollectionInputs
    indexes: dict[str, Any]


@dataclass(frozen=True, slots=True)
class TaskInputs:
    """What decides about the figures of one task without a search."""

    format: int
    task: str  # fingerprint of its rows
    spaces: dict[str, dict[str, Any]]
    precision: str
    seed: int
    resamples: int
    bad_rows: list[Any]  # policy and cap


def embed_collection(
    run: Run, handles: Mapping[str, ModelHandle], measured_on: BenchCorpus
) -> Stores:
    """Stores with the vectors of the judged queries and of all documents, by encoder; every process
    takes part.
    """
    collection, split = measured_on.collection, run.recipe.bench.split
    documents = [d.full_text for d in collection.documents]
    queries = collection.judged(split)
    stores: Stores = {}
    for name, handle in handles.items():
        query_store = load_query_vectors(
            run,
            handle.model,
            handle.name,
            queries,
            max_tokens=run.recipe.data.max_query_tokens,
            what=f"{collection.name} {split} queries",
        )
        document_store = load_vectors(
            run,
            handle.model,
            handle.name,
            documents,
            role="document",
            max_tokens=measured_on.max_document_tokens,
            what=f"{collection.name} documents",
        )
        stores[name] = query_store, document_store
    return stores


def read_systems(stores: Stores) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Query and document vectors of every system; an array that several share is read once."""
    queries = {name: store[:] for name, (store, _) in stores.items()}
    documents = {name: store[:] for name, (_, store) in stores.items()}
    return {
        system: (queries[a], documents[b])
        for system, (a, b) in ENCODERS.items()
        if a in stores and b in stores
    }


def measure_collection(
    run: Run, handles: Mapping[str, ModelHandle], measured_on: BenchCorpus
) -> Path:
    """Every system on one collection: its result and samples in figures.json, the values in
    per_query.parquet.

    Raises:
        LeafkitError: no judged query, or vectors that are not finite or do not fit.
    """
    config, recipe, collection = run.recipe.bench, run.recipe, measured_on.collection
    stores = embed_collection(run, handles, measured_on)
    inputs = SearchInputs(_inputs(run, measured_on, stores), config.num_samples)

    def work(metrics: dict[str, Any]) -> Benchmark:
        return run_benchmark(
            collection,
            config.split,
            read_systems(stores),
            kind=measured_on.kind,
            num_resamples=config.num_resamples,
            seed=recipe.seed,
            own_documents=recipe.data.exclude_self,
        )

    def save(measured: Benchmark, draft: Path) -> None:
        samples = show_samples(
            collection,
            config.split,
            measured.rankings,
            num_samples=config.num_samples,
            seed=recipe.seed,
        )
        result = EvaluationResult(collections=(measured.result,), samples=samples)
        result.save(draft / FIGURES_FILE)
        ids = [q.id for q in collection.judged(config.split)]
        write_per_query(
            draft / PER_QUERY_FILE, [PerQuery(collection.name, ids, measured.per_query)]
        )

    return keep_part(
        run,
        collection.name,
        inputs,
        method=method_of(measure_collection),
        work=work,
        save=save,
    )


def measure_indexes(run: Run, handles: Mapping[str, ModelHandle], measured_on: BenchCorpus) -> Path:
    """Indexes over the teacher's documents, asked both encoders' queries: a row per setting in
    figures.json.

    Raises:
        LeafkitError: see ``compare_indexes``.
    """
    config, seed, collection = run.recipe.bench, run.recipe.seed, measured_on.collection
    stores = embed_collection(
        run, {name: handles[name] for name in ("teacher", "student")}, measured_on
    )
    inputs = IndexComparisonInputs(_inputs(run, measured_on, stores), to_plain(config.indexes))

    def work(metrics: dict[str, Any]) -> tuple[IndexRow, ...]:
        judgments = Judgments(
            [q.id for q in collection.judged(config.split)],
            [d.id for d in collection.documents],
            collection.qrels,
        )
        return compare_indexes(
            stores["teacher"][1],
            {name: store[:] for name, (store, _) in stores.items()},
            judgments,
            config.indexes,
            collection_name=collection.name,
            num_resamples=config.num_resamples,
            seed=seed,
            own=collection.own_documents(config.split, run.recipe.data.exclude_self),
        )

    def save(rows: tuple[IndexRow, ...], draft: Path) -> None:
        EvaluationResult(indexes=rows).save(draft / FIGURES_FILE)

    return keep_part(
        run,
        f"indexes {collection.name}",
        inputs,
        method=method_of(measure_indexes),
        work=work,
        save=save,
    )


def measure_task(run: Run, handles: Mapping[str, ModelHandle], uri: str) -> Path:
    """Every encoder on one task without a search, its score in figures.json. Texts are cut as those
    of out-of-domain collections.

    Raises:
        LeafkitError: see ``run_task``.
    """
    config, recipe = run.recipe.bench, run.recipe
    spaces = {
        name: asdict(handle.model.space("query", config.max_document_tokens))
        for name, handle in handles.items()
    }
    task = run.on_main(lambda: task_fingerprint(uri))
    inputs = TaskInputs(
        format=FORMAT,
        task=task,
        spaces=spaces,
        precision=str(run.precision),
        seed=recipe.seed,
        resamples=config.num_resamples,
        bad_rows=[recipe.data.on_bad_row, recipe.data.max_bad_rows],
    )

    def embed(name: str, texts: Sequence[str], role: str) -> np.ndarray:
        handle = handles[name]
        store = load_vectors(
            run,
            handle.model,
            handle.name,
            texts,
            role=role,
            max_tokens=config.max_document_tokens,
            what=f"{uri} texts",
        )
        return store[:]

    def work(metrics: dict[str, Any]) -> TaskScore:
        return run_task(
            uri,
            list(handles),
            embed,
            num_resamples=config.num_resamples,
            seed=recipe.seed,
            data=recipe.data,
        )

    def save(score: TaskScore, draft: Path) -> None:
        EvaluationResult(tasks=(score,)).save(draft / FIGURES_FILE)

    kind, _, path = uri.partition(":")
    return keep_part(
        run,
        f"{kind} {Path(path).stem}",
        inputs,
        method=method_of(measure_task),
        work=work,
        save=save,
        on_every_process=True,
    )


def _inputs(run: Run, measured_on: BenchCorpus, stores: Stores) -> CollectionInputs:
    config = run.recipe.bench
    spaces = {name: [asdict(store.space) for store in pair] for name, pair in stores.items()}
    return CollectionInputs(
        format=FORMAT,
        corpus=measured_on.corpus.fingerprint,
        kind=measured_on.kind,
        split=config.split,
        own_documents=run.recipe.data.exclude_self,
        resamples=config.num_resamples,
        seed=run.recipe.seed,
        precision=str(run.precision),
        spaces=spaces,
    )


def keep_part(
    run: Run,
    name: str,
    inputs: DataclassInstance,
    *,
    method: str,
    work: Callable[[dict[str, Any]], T],
    save: Callable[[T, Path], None],
    on_every_process: bool = False,
) -> Path:
    """One part of a benchmark as an artifact below checkpoints/measured."""
    identity = fingerprint(plain_inputs(inputs))[:8]
    folder = run.root / MEASURED_FOLDER / f"{folder_name(name)}-{identity}"
    run.step(
        name=f"bench {name}",
        folder=folder,
        inputs=inputs,
        method=method,
        work=work,
        save=save,
        on_every_process=on_every_process,
    )
    return folder
