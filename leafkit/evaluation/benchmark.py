"""The asymmetric benchmark: the same queries answered by several pairs of encoders, with paired
intervals.

Symmetric: the student embeds queries and documents. Asymmetric: the student embeds queries, the
    teacher documents.
Reversed: the teacher embeds queries, the student documents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from leafkit.core.errors import LeafkitError
from leafkit.core.truncate import truncate_then_normalize
from leafkit.data.records import Collection
from leafkit.embedders.protocol import Embedder
from leafkit.evaluation.bm25 import search_bm25
from leafkit.evaluation.bootstrap import Bootstrap, Draws
from leafkit.evaluation.examples import list_lost, list_queries
from leafkit.evaluation.metrics import METRICS, Judgments, fast_ndcg, per_query_metrics
from leafkit.evaluation.significance import MacroBootstrap, macro_differences, randomisation_test
from leafkit.index.exact import search_exact
from leafkit.index.ranking import Ranking, break_ties, exclude_self, tie_order

DEPTH = 100  # documents retrieved per query: what recall@100 needs
MAIN = "ndcg@10"  # what systems are compared by
LABELS = {
    "teacher": "teacher queries, teacher documents",
    "symmetric": "student queries, student documents",
    "asymmetric": "student queries, teacher documents",
    "reversed": "teacher queries, student documents",
    "baseline": "baseline queries and documents",
    "bm25": "BM25",
}
# whose queries and whose documents
SIDES = {
    "teacher": ("teacher", "teacher"),
    "symmetric": ("student", "student"),
    "asymmetric": ("student", "teacher"),
    "reversed": ("teacher", "student"),
    "baseline": ("baseline", "baseline"),
}
DIFFERENCES = (
    ("symmetric", "teacher"),
    ("asymmetric", "teacher"),
    ("reversed", "teacher"),
    ("asymmetric", "symmetric"),
    ("teacher", "baseline"),
    ("asymmetric", "baseline"),
    ("teacher", "bm25"),
)
RETAINED = ("symmetric", "asymmetric", "reversed")
_CHECKED_ROWS = 2**14  # vectors looked at for what is not finite at a time
_MAX_BM25_ENTRIES = 2**24  # of a deep BM25 ranking, 200 MB

Values = Mapping[str, Mapping[str, np.ndarray]]  # by system and metric, (Q,)


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
            f"{collection.name} has no judged {split} query (splits with queries: "
            f"{', '.join(known) or 'none'})",
            "choose a split with bench.split=NAME, or leave the collection out",
        )


def run_benchmark(
    collection: Collection,
    split: str,
    vectors: Mapping[str, tuple[np.ndarray, np.ndarray]],
    kind: str,
    num_resamples: int,
    seed: int,
    own_documents: str = "auto",
) -> Result:
    """Measure every system on the judged queries of a split against all documents.

    Args:
        collection: documents, queries, judgments.
        split: whose queries.
        vectors: per system (query vectors (Q, D), document vectors (N, D)), queries in the order of
            ``judged(split)``.
        kind: "home" or "away", for the report.
        num_resamples: of the bootstrap, and permutations of the randomisation test.
        seed: of both.
        own_documents: which documents with a query's id it may not retrieve, see
            ``Collection.own_documents``.

    Raises:
        LeafkitError: no judged query, or vectors that are not finite or do not fit.
    """
    check_judged(collection, split)
    queries = collection.judged(split)
    query_ids = [q.id for q in queries]
    document_ids = [d.id for d in collection.documents]
    check_vectors(collection.name, vectors, query_ids, document_ids)
    own = np.array(collection.own_documents(split, own_documents))
    dropped = int((own >= 0).sum())
    depth, ties = DEPTH + bool(dropped), tie_order(document_ids)
    rankings = {name: search_exact(q, d, depth, ties) for name, (q, d) in vectors.items()}
    texts = [d.full_text for d in collection.documents]
    rankings["bm25"] = rank_bm25([q.text for q in queries], texts, depth, ties)
    rankings = {name: exclude_self(ranking, own, DEPTH) for name, ranking in rankings.items()}
    per_query = {
        name: per_query_metrics(ranking, query_ids, document_ids, collection.qrels)
        for name, ranking in rankings.items()
    }
    main = {name: values[MAIN] for name, values in per_query.items()}
    draws = Bootstrap(len(queries), num_resamples, seed).draws(_flat(per_query))
    figures = {
        "name": collection.name,
        "kind": kind,
        "num_documents": len(document_ids),
        "num_queries": len(query_ids),
        "split": split,
        "own_documents_dropped": dropped,
        **_compare(draws, list(per_query), _differences(main), num_resamples, seed),
        "per_query": list_queries(queries, main, seed),
        "lost": list_lost(collection, split, rankings, main),
    }
    return Result(figures, rankings, per_query)


def macro_figures(per_query: Sequence[Values], num_resamples: int, seed: int) -> dict[str, Any]:
    """Averages over collections that count alike, with hierarchical intervals, of the systems that
    all of them have.

    Intervals draw collections, then queries (``MacroBootstrap``); p flips the signs of the queries'
    differences (``macro_differences``), so that it speaks of these collections, and the interval of
    others like them. Retention is the ratio of two macro averages.

    Args:
        per_query: of each collection.
        num_resamples: of the bootstrap, and permutations of the randomisation test.
        seed: of both.
    """
    systems = [name for name in per_query[0] if all(name in values for values in per_query)]
    common = [{name: values[name] for name in systems} for values in per_query]
    sizes = [len(values[systems[0]][MAIN]) for values in common]
    draws = MacroBootstrap(sizes, num_resamples, seed).draws([_flat(values) for values in common])
    differences = [
        _differences({name: values[name][MAIN] for name in systems}) for values in common
    ]
    joined = dict(
        zip(
            differences[0],
            macro_differences([np.stack(list(d.values()), axis=1) for d in differences]).T,
            strict=True,
        )
        if differences[0]
        else ()
    )
    return {"num_collections": len(per_query)} | _compare(
        draws, systems, joined, num_resamples, seed
    )


def _flat(per_query: Values) -> dict[tuple[str, str], np.ndarray]:
    return {(name, metric): v for name, values in per_query.items() for metric, v in values.items()}


def _differences(main: Mapping[str, np.ndarray]) -> dict[tuple[str, str], np.ndarray]:
    """(Q,) by pair of systems."""
    return {(a, b): main[a] - main[b] for a, b in DIFFERENCES if a in main and b in main}


def _compare(
    draws: Draws[tuple[str, str]],
    systems: Sequence[str],
    differences: Mapping[tuple[str, str], np.ndarray],
    num_permutations: int,
    seed: int,
) -> dict[str, Any]:
    """Rows, differences with interval and p, and retention, as plain data."""
    p_values = np.empty(0)
    if differences:
        p_values = randomisation_test(
            np.stack(list(differences.values()), axis=1), num_permutations, seed
        )
    return {
        "rows": [
            {"system": name, "label": LABELS[name]}
            | {m: draws.mean((name, m)).to_plain() for m in METRICS}
            for name in systems
        ],
        "differences": [
            {"label": f"{a} - {b}", "metric": MAIN}
            | draws.difference((a, MAIN), (b, MAIN)).to_plain()
            | {"p": p}
            for (a, b), p in zip(differences, p_values.tolist(), strict=True)
        ],
        "retention": {
            name: draws.ratio((name, MAIN), ("teacher", MAIN)).to_plain()
            for name in RETAINED
            if name in systems and "teacher" in systems
        },
    }


def check_vectors(
    name: str,
    vectors: Mapping[str, tuple[np.ndarray, np.ndarray]],
    query_ids: Sequence[str],
    document_ids: Sequence[str],
) -> None:
    """Refuse vectors that are too few, of two dimensions or not finite.

    Args:
        name: of the collection, for the message.
        vectors: per system (query vectors, document vectors).
        query_ids: of the queries.
        document_ids: of the documents.

    Raises:
        LeafkitError: naming whose vectors, and the text's id and row.
    """
    seen: set[int] = set()
    for system, pair in vectors.items():
        owners = SIDES.get(system, (system, system))
        for owner, what, found, ids in zip(
            owners, ("query", "document"), pair, (query_ids, document_ids), strict=True
        ):
            if found.ndim != 2 or len(found) != len(ids):
                raise LeafkitError(
                    f"{name}: the {owner}'s {what} vectors have the shape {found.shape} where "
                    f"there are {len(ids)} texts",
                    "compute the vectors of these texts, in their order",
                )
            if id(found) not in seen:
                seen.add(id(found))
                _check_finite(name, owner, what, found, ids)
        if pair[0].shape[1] != pair[1].shape[1]:
            raise LeafkitError(
                f"{name}: the {owners[0]}'s query vectors have {pair[0].shape[1]} dimensions and "
                f"the {owners[1]}'s document"
                f" vectors {pair[1].shape[1]}: they share no space",
                "measure models of one space",
            )


def _check_finite(
    name: str, owner: str, what: str, vectors: np.ndarray, ids: Sequence[str]
) -> None:
    for start in range(0, len(vectors), _CHECKED_ROWS):
        is_bad = ~np.isfinite(vectors[start : start + _CHECKED_ROWS]).all(axis=1)
        if is_bad.any():
            row = start + int(np.flatnonzero(is_bad)[0])
            raise LeafkitError(
                f"{name}: the {owner}'s vector of {what} {ids[row]!r} (row {row}) is not finite",
                "compute in float32 with precision=float32; where vectors came from elsewhere, "
                "mend them",
            )


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
    found = break_ties(ranking, ties, k)
    while depth < len(documents):
        is_cut = (ranking.positions[:, -1] >= 0) & (ranking.scores[:, -1] == found.scores[:, -1])
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
            best = break_ties(more, ties, k)
            found.positions[part], found.scores[part] = best.positions, best.scores
            deeper.positions[part, 0], deeper.scores[part, 0] = (
                more.positions[:, -1],
                more.scores[:, -1],
            )
        ranking = deeper
    return found


def _hide_unmatched(ranking: Ranking) -> Ranking:
    return Ranking(np.where(ranking.scores > 0, ranking.positions, -1), ranking.scores)


def score_encoder(
    embedder: Embedder,
    collection: Collection,
    split: str,
    query_tokens: int,
    document_tokens: int,
    dims: Sequence[int] = (0,),
    role: str = "query",
    own_documents: str = "auto",
) -> dict[int, np.ndarray]:
    """nDCG@10 of each judged query of a split, at several Matryoshka dimensions; one model embeds
    both sides.

    Args:
        embedder: the model.
        collection: documents, queries, judgments.
        split: whose queries.
        query_tokens: queries are cut here.
        document_tokens: documents are cut here.
        dims: dimensions measured; 0 is the full one.
        role: of the queries; decides about the prompt.
        own_documents: which documents with a query's id it may not retrieve, see
            ``Collection.own_documents``.

    Raises:
        LeafkitError: no judged query.
    """
    check_judged(collection, split)
    judged = collection.judged(split)
    queries = embedder.embed([q.text for q in judged], role, query_tokens)
    documents = embedder.embed(
        [d.full_text for d in collection.documents], "document", document_tokens
    )
    judgments = Judgments(
        [q.id for q in judged], [d.id for d in collection.documents], collection.qrels
    )
    own = collection.own_documents(split, own_documents)
    found = {}
    for dim in dims:
        cut = dim or None
        pair = truncate_then_normalize(queries, cut), truncate_then_normalize(documents, cut)
        found[dim] = fast_ndcg(
            exclude_self(search_exact(*pair, 11, judgments.ties), own, 10), judgments
        )
    return found
