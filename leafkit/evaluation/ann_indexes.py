"""What each faiss index costs and keeps: bytes, build time, queries per second, recall and nDCG,
with intervals.

Teacher queries and student queries search the same teacher documents, each measured against its own
exact search: a student is an approximate encoder, and its queries may need a wider search than the
teacher's for the same recall.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np

from leafkit.config.schema import IndexConfig
from leafkit.core.console import log
from leafkit.core.errors import LeafkitError
from leafkit.core.system import release_memory
from leafkit.evaluation.bootstrap import Bootstrap
from leafkit.evaluation.metrics import Judgments, fast_ndcg
from leafkit.index.build import VectorIndex, build_index, copy_to_gpu
from leafkit.index.exact import search_exact
from leafkit.index.kinds.plan import plan_indexes
from leafkit.index.ranking import Ranking, exclude_self
from leafkit.index.rescoring import score_candidates
from leafkit.index.search import search_index
from leafkit.index.storage import measure_bytes
from leafkit.index.vectors import Vectors, as_floats, read_blocks

K = 10  # of recall@10 and nDCG@10
MIN_REPETITIONS, MAX_REPETITIONS = 3, 20
# searches repeat until they took ENOUGH_S in all, but not beyond TOO_LONG_S
ENOUGH_S, TOO_LONG_S = (
    0.2,
    10.0,
)
_LENGTH_TOLERANCE = 0.01  # float16 storage moves lengths by less than .001


@dataclass(frozen=True, slots=True)
class _Side:
    """One side's queries, (Q, D) float32, and their exact ranking."""

    queries: np.ndarray
    exact: Ranking


def compare_indexes(
    documents: Vectors,
    queries_by_side: Mapping[str, Vectors],
    collection_name: str,
    query_ids: Sequence[str],
    document_ids: Sequence[str],
    qrels: Mapping[str, Mapping[str, int]],
    config: IndexConfig,
    num_resamples: int,
    seed: int,
    own: Sequence[int] | None = None,
) -> list[dict[str, Any]]:
    """Build every kind of index, ask it every side's queries at every setting, and measure.

    Documents may be an array, a memory map or a vector store: one index at a time and blocks of
    documents are in memory.

    Args:
        documents: (N, D) vectors of length one.
        queries_by_side: for "teacher" and "student" say, (Q, D) query vectors, of any length.
        collection_name: for the rows.
        query_ids: (Q,).
        document_ids: (N,).
        qrels: judgments of every query.
        config: kinds and sweeps.
        num_resamples: of the bootstrap.
        seed: of the bootstrap and of training.
        own: (Q,) position of the document that a query may not retrieve for nDCG, -1 for none; see
            ``Collection.own_documents``. Recall is about vectors and keeps it.

    Returns:
        A row per kind, setting, device and side:
        ``bytes_per_vector`` of the serialised index, all of it (codes, ids, links, centroids,
        rotations), over N; ``rescore_bytes_per_vector`` of the documents' vectors that
        binary_rescored reads beside its index, else 0; ``build_s`` and ``build_threads``;
        ``queries_per_s``, all queries in one call, the median of ``repetitions`` on ``threads``,
        the packing of bits and the reading of candidates included; ``recall@10`` of the side's own
        exact search, where a document as near as the tenth counts as found, and ``ndcg@10``, both
        with intervals; ``is_cheapest_at_target`` for the first setting of a sweep whose mean recall
        reaches ``config.target_recall``.

    Raises:
        UsageError: some kind cannot be built of these documents.
        LeafkitError: a vector is not finite, a document's has not length one, or there are no
            documents or queries.
        ValueError: numbers of vectors and ids, or dimensions, differ.
    """
    if not config.kinds:
        return []
    if not len(documents) or not query_ids or not queries_by_side:
        found = f"{len(documents)} documents and {len(query_ids)} queries"
        raise LeafkitError(f"{collection_name} has {found}: there is nothing to compare indexes on")
    queries = {
        side: as_floats(vectors, slice(None), f"{side} query")
        for side, vectors in queries_by_side.items()
    }
    _check_sizes(documents, queries, query_ids, document_ids, own)
    plans = plan_indexes(config, len(documents), documents[0:1].shape[1])
    _check_lengths(documents, collection_name)
    own_at = np.full(len(query_ids), -1) if own is None else np.asarray(own, dtype=np.int64)
    depth = min(len(documents), K + bool((own_at >= 0).any()))
    sides = _search_exactly(queries, documents, depth)
    judgments = Judgments(query_ids, document_ids, qrels)
    rows: list[dict[str, Any]] = []
    for plan in plans:
        built = build_index(documents, plan, seed)
        about = {
            "collection": collection_name,
            "bytes_per_vector": measure_bytes(built) / built.num_documents,
        }
        log(
            f"  {plan.kind} ({plan.factory}): {about['bytes_per_vector']:,.1f} bytes per vector, "
            f"built in {built.build_s:.1f} s"
        )
        rows += [about | row for row in _measure(built, sides, depth, documents, judgments, own_at)]
        on_gpu = copy_to_gpu(built) if faiss.get_num_gpus() else None
        if on_gpu is not None:
            rows += [
                about | row for row in _measure(on_gpu, sides, depth, documents, judgments, own_at)
            ]
        del built, on_gpu
        release_memory()
    _replace_by_intervals(rows, Bootstrap(len(query_ids), num_resamples, seed))
    _mark_cheapest(rows, config.target_recall)
    return rows


def _check_sizes(
    documents: Vectors,
    queries: Mapping[str, np.ndarray],
    query_ids: Sequence[str],
    document_ids: Sequence[str],
    own: Sequence[int] | None,
) -> None:
    dim = documents[0:1].shape[1]
    if len(document_ids) != len(documents):
        raise ValueError(f"{len(documents)} documents have {len(document_ids)} ids")
    if own is not None and len(own) != len(query_ids):
        raise ValueError(f"{len(query_ids)} queries have {len(own)} own documents")
    for side, vectors in queries.items():
        if vectors.shape != (len(query_ids), dim):
            raise ValueError(
                f"{side} queries have the shape {vectors.shape} where {(len(query_ids), dim)} is "
                f"needed"
            )


def _check_lengths(documents: Vectors, collection_name: str) -> None:
    for start, block in read_blocks(documents):
        lengths = np.sqrt(np.einsum("nd,nd->n", block, block))
        wrong = np.flatnonzero(np.abs(lengths - 1) > _LENGTH_TOLERANCE)
        if len(wrong):
            raise LeafkitError(
                f"{collection_name}: the vector of document {start + int(wrong[0])} has length "
                f"{lengths[wrong[0]]:.4g};"
                " indexes are compared on vectors of length one",
                "leave bench.indexes.kinds empty for a model that does not normalise",
            )


def _search_exactly(
    queries: Mapping[str, np.ndarray], documents: Vectors, depth: int
) -> dict[str, _Side]:
    """Every side's exact ranking, in one pass over the documents."""
    found = search_exact(np.concatenate(list(queries.values())), documents, depth)
    sides, start = {}, 0
    for side, vectors in queries.items():
        rows = slice(start, start + len(vectors))
        sides[side] = _Side(vectors, Ranking(found.positions[rows], found.scores[rows]))
        start += len(vectors)
    return sides


def measure_recall(
    ranking: Ranking, exact: Ranking, queries: np.ndarray, documents: Vectors, k: int = K
) -> np.ndarray:
    """Share of the exact top k found, per query; a document that scores as the k-th does is as good
    as it.

    Scores count as equal when they differ by less than a float32 sum of D products may be off,
    sqrt(D) eps |q|.

    Args:
        ranking: what an index found, at least k wide or as wide as there are documents.
        exact: of exact search.
        queries: (Q, D) float32.
        documents: (N, D) of length one.
        k: N where that is less.

    Returns:
        (Q,) float64.
    """
    k = min(k, exact.positions.shape[1])
    tolerance = (
        np.sqrt(queries.shape[1]) * np.finfo(np.float32).eps * np.linalg.norm(queries, axis=1)
    )
    scores = score_candidates(queries, documents, ranking.positions[:, :k])
    return (scores >= (exact.scores[:, k - 1] - tolerance)[:, None]).mean(axis=1)


def _measure(
    built: VectorIndex,
    sides: Mapping[str, _Side],
    depth: int,
    documents: Vectors,
    judgments: Judgments,
    own: np.ndarray,
) -> list[dict[str, Any]]:
    """A row per setting and side, with recall and nDCG of each query, (Q,)."""
    dtype = np.dtype(getattr(documents, "dtype", np.float32))
    rescore_bytes = dtype.itemsize * built.dim if built.plan.kind == "binary_rescored" else 0
    rows = []
    for setting in built.plan.settings:
        for name, side in sides.items():
            ranking, seconds = _time_search(built, side.queries, depth, setting, documents)
            rows.append(
                {
                    "kind": built.plan.kind,
                    "setting": built.plan.label(setting),
                    "queries": name,
                    "device": built.device,
                    "faiss": built.plan.factory,
                    "rescore_bytes_per_vector": rescore_bytes,
                    "build_s": built.build_s,
                    "build_threads": built.build_threads,
                    "queries_per_s": len(side.queries) / statistics.median(seconds),
                    "repetitions": len(seconds),
                    "threads": faiss.omp_get_max_threads(),
                    "recall@10": measure_recall(ranking, side.exact, side.queries, documents),
                    "ndcg@10": fast_ndcg(exclude_self(ranking, own, K), judgments),
                }
            )
    return rows


def _replace_by_intervals(rows: list[dict[str, Any]], bootstrap: Bootstrap) -> None:
    """The values per query become means with intervals, all of them over the same resamples."""
    draws = bootstrap.draws(
        {
            (i, metric): row[metric]
            for i, row in enumerate(rows)
            for metric in ("recall@10", "ndcg@10")
        }
    )
    for i, metric in draws.estimates:
        rows[i][metric] = draws.mean((i, metric)).to_plain()


def _time_search(
    built: VectorIndex, queries: np.ndarray, depth: int, setting: int, documents: Vectors
) -> tuple[Ranking, list[float]]:
    """The ranking, and the seconds of each repetition."""
    seconds: list[float] = []
    while len(seconds) < MIN_REPETITIONS or (
        sum(seconds) < ENOUGH_S and len(seconds) < MAX_REPETITIONS
    ):
        started_s = time.perf_counter()
        ranking = search_index(built, queries, depth, setting, documents=documents)
        seconds.append(time.perf_counter() - started_s)
        if sum(seconds) > TOO_LONG_S:
            break
    return ranking, seconds


def _mark_cheapest(rows: list[dict[str, Any]], target_recall: float) -> None:
    """Sweeps come cheapest first, so the first setting that reaches the target is the cheapest; no
    timing decides.
    """
    reached = set()
    for row in rows:
        group = (row["kind"], row["device"], row["queries"])
        row["is_cheapest_at_target"] = (
            group not in reached and row["recall@10"]["mean"] >= target_recall
        )
        if row["is_cheapest_at_target"]:
            reached.add(group)
