"""Metrics against pytrec_eval."""

from __future__ import annotations

import numpy as np
import pytest

from leafkit.core.errors import LeafkitError
from leafkit.evaluation.metrics import METRICS, Judgments, fast_ndcg, per_query_metrics
from leafkit.index.exact import search_exact
from leafkit.index.ranking import Ranking

DOCUMENT_IDS = [f"d{i}" for i in range(150)]


def random_run(
    seed: int, num_queries: int = 12, depth: int = 100, ties: bool = False
) -> tuple[Ranking, list[str], dict[str, dict[str, int]]]:
    """Rankings and graded judgments, some of them 0, some of documents that were not found; ties as
    in Hamming search.
    """
    generator = np.random.default_rng(seed)
    positions = np.stack([generator.permutation(150)[:depth] for _ in range(num_queries)])
    scores = -np.sort(-generator.random((num_queries, depth)), axis=1)
    scores = np.round(scores * 12) if ties else scores
    query_ids = [f"q{i}" for i in range(num_queries)]
    qrels = {
        q: {
            f"d{d}": int(g)
            for d, g in zip(
                generator.permutation(150)[:20], generator.integers(0, 4, 20), strict=True
            )
        }
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
    theirs = pytrec_eval.RelevanceEvaluator(
        qrels, {"ndcg_cut.10", "map_cut.100", "recall.10,100", "recip_rank"}
    ).evaluate(run)
    mine = per_query_metrics(ranking, query_ids, DOCUMENT_IDS, qrels)
    names = {
        "ndcg@10": "ndcg_cut_10",
        "map@100": "map_cut_100",
        "recall@10": "recall_10",
        "recall@100": "recall_100",
        "mrr@10": "recip_rank",
    }
    assert set(mine) == set(names)
    for name, their_name in names.items():
        expected = np.array([theirs[q][their_name] for q in query_ids])
        if name == "mrr@10":
            expected[expected < 0.1] = 0  # pytrec_eval has no cutoff here
        assert np.abs(mine[name] - expected).max() <= 1e-9
        assert mine[name].std() > 0
    fast = fast_ndcg(ranking, Judgments(query_ids, DOCUMENT_IDS, qrels))
    assert np.abs(fast - mine["ndcg@10"]).max() <= 1e-9


def test_a_case_by_hand():
    """Relevant documents of grades 1 and 2 at ranks 1 and 3 of three found, one of grade 1 not
    found.
    """
    ranking = Ranking(np.array([[4, 0, 2]]), np.array([[0.9, 0.5, 0.1]]))
    found = per_query_metrics(ranking, ["q"], DOCUMENT_IDS, {"q": {"d4": 1, "d2": 2, "d9": 1}})
    gain = 1 + 2 / np.log2(4)
    ideal = 2 + 1 / np.log2(3) + 1 / np.log2(4)
    assert found["ndcg@10"][0] == pytest.approx(gain / ideal, rel=1e-9)
    assert found["recall@100"][0] == pytest.approx(2 / 3)
    assert found["mrr@10"][0] == 1.0
    assert found["recall@10"][0] == pytest.approx(2 / 3)
    assert found["map@100"][0] == pytest.approx((1 / 1 + 2 / 3) / 3)
    judgments = Judgments(["q"], DOCUMENT_IDS, {"q": {"d4": 1, "d2": 2, "d9": 1}})
    assert fast_ndcg(ranking, judgments)[0] == pytest.approx(gain / ideal, rel=1e-12)


def test_mrr_is_zero_behind_rank_ten():
    positions = np.arange(20)[None]
    scores = -np.arange(20.0)[None]
    at = [
        per_query_metrics(Ranking(positions, scores), ["q"], DOCUMENT_IDS, {"q": {f"d{r}": 1}})[
            "mrr@10"
        ][0]
        for r in (9, 10)
    ]
    assert at == pytest.approx([0.1, 0.0])


def test_unfilled_places_are_no_documents():
    ranking = Ranking(np.array([[-1, 3, -1]]), np.array([[2.0, 1.0, -9.0]]))
    assert per_query_metrics(ranking, ["q"], DOCUMENT_IDS, {"q": {"d3": 1, "d149": 1}})[
        "recall@100"
    ].tolist() == [0.5]


def test_values_stand_in_the_order_of_the_queries():
    ranking, query_ids, qrels = random_run(5)
    forward = per_query_metrics(ranking, query_ids, DOCUMENT_IDS, qrels)
    backward = per_query_metrics(
        Ranking(ranking.positions[::-1], ranking.scores[::-1]), query_ids[::-1], DOCUMENT_IDS, qrels
    )
    for name in METRICS:
        assert np.array_equal(forward[name], backward[name][::-1])


def test_one_metric_can_be_asked_for():
    ranking, query_ids, qrels = random_run(6)
    assert list(
        per_query_metrics(ranking, query_ids, DOCUMENT_IDS, qrels, metrics=("ndcg@10",))
    ) == ["ndcg@10"]


@pytest.mark.parametrize("seed", range(3))
def test_fast_ndcg_equals_the_reference_on_odd_rankings(seed):
    """Ties, unsorted scores, unfilled places, short rankings, grades below 0, judged documents that
    are not there.
    """
    generator = np.random.default_rng(seed)
    ranking, query_ids, qrels = random_run(seed, ties=True)
    for grades in qrels.values():
        grades |= {"elsewhere": 3, "d1": -1}
    positions = np.where(generator.random(ranking.positions.shape) < 0.2, -1, ranking.positions)
    scores = generator.permuted(ranking.scores, axis=1)
    for depth in (100, 10, 3, 1):
        odd = Ranking(positions[:, :depth], scores[:, :depth])
        expected = per_query_metrics(odd, query_ids, DOCUMENT_IDS, qrels, metrics=["ndcg@10"])[
            "ndcg@10"
        ]
        assert (
            np.abs(fast_ndcg(odd, Judgments(query_ids, DOCUMENT_IDS, qrels)) - expected).max()
            <= 1e-9
        )


def test_documents_of_equal_score_count_in_the_order_of_trec_eval():
    """Of d1, d2 and d10, all equal, d2 comes first: ids are compared as text, the greater one
    first.
    """
    ranking = Ranking(np.array([[1, 2, 10]]), np.zeros((1, 3), dtype=np.float32))
    for document, rank in (("d2", 1), ("d10", 2), ("d1", 3)):
        qrels = {"q": {document: 1}}
        assert per_query_metrics(ranking, ["q"], DOCUMENT_IDS, qrels)["mrr@10"][0] == pytest.approx(
            1 / rank
        )
        assert fast_ndcg(ranking, Judgments(["q"], DOCUMENT_IDS, qrels))[0] == pytest.approx(
            1 / np.log2(rank + 1)
        )


def test_queries_that_find_nothing_or_have_nothing_to_find_score_zero():
    nothing = Ranking(np.full((2, 4), -1), np.zeros((2, 4), dtype=np.float32))
    qrels = {"a": {"d1": 1}, "b": {"d1": 0}}
    found = per_query_metrics(nothing, ["a", "b"], DOCUMENT_IDS, qrels)
    assert all(values.tolist() == [0, 0] for values in found.values())
    judgments = Judgments(["a", "b"], DOCUMENT_IDS, qrels)
    assert fast_ndcg(nothing, judgments).tolist() == [0, 0]
    ranking = Ranking(np.array([[1], [1]]), np.ones((2, 1), dtype=np.float32))
    assert fast_ndcg(ranking, judgments).tolist() == [1, 0]
    assert per_query_metrics(ranking, ["a", "b"], DOCUMENT_IDS, qrels)["map@100"].tolist() == [1, 0]
    empty = Ranking(np.empty((2, 0), dtype=np.int64), np.empty((2, 0), dtype=np.float32))
    assert fast_ndcg(empty, judgments).tolist() == [0, 0]


def test_a_query_without_judgments_is_named():
    ranking = Ranking(np.array([[1]]), np.ones((1, 1)))
    for qrels in ({}, {"q": {}}):
        with pytest.raises(LeafkitError, match="query 'q' has no judgments"):
            per_query_metrics(ranking, ["q"], DOCUMENT_IDS, qrels)
        with pytest.raises(LeafkitError, match="query 'q' has no judgments"):
            Judgments(["q"], DOCUMENT_IDS, qrels)
    with pytest.raises(LeafkitError, match="the same id"):
        Judgments(["q", "q"], DOCUMENT_IDS, {"q": {"d1": 1}})
    with pytest.raises(ValueError, match="a ranking of 1 queries for judgments of 2"):
        fast_ndcg(ranking, Judgments(["a", "b"], DOCUMENT_IDS, {"a": {"d1": 1}, "b": {"d1": 1}}))


@pytest.mark.parametrize("k", [5, 10, 100])
@pytest.mark.parametrize("kind", ["flat", "binary"])
def test_no_metric_depends_on_the_order_of_the_documents(kind, k):
    """Every vector stands there 40 times, so that equals straddle every cut; relevant ones are
    among them.
    """
    generator = np.random.default_rng(k)
    base = generator.normal(size=(12, 64)).astype(np.float32)
    documents, queries = (
        base[np.arange(480) % 12],
        generator.normal(size=(30, 64)).astype(np.float32),
    )
    document_ids, query_ids = [f"d{i}" for i in range(480)], [f"q{i}" for i in range(30)]
    qrels = {
        q: {f"d{d}": int(g) for d, g in enumerate(generator.integers(0, 3, 480))} for q in query_ids
    }
    if kind == "binary":
        documents, queries = (
            np.where(x > 0, np.float32(1), np.float32(-1)) for x in (documents, queries)
        )
    found = []
    for seed in range(4):
        order = np.random.default_rng(seed).permutation(480) if seed else np.arange(480)
        ids = [document_ids[i] for i in order]
        judgments = Judgments(query_ids, ids, qrels)
        ranking = search_exact(queries, documents[order], k, judgments.ties)
        metrics = per_query_metrics(ranking, query_ids, ids, qrels)
        assert np.abs(fast_ndcg(ranking, judgments) - metrics["ndcg@10"]).max() <= 1e-9
        found.append(metrics)
    for other in found[1:]:
        for name in METRICS:
            assert np.array_equal(found[0][name], other[name])
    assert 0 < found[0]["ndcg@10"].mean() < 1
