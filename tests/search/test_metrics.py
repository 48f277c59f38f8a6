"""Metrics against pytrec_eval."""

from __future__ import annotations

import numpy as np
import pytest

from leafkit.search.index import Ranking
from leafkit.search.metrics import METRICS, per_query_metrics

DOCUMENT_IDS = [f"d{i}" for i in range(150)]


def random_run(
    seed: int, num_queries: int = 12, depth: int = 100, ties: bool = False
) -> tuple[Ranking, list[str], dict[str, dict[str, int]]]:
    """Rankings and graded judgments, some of them 0, some of documents that were not found; ties as in Hamming search."""
    generator = np.random.default_rng(seed)
    positions = np.stack([generator.permutation(150)[:depth] for _ in range(num_queries)])
    scores = -np.sort(-generator.random((num_queries, depth)), axis=1)
    scores = np.round(scores * 12) if ties else scores
    query_ids = [f"q{i}" for i in range(num_queries)]
    qrels = {
        q: {f"d{d}": int(g) for d, g in zip(generator.permutation(150)[:20], generator.integers(0, 4, 20), strict=True)}
        for q in query_ids
    }
    return Ranking(positions, scores.astype(np.float32)), query_ids, qrels


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_values_equal_those_of_pytrec_eval(seed, ties):
    pytrec_eval = pytest.importorskip("pytrec_eval")
    ranking, query_ids, qrels = random_run(seed, ties=ties)
    run = {
        q: {DOCUMENT_IDS[p]: float(s) for p, s in zip(positions, scores, strict=True)}
        for q, positions, scores in zip(query_ids, ranking.positions, ranking.scores, strict=True)
    }
    theirs = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut.10", "recall.100", "recip_rank"}).evaluate(run)
    mine = per_query_metrics(ranking, query_ids, DOCUMENT_IDS, qrels)
    names = {"ndcg@10": "ndcg_cut_10", "recall@100": "recall_100", "mrr@10": "recip_rank"}
    for name, their_name in names.items():
        expected = np.array([theirs[q][their_name] for q in query_ids])
        if name == "mrr@10":
            expected[expected < 0.1] = 0  # pytrec_eval has no cutoff here
        assert np.abs(mine[name] - expected).max() <= 1e-9
        assert mine[name].std() > 0


def test_a_case_by_hand():
    """Relevant documents of grades 1 and 2 at ranks 1 and 3 of three found, one of grade 1 not found."""
    ranking = Ranking(np.array([[4, 0, 2]]), np.array([[0.9, 0.5, 0.1]]))
    found = per_query_metrics(ranking, ["q"], DOCUMENT_IDS, {"q": {"d4": 1, "d2": 2, "d9": 1}})
    gain = 1 + 2 / np.log2(4)
    ideal = 2 + 1 / np.log2(3) + 1 / np.log2(4)
    assert found["ndcg@10"][0] == pytest.approx(gain / ideal, rel=1e-9)
    assert found["recall@100"][0] == pytest.approx(2 / 3)
    assert found["mrr@10"][0] == 1.0


def test_mrr_is_zero_behind_rank_ten():
    positions = np.arange(20)[None]
    scores = -np.arange(20.0)[None]
    at = [per_query_metrics(Ranking(positions, scores), ["q"], DOCUMENT_IDS, {"q": {f"d{r}": 1}})["mrr@10"][0] for r in (9, 10)]
    assert at == pytest.approx([0.1, 0.0])


def test_the_query_itself_among_the_documents_does_not_count():
    """ArguAna: a query is a document of the corpus and finds itself first."""
    ranking = Ranking(np.array([[7, 1]]), np.array([[1.0, 0.5]]))
    assert per_query_metrics(ranking, ["d7"], DOCUMENT_IDS, {"d7": {"d1": 1}})["mrr@10"].tolist() == [1.0]
    assert per_query_metrics(ranking, ["q7"], DOCUMENT_IDS, {"q7": {"d1": 1}})["mrr@10"].tolist() == [0.5]
    assert per_query_metrics(ranking, ["d7"], DOCUMENT_IDS, {"d7": {"d7": 1}})["mrr@10"].tolist() == [1.0]


def test_unfilled_places_are_no_documents():
    ranking = Ranking(np.array([[-1, 3, -1]]), np.array([[2.0, 1.0, -9.0]]))
    assert per_query_metrics(ranking, ["q"], DOCUMENT_IDS, {"q": {"d3": 1, "d149": 1}})["recall@100"].tolist() == [0.5]


def test_values_stand_in_the_order_of_the_queries():
    ranking, query_ids, qrels = random_run(5)
    forward = per_query_metrics(ranking, query_ids, DOCUMENT_IDS, qrels)
    backward = per_query_metrics(Ranking(ranking.positions[::-1], ranking.scores[::-1]), query_ids[::-1], DOCUMENT_IDS, qrels)
    for name in METRICS:
        assert np.array_equal(forward[name], backward[name][::-1])


def test_one_metric_can_be_asked_for():
    ranking, query_ids, qrels = random_run(6)
    assert list(per_query_metrics(ranking, query_ids, DOCUMENT_IDS, qrels, metrics=("ndcg@10",))) == ["ndcg@10"]
