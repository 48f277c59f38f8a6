"""Retrieval metrics per query, through ir-measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import ir_measures
import numpy as np
from ir_measures import RR, R, nDCG

from leafkit.search.index import Ranking

METRICS = {"ndcg@10": nDCG @ 10, "recall@100": R @ 100, "mrr@10": RR}
_SMALLEST = {"mrr@10": 0.1}  # RR @ 10 would come from another provider, which breaks ties another way than trec_eval


def per_query_metrics(
    ranking: Ranking, query_ids: Sequence[str], document_ids: Sequence[str], qrels: Mapping[str, Mapping[str, int]],
    metrics: Sequence[str] = tuple(METRICS),
) -> dict[str, np.ndarray]:  # fmt: skip
    """Each metric for each query, in the queries' order, (Q,) float64.

    A document whose id is the query's own id counts as not retrieved where the judgments do not name it (ArguAna).
    """
    run: dict[str, dict[str, float]] = {}
    for query_id, positions, scores in zip(query_ids, ranking.positions, ranking.scores, strict=True):
        judged = qrels.get(query_id, {})
        run[query_id] = {
            document_ids[p]: float(s)
            for p, s in zip(positions, scores, strict=True)
            if p >= 0 and (document_ids[p] != query_id or query_id in judged)
        }
    wanted = {name: METRICS[name] for name in metrics}
    row = {query_id: i for i, query_id in enumerate(query_ids)}
    out = {name: np.zeros(len(query_ids)) for name in metrics}
    names = {str(measure): name for name, measure in wanted.items()}
    used = {query_id: dict(qrels[query_id]) for query_id in query_ids}
    for value in ir_measures.iter_calc(list(wanted.values()), used, run):
        name = names[str(value.measure)]
        out[name][row[value.query_id]] = value.value if value.value >= _SMALLEST.get(name, 0) else 0.0
    return out
