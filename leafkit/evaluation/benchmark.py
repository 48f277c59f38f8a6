"""The asymmetric benchmark: the same queries answered by several pairs of encoders, with paired
intervals.

Shapes: Q queries, N documents, D dimension.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from leafkit.core.errors import LeafkitError
from leafkit.data.records import Collection
from leafkit.evaluation.bm25 import search_bm25
from leafkit.evaluation.comparison import compare_systems
from leafkit.evaluation.examples import list_lost, list_queries
from leafkit.evaluation.metrics import per_query_metrics
from leafkit.evaluation.vector_checks import check_vectors
from leafkit.index.exact import search_exact
from leafkit.index.ranking import Ranking, break_ties, exclude_self, tie_order
from leafkit.results import CollectionResult
from leafkit.results.retrieval import MAIN

DEPTH = 100  # documents retrieved per query: what recall@100 needs
_MAX_BM25_ENTRIES = 2**24  # of a deep BM25 ranking, 200 MB


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One collection's figures and what they were computed from.

    Attributes:
        result: the figures.
        rankings: by system.
        per_query: by system and metric, (Q,).
    """

    result: CollectionResult
    rankings: dict[str, Ranking]
    per_query: dict[str, dict[str, np.ndarray]]


def check_judged(collection: Collection, split: str) -> None:
    """Raise where a collection has no judged query.

    Raises:
        LeafkitError: there is nothing to measure on.
    """
    if not collection.judged(split):
        known = sorted({q.split for q in collection.queries})
        raise LeafkitError(
            f"{collection.name} has no judged {split} query (splits with queries: "
            f"{', '.join(known) or 'none'})",
            "choose a split with bench.split=NAME, or leave the collection out",
        )


def run_benchmark(
    collection: Collection,
    split: str,
    vectors: Mapping[str, tuple[np.ndarray, np.ndarray]],
    *,
    kind: str,
    num_resamples: int,
    seed: int,
    own_documents: str = "auto",
    bm25: bool = True,
) -> Benchmark:
    """Measure every system on the judged queries of a split against all documents.

    Args:
        collection: documents, queries, judgments.
        split: whose queries.
        vectors: per system (query vectors (Q, D), document vectors (N, D)), queries in the order of
            ``judged(split)``.
        kind: "in-domain" or "out-of-domain", for the report.
        num_resamples: of the bootstrap, and permutations of the randomisation test.
        seed: of both.
        own_documents: which documents with a query's id it may not retrieve, see
            ``Collection.own_documents``.
        bm25: measure BM25 beside the systems.

    Raises:
        LeafkitError: no judged query, or vectors that are not finite or do not fit.
    """
    check_judged(collection, split)
    queries = collection.judged(split)
    query_ids = [q.id for q in queries]
    document_ids = [d.id for d in collection.documents]
    check_vectors(collection.name, vectors, query_ids, document_ids)
    own = np.array(collection.own_documents(split, own_documents))
    num_own = int((own >= 0).sum())
    # a document that is left out must not cost one that counts
    depth, ties = DEPTH + bool(num_own), tie_order(document_ids)
    rankings = {name: search_exact(q, d, depth, ties) for name, (q, d) in vectors.items()}
    texts = [d.full_text for d in collection.documents]
    if bm25:
        rankings["bm25"] = rank_bm25([q.text for q in queries], texts, depth, ties)
    rankings = {name: exclude_self(ranking, own, DEPTH) for name, ranking in rankings.items()}
    per_query = {
        name: per_query_metrics(ranking, query_ids, document_ids, collection.qrels)
        for name, ranking in rankings.items()
    }
    main = {name: values[MAIN] for name, values in per_query.items()}
    compared = compare_systems(per_query, num_resamples=num_resamples, seed=seed)
    result = CollectionResult(
        name=collection.name,
        kind=kind,
        num_documents=len(document_ids),
        num_queries=len(query_ids),
        split=split,
        own_documents_dropped=num_own,
        systems=compared.systems,
        differences=compared.differences,
        retention=compared.retention,
        per_query=list_queries(queries, main, seed),
        lost=list_lost(collection, split, rankings, main),
    )
    return Benchmark(result, rankings, per_query)


def rank_bm25(
    queries: Sequence[str], documents: Sequence[str], k: int, ties: np.ndarray
) -> Ranking:
    """The k best documents by BM25, equals in the order of ``ties``; documents without a word of
    the query are not found.

    Args:
        queries: Q texts.
        documents: N texts.
        k: results per query.
        ties: (N,) place of each document among equals, see ``tie_order``.
    """
    depth = min(2 * k, len(documents))
    ranking = _hide_unmatched(search_bm25(queries, documents, depth))
    best = break_ties(ranking, ties, k)
    while depth < len(documents):
        is_cut = (ranking.positions[:, -1] >= 0) & (ranking.scores[:, -1] == best.scores[:, -1])
        if not len(rows := np.flatnonzero(is_cut)):
            break
        depth = min(8 * depth, len(documents))
        deeper = Ranking(
            np.full((len(queries), 1), -1), np.zeros((len(queries), 1), dtype=np.float32)
        )
        per_search = max(1, _MAX_BM25_ENTRIES // depth)
        for part in (rows[start : start + per_search] for start in range(0, len(rows), per_search)):
            more = _hide_unmatched(
                search_bm25([queries[row] for row in part.tolist()], documents, depth)
            )
            again = break_ties(more, ties, k)
            best.positions[part], best.scores[part] = again.positions, again.scores
            deeper.positions[part, 0], deeper.scores[part, 0] = (
                more.positions[:, -1],
                more.scores[:, -1],
            )
        ranking = deeper
    return best


def _hide_unmatched(ranking: Ranking) -> Ranking:
    return Ranking(np.where(ranking.scores > 0, ranking.positions, -1), ranking.scores)
