"""The benchmark on planted vectors whose figures are known."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch

from leafkit.data.records import Collection, Document, Query
from leafkit.errors import LeafkitError
from leafkit.search.benchmark import check_judged, run_benchmark, score_encoder, show_samples
from leafkit.search.embed import Embedder
from leafkit.vectors import truncate_then_normalize

NUM_DOCUMENTS, NUM_QUERIES, DIM = 120, 40, 16


def unit(shape: tuple[int, int], seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


DOCUMENT_VECTORS = unit((NUM_DOCUMENTS, DIM), 0)
PERFECT = DOCUMENT_VECTORS[:NUM_QUERIES].copy(), DOCUMENT_VECTORS
RANDOM = unit((NUM_QUERIES, DIM), 1), DOCUMENT_VECTORS


@pytest.fixture
def collection() -> Collection:
    """Query i is answered by document i alone; texts share no word but for BM25's first query."""
    documents = [Document(f"d{i}", f"text{i} body{i}") for i in range(NUM_DOCUMENTS)]
    queries = [Query(f"q{i}", f"ask{i}" if i else "text0", "test") for i in range(NUM_QUERIES)]
    queries += [Query("train", "trained on", "train"), Query("unjudged", "nobody knows", "test")]
    qrels = {f"q{i}": {f"d{i}": 1} for i in range(NUM_QUERIES)} | {"train": {"d0": 1}}
    return Collection("planted", documents, queries, qrels)


def run(collection, **systems):
    return run_benchmark(collection, "test", systems, "home", num_resamples=300, seed=0)


def figure(result, system: str, metric: str) -> dict[str, float]:
    return next(row[metric] for row in result.figures["rows"] if row["system"] == system)


def test_perfect_vectors_score_one_and_random_ones_chance(collection):
    result = run(collection, teacher=PERFECT, symmetric=RANDOM)
    for metric in ("ndcg@10", "recall@100", "mrr@10"):
        assert figure(result, "teacher", metric) == {"mean": 1.0, "low": 1.0, "high": 1.0}
    chance = sum(1 / np.log2(rank + 1) for rank in range(1, 11)) / NUM_DOCUMENTS
    assert figure(result, "symmetric", "ndcg@10")["mean"] == pytest.approx(chance, abs=0.1)
    assert figure(result, "symmetric", "recall@100")["mean"] == pytest.approx(100 / NUM_DOCUMENTS, abs=0.15)


def test_only_judged_queries_of_the_split_count(collection):
    result = run(collection, teacher=PERFECT)
    assert result.figures["num_queries"] == NUM_QUERIES
    assert result.figures["num_documents"] == NUM_DOCUMENTS
    assert result.per_query["teacher"]["ndcg@10"].shape == (NUM_QUERIES,)


def test_asymmetric_search_takes_the_students_queries_and_the_teachers_documents(collection):
    student = PERFECT[0] @ np.linalg.qr(np.random.default_rng(2).normal(size=(DIM, DIM)))[0].astype(np.float32)
    rotated = student, DOCUMENT_VECTORS @ np.linalg.qr(np.random.default_rng(2).normal(size=(DIM, DIM)))[0].astype(np.float32)
    result = run(collection, teacher=PERFECT, symmetric=rotated, asymmetric=(student, DOCUMENT_VECTORS))
    assert figure(result, "symmetric", "ndcg@10")["mean"] == 1.0
    assert figure(result, "asymmetric", "ndcg@10")["mean"] < 0.3


def test_differences_and_retention_follow_from_the_rows(collection):
    result = run(collection, teacher=PERFECT, symmetric=RANDOM, asymmetric=PERFECT, baseline=RANDOM)
    mean = {row["system"]: row["ndcg@10"]["mean"] for row in result.figures["rows"]}
    assert set(mean) == {"teacher", "symmetric", "asymmetric", "baseline", "bm25"}
    found = {d["label"]: d for d in result.figures["differences"]}
    assert set(found) == {
        "symmetric - teacher", "asymmetric - teacher", "asymmetric - symmetric", "teacher - baseline", "asymmetric - baseline",
        "teacher - bm25",
    }  # fmt: skip
    for label, row in found.items():
        a, b = label.split(" - ")
        assert row["mean"] == pytest.approx(mean[a] - mean[b])
        assert row["low"] <= row["mean"] <= row["high"]
    assert found["asymmetric - teacher"] | {"label": ""} == {
        "label": "",
        "metric": "ndcg@10",
        "mean": 0.0,
        "low": 0.0,
        "high": 0.0,
    }
    assert found["symmetric - teacher"]["high"] < 0
    assert result.figures["retention"]["asymmetric"] == {"mean": 1.0, "low": 1.0, "high": 1.0}
    assert result.figures["retention"]["symmetric"]["mean"] == pytest.approx(mean["symmetric"])


def test_bm25_stands_beside_the_encoders(collection):
    result = run(collection, teacher=PERFECT)
    assert result.per_query["bm25"]["mrr@10"][0] == 1.0


def test_the_same_seed_gives_the_same_figures(collection):
    assert run(collection, teacher=RANDOM).figures == run(collection, teacher=RANDOM).figures


def test_a_collection_without_judged_queries_is_refused_with_its_splits(collection):
    with pytest.raises(
        LeafkitError, match=r"planted has no judged validation query \(splits with queries: test, train\)"
    ) as caught:
        check_judged(collection, "validation")
    assert "bench.split" in caught.value.remedy
    with pytest.raises(LeafkitError, match="splits with queries: none"):
        run_benchmark(Collection("bare", collection.documents), "test", {"teacher": PERFECT}, "home", 10, 0)


def test_samples_show_five_documents_of_both_systems(collection):
    result = run(collection, teacher=PERFECT, symmetric=RANDOM, asymmetric=RANDOM)
    samples = show_samples(collection, "test", result, count=3, seed=1)
    assert len(samples) == 3
    for sample in samples:
        assert len(sample["teacher"]) == len(sample["student"]) == 5
        assert sample["teacher"][0]["id"] == sample["relevant"][0]
        assert [hit["relevant"] for hit in sample["teacher"]] == [True, False, False, False, False]
        scores = [hit["score"] for hit in sample["student"]]
        assert scores == sorted(scores, reverse=True)
    assert samples == show_samples(collection, "test", result, count=3, seed=1)
    assert len(show_samples(collection, "test", result, count=1000, seed=1)) == NUM_QUERIES


def test_scores_of_one_encoder_equal_the_benchmark_s_at_every_dimension():
    collection = _collection_of_pairs()
    embedder = Embedder(tiny.make_encoder(prompts={"query": tiny.PROMPT}), torch.device("cpu"), torch.float32)
    found = score_encoder(embedder, collection, "test", 32, 48, (0, 8))
    queries = embedder.embed([q.text for q in collection.judged("test")], "query", 32)
    documents = embedder.embed([d.full_text for d in collection.documents], "document", 48)
    for dim, cut in ((0, 32), (8, 8)):
        vectors = {"teacher": (truncate_then_normalize(queries, cut), truncate_then_normalize(documents, cut))}
        expected = run_benchmark(collection, "test", vectors, "home", 20, 0).per_query["teacher"]["ndcg@10"]
        np.testing.assert_allclose(found[dim], expected)
    assert not np.array_equal(found[0], found[8])
    with pytest.raises(LeafkitError, match="no judged validation query"):
        score_encoder(embedder, collection, "validation", 32, 48)


def _collection_of_pairs() -> Collection:
    pairs = tiny.make_pairs(24)
    documents = [Document(f"d{i}", text) for i, (_, text) in enumerate(pairs)]
    queries = [Query(f"q{i}", text) for i, (text, _) in enumerate(pairs)]
    return Collection("pairs", documents, queries, {f"q{i}": {f"d{i}": 1} for i in range(len(pairs))})
