"""Measuring a pair that is in memory: retrieval on judged collections, and the inheritance grid."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from leafkit.config import DataConfig, InheritConfig, Recipe
from leafkit.core.console import progress_bar
from leafkit.core.errors import UsageError
from leafkit.data.records import Collection, Query
from leafkit.data.sources import read_collection
from leafkit.embedders.count_cut import say_cut
from leafkit.embedders.distinct import check_distinct
from leafkit.embedders.make_embedder import make_embedder
from leafkit.embedders.prompted import prompted_queries
from leafkit.embedders.protocol import Embedder
from leafkit.evaluation.benchmark import Benchmark, check_judged, run_benchmark
from leafkit.evaluation.comparison import compare_macro
from leafkit.evaluation.inheritance.grid import run_grid
from leafkit.evaluation.metrics import Judgments
from leafkit.pipeline.check_settings import check_settings
from leafkit.pipeline.pair import Pair
from leafkit.pipeline.space_guard import check_cosine
from leafkit.results import EvaluationResult, InheritanceGrid
from leafkit.results.retention import retention_of
from leafkit.results.retrieval import IN_DOMAIN, OUT_OF_DOMAIN

Judged = str | Collection
Systems = dict[str, tuple[np.ndarray, np.ndarray]]


def evaluate(
    pair: Pair,
    collections: Judged | Sequence[Judged] | None = None,
    *,
    split: str = "test",
    bm25: bool = True,
    num_resamples: int = 10_000,
    seed: int = 42,
    max_document_tokens: int | None = None,
    exclude_self: str = "auto",
) -> EvaluationResult:
    """nDCG@10 and the other metrics of teacher, student and both together, with 95% intervals of a
    paired bootstrap, and what the student retains of the teacher.

    The pair remembers its retention, ``repr(pair)`` shows it.

    Args:
        pair: of teacher and student; the teacher must be available, for it embeds the queries too.
        collections: "beir:FOLDER" or another source, a ``Collection`` with qrels, or several of
            them; None takes the judged queries that the pair came with.
        split: whose judged queries.
        bm25: measure BM25 beside them.
        num_resamples: of the bootstrap, and permutations of the randomisation test.
        seed: of both.
        max_document_tokens: documents of other collections than the pair's own are cut here; None
            cuts them where the pair's were.
        exclude_self: which documents with a query's id are left out of its ranking, see
            ``Collection.own_documents``.

    Returns:
        The figures of each collection and, of several, their mean.

    Raises:
        UsageError: two collections have one name, or a value is out of range.
        LeafkitError: a collection has no judged query or cannot be read, or the teacher is not at
            hand.

    >>> import leafkit
    >>> pair = leafkit.distill(
    ...     "builtin:minilm",
    ...     texts=["Invert a sparse matrix.", "Bake bread from rye."],
    ...     config=leafkit.StudentConfig(kind="instant"),
    ...     num_pseudo_texts=400,
    ... )
    >>> judged = leafkit.Collection(
    ...     "kitchen", list(pair.documents), [leafkit.Query("q", "bread")], {"q": {"1": 1}}
    ... )
    >>> result = leafkit.evaluate(pair, judged, num_resamples=100)
    >>> result.collection("kitchen").retention["asymmetric"].percent()
    '100.0% [100.0, 100.0]'
    """
    if type(num_resamples) is not int or num_resamples < 1:
        raise UsageError(
            f"num_resamples={num_resamples!r} is not a positive whole number", "10_000"
        )
    read = _read(pair, collections)
    benchmarks = [
        _measure(
            pair,
            collection,
            split,
            bm25=bm25,
            num_resamples=num_resamples,
            seed=seed,
            max_document_tokens=max_document_tokens,
            exclude_self=exclude_self,
        )
        for collection in read
    ]
    per_query = [benchmark.per_query for benchmark in benchmarks]
    macro = (
        compare_macro(per_query, num_resamples=num_resamples, seed=seed)
        if len(benchmarks) > 1
        else None
    )
    result = EvaluationResult(tuple(benchmark.result for benchmark in benchmarks), macro)
    pair.retention = retention_of(result)
    return result


def _read(pair: Pair, collections: Judged | Sequence[Judged] | None) -> list[Collection]:
    """The collections, in order; of sources with their default settings."""
    if collections is None:
        return [pair.collection]
    several = [collections] if isinstance(collections, str | Collection) else list(collections)
    if not several:
        raise UsageError("there is no collection to measure on", "name one: 'beir:FOLDER'")
    read = [
        one if isinstance(one, Collection) else read_collection(one, DataConfig())
        for one in several
    ]
    twice = [name for name, count in Counter(c.name for c in read).items() if count > 1]
    if twice:
        raise UsageError(
            f"two collections are called {twice[0]!r}, and their figures could not be told apart",
            "rename one's file or folder, or leave it out",
        )
    return read


def _measure(
    pair: Pair,
    collection: Collection,
    split: str,
    *,
    bm25: bool,
    num_resamples: int,
    seed: int,
    max_document_tokens: int | None,
    exclude_self: str,
) -> Benchmark:
    check_judged(collection, split)
    return run_benchmark(
        collection,
        split,
        embed_systems(pair, collection, split, max_document_tokens),
        kind=IN_DOMAIN if _is_own(pair, collection) else OUT_OF_DOMAIN,
        num_resamples=num_resamples,
        seed=seed,
        own_documents=exclude_self,
        bm25=bm25,
    )


def embed_systems(
    pair: Pair, collection: Collection, split: str, max_document_tokens: int | None = None
) -> Systems:
    """Query and document vectors of teacher, symmetric and asymmetric, on one collection.

    Args:
        pair: whose vectors; those of its own documents are not computed again.
        collection: with judged queries.
        split: whose queries.
        max_document_tokens: documents are cut here; None cuts where the pair's were.
    """
    teacher, student = pair.teacher, make_embedder(pair.student)
    queries = collection.judged(split)
    documents = [document.full_text for document in collection.documents]
    is_own = _is_own(pair, collection)
    limit = pair.space.max_tokens if is_own or max_document_tokens is None else max_document_tokens
    of_teacher = (
        pair.document_matrix()
        if is_own
        else _embed(
            teacher,
            documents,
            "document",
            max_tokens=limit,
            what=f"{collection.name} documents, teacher",
        )
    )
    of_student = _embed(
        student,
        documents,
        "document",
        max_tokens=limit,
        what=f"{collection.name} documents, student",
    )
    # a graph of the student knows no template: the model itself says what the prompts are
    asked_teacher, asked_student = (
        _ask(model, told, queries, f"{collection.name} queries, {name}")
        for name, model, told in (
            ("teacher", teacher, teacher),
            ("student", pair.embedder, student),
        )
    )
    return {
        "teacher": (asked_teacher, of_teacher),
        "symmetric": (asked_student, of_student),
        "asymmetric": (asked_student, of_teacher),
    }


def _is_own(pair: Pair, collection: Collection) -> bool:
    return collection.documents is pair.documents or collection.documents == list(pair.documents)


def _ask(model: Embedder, told: Embedder, queries: Sequence[Query], what: str) -> np.ndarray:
    texts, role = prompted_queries(told, queries, what)
    return _embed(model, texts, role, max_tokens=0, what=what)


def _embed(
    model: Embedder, texts: Sequence[str], role: str, *, max_tokens: int, what: str
) -> np.ndarray:
    """(n, D) vectors; ``max_tokens`` 0 cuts at the model's own limit."""
    model.require(texts, role)
    with progress_bar(f"vectors of {what}", len(texts), "texts") as bar:
        vectors = model.embed(texts, role, max_tokens or model.max_tokens, bar)
    check_distinct(texts, vectors, f"vectors of {what}")
    say_cut(model, texts, role, max_tokens, model="the model", what=what)
    return vectors


def measure_inheritance(
    pair: Pair,
    collection: Judged | None = None,
    config: InheritConfig | None = None,
    *,
    split: str = "test",
    num_resamples: int = 10_000,
    seed: int = 42,
    max_document_tokens: int | None = None,
    exclude_self: str = "auto",
) -> InheritanceGrid:
    """What truncation and quantization cost the student, against what they cost the teacher.

    Args:
        pair: of teacher and student.
        collection: judged; None takes the judged queries that the pair came with.
        config: dimensions, precisions and gates; None takes the defaults at the Matryoshka
            dimensions of the teacher.
        split: whose judged queries.
        num_resamples: of the bootstrap.
        seed: of the bootstrap.
        max_document_tokens: as of ``evaluate``.
        exclude_self: as of ``evaluate``.

    Raises:
        UsageError: a setting has a value that no recipe may have.
        LeafkitError: there is no judged query, or the teacher is not available.
    """
    config = config or InheritConfig()
    check_settings(Recipe(inherit=config), "inherit")
    check_cosine(pair.reference or "the teacher", pair.space, "the inheritance grid")
    (judged,) = _read(pair, collection)
    check_judged(judged, split)
    queries = [query.id for query in judged.judged(split)]
    documents = [document.id for document in judged.documents]
    return run_grid(
        embed_systems(pair, judged, split, max_document_tokens),
        Judgments(queries, documents, judged.qrels),
        config,
        num_resamples=num_resamples,
        seed=seed,
        collection_name=judged.name,
        own=judged.own_documents(split, exclude_self),
        known_dims=pair.mrl_dims,
    ).result
