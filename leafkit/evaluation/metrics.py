"""Retrieval metrics per query: through ir-measures (trec_eval), and nDCG@10 of many rankings in
numpy.

Shapes: Q queries, N documents, k results.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import ir_measures
import numpy as np
from ir_measures import AP, RR, R, nDCG

from leafkit.core.errors import LeafkitError
from leafkit.index.ranking import Ranking, break_ties, tie_order

METRICS = {
    "ndcg@10": nDCG @ 10,
    "map@100": AP @ 100,
    "recall@10": R @ 10,
    "recall@100": R @ 100,
    "mrr@10": RR,
}
# RR @ 10 would come from another provider, which breaks ties another way than trec_eval
_SMALLEST = {"mrr@10": 0.1}
_CUT = 10  # of fast_ndcg


def per_query_metrics(
    ranking: Ranking,
    query_ids: Sequence[str],
    document_ids: Sequence[str],
    qrels: Mapping[str, Mapping[str, int]],
    *,
    metrics: Sequence[str] = tuple(METRICS),
) -> dict[str, np.ndarray]:
    """Each metric for each query, in the queries' order, (Q,) float64.

    Grades are gains (nDCG), and documents of grade 1 and more are relevant (the others). Documents
    of equal score count in the order of trec_eval, the greater id first. A query without results
    scores 0. "map@100" is the average precision of the first 100 results, over all relevant
    documents (trec_eval's map_cut_100): those further down count as never found.

    Args:
        ranking: of the queries.
        query_ids: Q different ids.
        document_ids: N ids.
        qrels: grades per query and document; a document that is none of the N counts as relevant
            and not found.
        metrics: names out of ``METRICS``.

    Raises:
        LeafkitError: a query has no judgments at all, or two have one id.
    """
    judged = _check_judged(query_ids, qrels)
    run: dict[str, dict[str, float]] = {}
    for query_id, positions, scores in zip(
        query_ids, ranking.positions.tolist(), ranking.scores.tolist(), strict=True
    ):
        run[query_id] = {
            document_ids[p]: s for p, s in zip(positions, scores, strict=True) if p >= 0
        }
    wanted = {name: METRICS[name] for name in metrics}
    row = {query_id: i for i, query_id in enumerate(query_ids)}
    out = {name: np.zeros(len(query_ids)) for name in metrics}
    names = {str(measure): name for name, measure in wanted.items()}
    for value in ir_measures.iter_calc(list(wanted.values()), judged, run):
        name = names[str(value.measure)]
        out[name][row[value.query_id]] = (
            value.value if value.value >= _SMALLEST.get(name, 0) else 0.0
        )
    return out


class Judgments:
    """Judgments of some queries over some documents, arranged for ``fast_ndcg`` of many rankings.

    Args:
        query_ids: Q different ids.
        document_ids: N different ids.
        qrels: grades per query and document.

    Raises:
        LeafkitError: a query has no judgments at all, or two have one id.
    """

    def __init__(
        self,
        query_ids: Sequence[str],
        document_ids: Sequence[str],
        qrels: Mapping[str, Mapping[str, int]],
    ) -> None:
        judged = _check_judged(query_ids, qrels)
        self.num_documents = len(document_ids)
        self.ties = tie_order(document_ids)
        self.discounts = 1 / np.log2(np.arange(_CUT) + 2)
        position = {document_id: i for i, document_id in enumerate(document_ids)}
        keys, gains = [], []
        self.ideal = np.zeros(len(query_ids))
        for row, query_id in enumerate(query_ids):
            best = sorted(
                (grade for grade in judged[query_id].values() if grade > 0), reverse=True
            )[:_CUT]
            self.ideal[row] = np.dot(best, self.discounts[: len(best)])
            for document_id, grade in judged[query_id].items():
                if grade > 0 and document_id in position:
                    keys.append(row * self.num_documents + position[document_id])
                    gains.append(grade)
        order = np.argsort(np.array(keys, dtype=np.int64))
        # -1 is no document's
        self._keys = np.array([-1, *np.array(keys, dtype=np.int64)[order]], dtype=np.int64)
        self._gains = np.array([0, *np.array(gains)[order]], dtype=np.float64)

    def gains(self, positions: np.ndarray) -> np.ndarray:
        """(Q, k) grades of the documents at (Q, k) positions, 0 where they are not positive or the
        place is unfilled.
        """
        keys = np.where(
            positions >= 0, positions + np.arange(len(positions))[:, None] * self.num_documents, -1
        )
        at = np.searchsorted(self._keys, keys.ravel(), side="right").reshape(keys.shape) - 1
        gains: np.ndarray = np.where(self._keys[at] == keys, self._gains[at], 0.0)
        return gains


def fast_ndcg(ranking: Ranking, judgments: Judgments) -> np.ndarray:
    """nDCG@10 of each query, (Q,) float64; what ``per_query_metrics`` gives, without a dict per
    query.

    DCG = sum_{i=1..10} g_i / log2(i + 1) with g_i the grade of the i-th result; nDCG = DCG / DCG of
    the best order of all judged documents (Jaervelin & Kekaelaeinen 2002, with trec_eval's linear
    gain).

    Args:
        ranking: of the queries of ``judgments``, in their order; equals may stand in any order.
        judgments: made once for all rankings.

    Raises:
        ValueError: not one row per query.
    """
    positions, scores = ranking.positions, ranking.scores
    if len(positions) != len(judgments.ideal):
        raise ValueError(
            f"a ranking of {len(positions)} queries for judgments of {len(judgments.ideal)}"
        )
    top = positions[:, :_CUT]
    is_ordered = (scores[:, :-1] > scores[:, 1:]).all(axis=1) & (positions >= 0).all(axis=1)
    if not is_ordered.all():
        rows = np.flatnonzero(~is_ordered)
        top = top.copy()
        top[rows] = break_ties(
            Ranking(positions[rows], scores[rows]), judgments.ties, _CUT
        ).positions
    gain = judgments.gains(top) @ judgments.discounts[: top.shape[1]]
    return np.divide(gain, judgments.ideal, out=np.zeros(len(gain)), where=judgments.ideal > 0)


def _check_judged(
    query_ids: Sequence[str], qrels: Mapping[str, Mapping[str, int]]
) -> dict[str, dict[str, int]]:
    """Judgments of the queries alone; grades below 0 become 0, which trec_eval cannot tell from
    them here.
    """
    for query_id in query_ids:
        if not qrels.get(query_id):
            raise LeafkitError(
                f"query {query_id!r} has no judgments",
                "measure judged queries only, or add its judgments",
            )
    grades = {
        query_id: {d: max(grade, 0) for d, grade in qrels[query_id].items()}
        for query_id in query_ids
    }
    if len(grades) != len(query_ids):
        raise LeafkitError("two queries have the same id", "give every query an id of its own")
    return grades
