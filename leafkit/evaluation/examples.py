"""Queries to look at beside the figures: samples, what every query scored, and those that the
student loses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from leafkit.data.records import Collection, Query
from leafkit.index.ranking import Ranking

MAX_QUERIES = 2000  # of the scatter plot
NUM_LOST = 10
_NUM_HITS, _TEXT_LENGTH = 5, 200  # characters
_SYSTEMS = ("teacher", "asymmetric", "symmetric")


def show_samples(
    collection: Collection, split: str, rankings: Mapping[str, Ranking], count: int, seed: int
) -> list[dict[str, Any]]:
    """Some queries with the five best documents of the teacher and of the student's queries on its
    index.
    """
    queries = collection.judged(split)
    chosen = np.random.default_rng(seed).permutation(len(queries))[:count]
    shown = {
        "teacher": "teacher",
        "student": "asymmetric" if "asymmetric" in rankings else "symmetric",
    }
    samples = []
    for row in chosen.tolist():
        relevant = _relevant(collection, queries[row])
        sample: dict[str, Any] = {"query": queries[row].text, "relevant": sorted(relevant)}
        for name, system in shown.items():
            if system in rankings:
                sample[name] = _best(collection, rankings[system], row, relevant)
        samples.append(sample)
    return samples


def list_lost(
    collection: Collection,
    split: str,
    rankings: Mapping[str, Ranking],
    ndcg: Mapping[str, np.ndarray],
) -> list[dict[str, Any]]:
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
        return []
    queries = collection.judged(split)
    loss = ndcg["teacher"] - ndcg["asymmetric"]
    worst = [row for row in np.argsort(-loss, kind="stable")[:NUM_LOST].tolist() if loss[row] > 0]
    lost = []
    for row in worst:
        relevant = _relevant(collection, queries[row])
        lost.append(
            {
                "id": queries[row].id,
                "query": queries[row].text,
                "teacher_ndcg": float(ndcg["teacher"][row]),
                "student_ndcg": float(ndcg["asymmetric"][row]),
                "relevant": sorted(relevant),
                "teacher": _best(collection, rankings["teacher"], row, relevant),
                "student": _best(collection, rankings["asymmetric"], row, relevant),
            }
        )
    return lost


def list_queries(
    queries: Sequence[Query], ndcg: Mapping[str, np.ndarray], seed: int
) -> dict[str, list[Any]]:
    """Ids, texts and nDCG@10 of teacher and student; of more than ``MAX_QUERIES`` queries a seeded
    sample, in their order.
    """
    rows = np.arange(len(queries))
    if len(queries) > MAX_QUERIES:
        rows = np.sort(np.random.default_rng(seed).permutation(len(queries))[:MAX_QUERIES])
    chosen = [queries[row] for row in rows.tolist()]
    found: dict[str, list[Any]] = {"ids": [q.id for q in chosen], "texts": [q.text for q in chosen]}
    return found | {system: ndcg[system][rows].tolist() for system in _SYSTEMS if system in ndcg}


def _relevant(collection: Collection, query: Query) -> set[str]:
    return {d for d, grade in collection.qrels[query.id].items() if grade > 0}


def _best(
    collection: Collection, ranking: Ranking, row: int, relevant: set[str]
) -> list[dict[str, Any]]:
    found = []
    for position, score in zip(
        ranking.positions[row][:_NUM_HITS], ranking.scores[row][:_NUM_HITS], strict=True
    ):
        if position >= 0:
            document = collection.documents[int(position)]
            found.append(
                {
                    "id": document.id,
                    "text": document.text[:_TEXT_LENGTH],
                    "score": round(float(score), 4),
                    "relevant": document.id in relevant,
                }
            )
    return found
