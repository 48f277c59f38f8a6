"""Queries to look at beside the figures: samples, what every query scored, and those that the
student loses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from leafkit.data.records import Collection, Query
from leafkit.index.ranking import Ranking
from leafkit.results import Hit, LostQuery, QueryScores, Sample

MAX_QUERIES = 2000  # of the scatter plot
NUM_LOST = 10
_NUM_HITS, _TEXT_LENGTH = 5, 200  # characters
_SYSTEMS = ("teacher", "asymmetric", "symmetric")


def show_samples(
    collection: Collection,
    split: str,
    rankings: Mapping[str, Ranking],
    *,
    num_samples: int,
    seed: int,
) -> tuple[Sample, ...]:
    """Some queries with the five best documents of the teacher and of the student's queries on its
    index.
    """
    queries = collection.judged(split)
    chosen = np.random.default_rng(seed).permutation(len(queries))[:num_samples]
    shown = {
        "teacher": "teacher",
        "student": "asymmetric" if "asymmetric" in rankings else "symmetric",
    }
    samples = []
    for row in chosen.tolist():
        relevant = _relevant(collection, queries[row])
        hits = {
            name: _best(collection, rankings[system], row, relevant)
            for name, system in shown.items()
            if system in rankings
        }
        samples.append(Sample(queries[row].text, tuple(sorted(relevant)), **hits))
    return tuple(samples)


def list_lost(
    collection: Collection,
    split: str,
    rankings: Mapping[str, Ranking],
    ndcg: Mapping[str, np.ndarray],
) -> tuple[LostQuery, ...]:
    """The queries on which the student's lose most against the teacher's, on the same index, with
    both rankings.

    Args:
        collection: documents, queries, judgments.
        split: whose queries.
        rankings: by system.
        ndcg: (Q,) nDCG@10 by system; nothing is listed where "teacher" or "asymmetric" is not among
            them.

    Returns:
        At most ``NUM_LOST`` queries, the largest loss first, the queries' order among equals; only
        losses above 0.
    """
    if "teacher" not in ndcg or "asymmetric" not in ndcg:
        return ()
    queries = collection.judged(split)
    loss = ndcg["teacher"] - ndcg["asymmetric"]
    worst = [row for row in np.argsort(-loss, kind="stable")[:NUM_LOST].tolist() if loss[row] > 0]
    lost = []
    for row in worst:
        relevant = _relevant(collection, queries[row])
        lost.append(
            LostQuery(
                id=queries[row].id,
                query=queries[row].text,
                teacher_ndcg=float(ndcg["teacher"][row]),
                student_ndcg=float(ndcg["asymmetric"][row]),
                relevant=tuple(sorted(relevant)),
                teacher=_best(collection, rankings["teacher"], row, relevant),
                student=_best(collection, rankings["asymmetric"], row, relevant),
            )
        )
    return tuple(lost)


def list_queries(
    queries: Sequence[Query], ndcg: Mapping[str, np.ndarray], seed: int
) -> QueryScores:
    """Ids, texts and nDCG@10 of teacher and student; of more than ``MAX_QUERIES`` queries a seeded
    sample, in their order.
    """
    rows = np.arange(len(queries))
    if len(queries) > MAX_QUERIES:
        rows = np.sort(np.random.default_rng(seed).permutation(len(queries))[:MAX_QUERIES])
    chosen = [queries[row] for row in rows.tolist()]
    return QueryScores(
        ids=tuple(q.id for q in chosen),
        texts=tuple(q.text for q in chosen),
        ndcg={name: tuple(ndcg[name][rows].tolist()) for name in _SYSTEMS if name in ndcg},
    )


def _relevant(collection: Collection, query: Query) -> set[str]:
    return {d for d, grade in collection.qrels[query.id].items() if grade > 0}


def _best(
    collection: Collection, ranking: Ranking, row: int, relevant: set[str]
) -> tuple[Hit, ...]:
    """The first documents of one query's ranking; fewer where fewer were found."""
    places = zip(ranking.positions[row][:_NUM_HITS], ranking.scores[row][:_NUM_HITS], strict=True)
    documents = [(collection.documents[int(p)], float(s)) for p, s in places if p >= 0]
    return tuple(
        Hit(d.id, d.text[:_TEXT_LENGTH], round(score, 4), d.id in relevant)
        for d, score in documents
    )
