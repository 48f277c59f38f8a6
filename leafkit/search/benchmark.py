"""The asymmetric benchmark: the same queries answered by several pairs of encoders, with paired intervals.

Symmetric: the student embeds queries and documents. Asymmetric: the student embeds queries, the teacher documents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from leafkit.data.records import Collection
from leafkit.errors import LeafkitError
from leafkit.search.bm25 import search_bm25
from leafkit.search.bootstrap import Bootstrap
from leafkit.search.embed import Embedder
from leafkit.search.index import Ranking, search_flat
from leafkit.search.metrics import METRICS, per_query_metrics
from leafkit.vectors import truncate_then_normalize

DEPTH = 100  # documents retrieved per query: what recall@100 needs
LABELS = {
    "teacher": "teacher queries, teacher documents",
    "symmetric": "student queries, student documents",
    "asymmetric": "student queries, teacher documents",
    "baseline": "baseline queries and documents",
    "bm25": "BM25",
}
DIFFERENCES = (
    ("symmetric", "teacher"), ("asymmetric", "teacher"), ("asymmetric", "symmetric"), ("teacher", "baseline"),
    ("asymmetric", "baseline"), ("teacher", "bm25"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Result:
    """A collection's figures, as plain data for the report, and what they were computed from."""

    figures: dict[str, Any]
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
            f"{collection.name} has no judged {split} query (splits with queries: {', '.join(known) or 'none'})",
            "choose a split with bench.split=NAME, or leave the collection out",
        )


def run_benchmark(
    collection: Collection, split: str, vectors: Mapping[str, tuple[np.ndarray, np.ndarray]], kind: str,
    num_resamples: int, seed: int,
) -> Result:  # fmt: skip
    """Measure every system on the judged queries of a split against all documents.

    Args:
        collection: documents, queries, judgments.
        split: whose queries.
        vectors: per system (query vectors (Q, D), document vectors (N, D)), queries in the order of ``judged(split)``.
        kind: "home" or "away", for the report.
        num_resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        LeafkitError: no judged query.
    """
    check_judged(collection, split)
    queries = collection.judged(split)
    query_ids = [q.id for q in queries]
    document_ids = [d.id for d in collection.documents]
    rankings = {name: search_flat(q, d, DEPTH) for name, (q, d) in vectors.items()}
    rankings["bm25"] = search_bm25([q.text for q in queries], [d.full_text for d in collection.documents], DEPTH)
    per_query = {
        name: per_query_metrics(ranking, query_ids, document_ids, collection.qrels) for name, ranking in rankings.items()
    }
    bootstrap = Bootstrap(len(queries), num_resamples, seed)
    rows = [
        {"system": name, "label": LABELS[name]} | {m: bootstrap.mean(values[m]).to_plain() for m in METRICS}
        for name, values in per_query.items()
    ]
    main = {name: values["ndcg@10"] for name, values in per_query.items()}
    differences = [
        {"label": f"{a} - {b}", "metric": "ndcg@10"} | bootstrap.difference(main[a], main[b]).to_plain()
        for a, b in DIFFERENCES
        if a in main and b in main
    ]
    retention = {
        name: bootstrap.ratio(main[name], main["teacher"]).to_plain()
        for name in ("symmetric", "asymmetric")
        if name in main and "teacher" in main
    }
    figures = {
        "name": collection.name, "kind": kind, "num_documents": len(document_ids), "num_queries": len(query_ids),
        "split": split, "rows": rows, "differences": differences, "retention": retention,
    }  # fmt: skip
    return Result(figures, rankings, per_query)


def score_encoder(
    embedder: Embedder, collection: Collection, split: str, query_tokens: int, document_tokens: int,
    dims: Sequence[int] = (0,), role: str = "query",
) -> dict[int, np.ndarray]:  # fmt: skip
    """nDCG@10 of each judged query of a split, at several Matryoshka dimensions; one model embeds both sides.

    Args:
        embedder: the model.
        collection: documents, queries, judgments.
        split: whose queries.
        query_tokens: queries are cut here.
        document_tokens: documents are cut here.
        dims: dimensions measured; 0 is the full one.
        role: of the queries; decides about the prompt.

    Raises:
        LeafkitError: no judged query.
    """
    check_judged(collection, split)
    judged = collection.judged(split)
    queries = embedder.embed([q.text for q in judged], role, query_tokens)
    documents = embedder.embed([d.full_text for d in collection.documents], "document", document_tokens)
    ids = ([q.id for q in judged], [d.id for d in collection.documents])
    found = {}
    for dim in dims:
        cut = dim or None
        ranking = search_flat(truncate_then_normalize(queries, cut), truncate_then_normalize(documents, cut), DEPTH)
        found[dim] = per_query_metrics(ranking, *ids, collection.qrels, ["ndcg@10"])["ndcg@10"]
    return found


def show_samples(collection: Collection, split: str, result: Result, count: int, seed: int) -> list[dict[str, Any]]:
    """Some queries with the five best documents of the teacher and of the student's queries on its index."""
    queries = collection.judged(split)
    chosen = np.random.default_rng(seed).permutation(len(queries))[:count]
    shown = {"teacher": "teacher", "student": "asymmetric" if "asymmetric" in result.rankings else "symmetric"}
    samples = []
    for row in chosen.tolist():
        relevant = {d for d, grade in collection.qrels[queries[row].id].items() if grade > 0}
        sample: dict[str, Any] = {"query": queries[row].text, "relevant": sorted(relevant)}
        for name, system in shown.items():
            if system in result.rankings:
                sample[name] = _top_five(collection, result.rankings[system], row, relevant)
        samples.append(sample)
    return samples


def _top_five(collection: Collection, ranking: Ranking, row: int, relevant: set[str]) -> list[dict[str, Any]]:
    found = []
    for position, score in zip(ranking.positions[row][:5], ranking.scores[row][:5], strict=True):
        document = collection.documents[int(position)]
        found.append(
            {
                "id": document.id,
                "text": document.text[:200],
                "score": round(float(score), 4),
                "relevant": document.id in relevant,
            }
        )
    return found
