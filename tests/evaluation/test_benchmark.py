"""The benchmark on planted vectors whose figures are known."""

from __future__ import annotations

import json

import numpy as np
import pytest

from leafkit.config import DataConfig
from leafkit.core.errors import LeafkitError
from leafkit.data.records import Collection, Document, Query
from leafkit.data.sources import read_collection
from leafkit.evaluation.benchmark import check_judged, rank_bm25, run_benchmark
from leafkit.evaluation.comparison import compare_macro
from leafkit.evaluation.metrics import METRICS, per_query_metrics
from leafkit.index.ranking import tie_order
from leafkit.results import EvaluationResult, Hit, Interval

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
    return run_benchmark(collection, "test", systems, kind="in-domain", num_resamples=300, seed=0)


def figure(measured, system: str, metric: str) -> Interval:
    rows = {row.system: row.metrics for row in measured.result.systems}
    return rows[system][metric]


ONE = Interval(1.0, 1.0, 1.0, NUM_QUERIES)


def test_perfect_vectors_score_one_and_random_ones_chance(collection):
    result = run(collection, teacher=PERFECT, symmetric=RANDOM)
    for metric in ("ndcg@10", "recall@100", "mrr@10"):
        assert figure(result, "teacher", metric) == ONE
    chance = sum(1 / np.log2(rank + 1) for rank in range(1, 11)) / NUM_DOCUMENTS
    assert figure(result, "symmetric", "ndcg@10").value == pytest.approx(chance, abs=0.1)
    assert figure(result, "symmetric", "recall@100").value == pytest.approx(
        100 / NUM_DOCUMENTS, abs=0.15
    )


def test_only_judged_queries_of_the_split_count(collection):
    result = run(collection, teacher=PERFECT)
    assert result.result.num_queries == NUM_QUERIES
    assert result.result.num_documents == NUM_DOCUMENTS
    assert result.per_query["teacher"]["ndcg@10"].shape == (NUM_QUERIES,)


def test_asymmetric_search_takes_the_students_queries_and_the_teachers_documents(collection):
    student = PERFECT[0] @ np.linalg.qr(np.random.default_rng(2).normal(size=(DIM, DIM)))[0].astype(
        np.float32
    )
    rotated = (
        student,
        DOCUMENT_VECTORS
        @ np.linalg.qr(np.random.default_rng(2).normal(size=(DIM, DIM)))[0].astype(np.float32),
    )
    result = run(
        collection, teacher=PERFECT, symmetric=rotated, asymmetric=(student, DOCUMENT_VECTORS)
    )
    assert figure(result, "symmetric", "ndcg@10").value == 1.0
    assert figure(result, "asymmetric", "ndcg@10").value < 0.3


def test_differences_and_retention_follow_from_the_rows(collection):
    result = run(collection, teacher=PERFECT, symmetric=RANDOM, asymmetric=PERFECT, baseline=RANDOM)
    mean = {row.system: row.metrics["ndcg@10"].value for row in result.result.systems}
    assert set(mean) == {"teacher", "symmetric", "asymmetric", "baseline", "bm25"}
    found = {d.label: d for d in result.result.differences}
    assert set(found) == {
        "symmetric - teacher",
        "asymmetric - teacher",
        "asymmetric - symmetric",
        "teacher - baseline",
        "asymmetric - baseline",
        "teacher - bm25",
    }
    for label, row in found.items():
        a, b = label.split(" - ")
        assert (row.a, row.b, row.metric) == (a, b, "ndcg@10")
        assert row.interval.value == pytest.approx(mean[a] - mean[b])
        assert row.interval.low <= row.interval.value <= row.interval.high
        assert row.interval.n == NUM_QUERIES
    equal = found["asymmetric - teacher"]
    assert (equal.interval, equal.p) == (Interval(0.0, 0.0, 0.0, NUM_QUERIES), 1.0)
    assert found["symmetric - teacher"].p == pytest.approx(1 / 301)
    assert found["symmetric - teacher"].interval.high < 0
    assert result.result.retention["asymmetric"] == ONE
    assert result.result.retention["symmetric"].value == pytest.approx(mean["symmetric"])


def test_reversed_search_takes_the_teachers_queries_and_the_students_documents(collection):
    result = run(
        collection,
        teacher=PERFECT,
        symmetric=RANDOM,
        reversed=(PERFECT[0], DOCUMENT_VECTORS[::-1].copy()),
    )
    assert figure(result, "reversed", "ndcg@10").value < 0.3
    assert result.result.systems[2].system == "reversed"
    assert "reversed - teacher" in {d.label for d in result.result.differences}
    assert set(result.result.retention) == {"symmetric", "reversed"}


def test_every_metric_is_there_with_its_interval(collection):
    result = run(collection, teacher=RANDOM)
    assert [row.system for row in result.result.systems] == ["teacher", "bm25"]
    for row in result.result.systems:
        assert set(row.metrics) == {"ndcg@10", "map@100", "recall@10", "recall@100", "mrr@10"}
        for metric, found in row.metrics.items():
            assert 0 <= found.low <= found.value <= found.high <= 1
            assert found.value == pytest.approx(result.per_query[row.system][metric].mean())


def test_no_figure_depends_on_the_order_of_the_documents(collection):
    """Four copies of every vector, and BM25 queries whose word stands in many documents."""
    copies = DOCUMENT_VECTORS[np.arange(NUM_DOCUMENTS) % 30]
    collection.queries = [
        Query(q.id, "body text1" if i % 2 else "word", q.split)
        for i, q in enumerate(collection.queries)
    ]
    collection.documents = [
        Document(d.id, f"{d.text} word number{i % 7}") for i, d in enumerate(collection.documents)
    ]
    order = np.random.default_rng(5).permutation(NUM_DOCUMENTS)
    shuffled = Collection(
        "planted", [collection.documents[i] for i in order], collection.queries, collection.qrels
    )
    results = [
        run(collection, teacher=(RANDOM[0], copies), asymmetric=(PERFECT[0], copies)),
        run(shuffled, teacher=(RANDOM[0], copies[order]), asymmetric=(PERFECT[0], copies[order])),
    ]
    assert results[0].result == results[1].result
    for system, metrics in results[0].per_query.items():
        for metric, values in metrics.items():
            assert np.array_equal(values, results[1].per_query[system][metric])


@pytest.mark.parametrize(("policy", "dropped"), [("always", 2), ("auto", 1), ("never", 0)])
def test_a_query_s_own_document_is_dropped_as_the_policy_says(policy, dropped):
    """Query d0 is document d0; query d1 has nothing but its number in common with document d1; q2
    is no document.
    """
    documents = [Document(f"d{i}", f"text number {i}") for i in range(4)]
    queries = [
        Query("d0", "Text  number 0"),
        Query("d1", "another question"),
        Query("q2", "text number 2"),
    ]
    qrels = {"d0": {"d3": 1}, "d1": {"d2": 1}, "q2": {"d2": 1}}
    vectors = np.eye(4, dtype=np.float32)
    asked = np.array([[1, 0, 0, 0.5], [0, 1, 0.5, 0], [0, 0, 1, 0]], dtype=np.float32)
    own = Collection("arguana", documents, queries, qrels)
    result = run_benchmark(
        own,
        "test",
        {"teacher": (asked, vectors)},
        kind="out-of-domain",
        num_resamples=50,
        seed=0,
        own_documents=policy,
    )
    assert result.result.own_documents_dropped == dropped
    assert result.per_query["teacher"]["mrr@10"].tolist() == [
        1.0 if policy != "never" else 0.5,
        1.0 if dropped == 2 else 0.5,
        1,
    ]
    found = [
        document for row in result.rankings["teacher"].positions[:2].tolist() for document in row
    ]
    assert (0 in result.rankings["bm25"].positions[0], found.count(-1)) == (
        policy == "never",
        dropped,
    )


def test_a_hundred_documents_beside_the_own_one_are_looked_at():
    """The own document comes first and the relevant one is number 101."""
    documents = [Document(f"d{i:03}", f"text {i}") for i in range(150)]
    scores = np.linspace(1, 0.1, 150, dtype=np.float32)
    vectors = np.stack([scores, np.sqrt(1 - scores**2)], axis=1)
    own = Collection("arguana", documents, [Query("d000", "text 0")], {"d000": {"d100": 1}})
    pair = np.array([[1, 0]], dtype=np.float32), vectors
    for policy, expected in (("auto", 1.0), ("never", 0.0)):
        measured = run_benchmark(
            own,
            "test",
            {"teacher": pair},
            kind="out-of-domain",
            num_resamples=9,
            seed=0,
            own_documents=policy,
        )
        assert measured.per_query["teacher"]["recall@100"] == expected


@pytest.mark.parametrize(
    ("system", "side", "row", "message"),
    [
        ("teacher", 0, 3, r"planted: the teacher's vector of query 'q3' \(row 3\) is not finite"),
        (
            "symmetric",
            1,
            119,
            r"planted: the student's vector of document 'd119' \(row 119\) is not finite",
        ),
        (
            "asymmetric",
            0,
            0,
            r"planted: the student's vector of query 'q0' \(row 0\) is not finite",
        ),
        (
            "baseline",
            1,
            7,
            r"planted: the baseline's vector of document 'd7' \(row 7\) is not finite",
        ),
    ],
)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_vectors_that_are_not_finite_are_named(
    collection, monkeypatch, system, side, row, message, value
):
    monkeypatch.setattr("leafkit.evaluation.vector_checks._ROWS", 50)
    pair = [PERFECT[0].copy(), PERFECT[1].copy()]
    pair[side][row, 5] = value
    with pytest.raises(LeafkitError, match=message) as caught:
        run(collection, **{system: tuple(pair)})
    assert "float32" in caught.value.hint


def test_vectors_that_do_not_fit_are_named(collection):
    with pytest.raises(
        LeafkitError,
        match=r"the teacher's query vectors have the shape \(39, 16\) where there are 40 texts",
    ):
        run(collection, teacher=(PERFECT[0][1:], PERFECT[1]))
    with pytest.raises(
        LeafkitError,
        match="the student's query vectors have 8 dimensions and the teacher's document vectors 16",
    ):
        run(collection, asymmetric=(PERFECT[0][:, :8].copy(), PERFECT[1]))


def test_the_report_gets_every_query_and_the_ones_lost(collection):
    result = run(collection, teacher=PERFECT, symmetric=RANDOM, asymmetric=RANDOM)
    listed = result.result.per_query
    assert set(listed.ndcg) == {"teacher", "asymmetric", "symmetric"}
    assert listed.ids == tuple(f"q{i}" for i in range(NUM_QUERIES))
    assert list(listed.ndcg["asymmetric"]) == result.per_query["asymmetric"]["ndcg@10"].tolist()
    lost = result.result.lost
    assert len(lost) == 10
    assert all(row.teacher_ndcg - row.student_ndcg == 1 for row in lost)
    number = lost[0].id[1:]
    assert lost[0].teacher[0] == Hit(f"d{number}", f"text{number} body{number}", 1.0, True)


def test_a_result_survives_being_written(collection, tmp_path):
    measured = run(collection, teacher=PERFECT, symmetric=RANDOM, asymmetric=RANDOM)
    result = EvaluationResult(collections=(measured.result,))
    json.dumps(result.to_json(), allow_nan=False)
    result.save(tmp_path / "results.json")
    assert EvaluationResult.load(tmp_path / "results.json") == result


# --- BM25


def test_bm25_finds_only_documents_that_hold_a_word_of_the_query():
    documents = ["red fish", "blue fish", "red sky", "green tree"]
    found = rank_bm25(["red", "stone"], documents, 4, np.array([1, 0, 3, 2]))
    assert found.positions.tolist() == [[0, 2, -1, -1], [-1] * 4]


@pytest.mark.parametrize("num_equal", [2, 9, 30, 400])
def test_equal_bm25_scores_are_ordered_by_place_also_where_they_are_cut(num_equal):
    """400 equals are more than twice k and than the first deeper search."""
    documents = (
        [f"common filler{i}" for i in range(num_equal)]
        + ["something else"] * 20
        + ["common and rare words here"]
    )
    generator = np.random.default_rng(0)
    ties = generator.permutation(len(documents))
    found = rank_bm25(["common", "rare common", "else"], documents, 6, ties)
    expected = sorted(range(num_equal), key=ties.__getitem__)
    assert found.positions[0].tolist()[: min(6, num_equal)] == expected[:6]
    assert found.positions[1].tolist()[0] == len(documents) - 1
    assert found.positions[1].tolist()[1 : min(6, num_equal + 1)] == expected[:5]
    assert (
        found.positions[2].tolist()
        == sorted(range(num_equal, num_equal + 20), key=ties.__getitem__)[:6]
    )


# --- several collections


def test_the_macro_average_weighs_collections_alike():
    generator = np.random.default_rng(1)
    names = ("teacher", "asymmetric", "bm25")
    parts = [{s: {m: generator.random(n) for m in METRICS} for s in names} for n in (20, 300, 50)]
    parts[1]["baseline"] = parts[1]["teacher"]  # not measured everywhere
    found = compare_macro(parts, num_resamples=400, seed=3)
    assert found.num_collections == 3
    assert [row.system for row in found.systems] == list(names)
    mean = {row.system: row.metrics["ndcg@10"].value for row in found.systems}
    assert {row.metrics["map@100"].n for row in found.systems} == {370}
    for name in names:
        assert mean[name] == pytest.approx(
            np.mean([part[name]["ndcg@10"].mean() for part in parts])
        )
    assert [d.label for d in found.differences] == ["asymmetric - teacher", "teacher - bm25"]
    for row in found.differences:
        assert row.interval.value == pytest.approx(mean[row.a] - mean[row.b])
        assert row.interval.low < row.interval.value < row.interval.high
        assert 0 < row.p <= 1
    assert found.retention["asymmetric"].value == pytest.approx(
        mean["asymmetric"] / mean["teacher"]
    )
    assert found == compare_macro(parts, num_resamples=400, seed=3)


def test_a_difference_in_every_collection_is_significant_and_one_in_none_is_not():
    generator = np.random.default_rng(2)
    base = [generator.random(n) for n in (40, 60)]
    parts = [
        {
            "teacher": dict.fromkeys(METRICS, x + 0.1),
            "asymmetric": dict.fromkeys(METRICS, x),
            "symmetric": dict.fromkeys(METRICS, x + generator.normal(0, 0.2, len(x)) + 0.1),
        }
        for x in base
    ]
    found = {d.label: d for d in compare_macro(parts, num_resamples=999, seed=0).differences}
    assert found["asymmetric - teacher"].p == pytest.approx(1 / 1000)
    assert found["asymmetric - teacher"].interval.high == pytest.approx(-0.1)
    assert found["symmetric - teacher"].p > 0.05


def test_a_macro_average_of_one_system_has_no_differences():
    parts = [{"bm25": dict.fromkeys(METRICS, np.ones(3))}] * 2
    assert compare_macro(parts, num_resamples=20, seed=0).differences == ()


def test_bm25_stands_beside_the_encoders(collection):
    result = run(collection, teacher=PERFECT)
    assert result.per_query["bm25"]["mrr@10"][0] == 1.0


def test_the_same_seed_gives_the_same_figures(collection):
    assert run(collection, teacher=RANDOM).result == run(collection, teacher=RANDOM).result


def test_a_collection_without_judged_queries_is_refused_with_its_splits(collection):
    with pytest.raises(
        LeafkitError,
        match=r"planted has no judged validation query \(splits with queries: test, train\)",
    ) as caught:
        check_judged(collection, "validation")
    assert "bench.split" in caught.value.hint
    with pytest.raises(LeafkitError, match="splits with queries: none"):
        run(Collection("bare", collection.documents), teacher=PERFECT)


def test_numbers_that_queries_and_documents_share_in_cranfield_mean_nothing(shared_data):
    """Both are numbered 1, 2, 3: of 225 queries 224 have a document of their number that no
    judgment names.
    """
    collection = read_collection(f"beir:{shared_data / 'cranfield'}", DataConfig())
    dropped = {
        p: sum(at >= 0 for at in collection.own_documents("test", p))
        for p in ("always", "auto", "never")
    }
    assert dropped == {"always": 224, "auto": 0, "never": 0}
    assert collection.counts["documents without text kept, as BEIR's evaluation does"] == 2


@pytest.mark.parametrize(("name", "expected"), [("cranfield", 0.3513), ("npl", 0.3545)])
def test_bm25_with_settled_ties_scores_on_real_text_what_it_did_without(
    shared_data, name, expected
):
    collection = read_collection(f"beir:{shared_data / name}", DataConfig())
    queries, texts = collection.judged("test"), [d.full_text for d in collection.documents]
    query_ids, document_ids = [q.id for q in queries], [d.id for d in collection.documents]
    order = np.random.default_rng(0).permutation(len(texts))
    found = []
    for rows in (np.arange(len(texts)), order):
        ids = [document_ids[i] for i in rows]
        ranking = rank_bm25(
            [q.text for q in queries], [texts[i] for i in rows], 100, tie_order(ids)
        )
        found.append(per_query_metrics(ranking, query_ids, ids, collection.qrels))
    assert found[0]["ndcg@10"].mean() == pytest.approx(expected, abs=1e-3)
    for metric in METRICS:
        assert np.array_equal(found[0][metric], found[1][metric])
