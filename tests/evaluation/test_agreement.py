"""Agreement with the teacher where there are no judgments."""

from __future__ import annotations

import numpy as np
import pytest

from leafkit.core.errors import LeafkitError
from leafkit.evaluation.agreement import measure_agreement, source_gains
from leafkit.results import Agreement, EvaluationResult
from leafkit.results.agreement import HELD_OUT


def unit(rng, *shape):
    vectors = rng.normal(size=shape).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def measure(queries, documents, own=None, **changes):
    settings = {
        "own": own or [-1] * len(queries[0]),
        "collection": "mine",
        "asked_with": "queries",
        "training": HELD_OUT,
        "num_resamples": 200,
        "seed": 3,
    }
    ids = [str(i) for i in range(len(documents[0]))]
    return measure_agreement(queries, documents, ids, **settings | changes)


@pytest.mark.parametrize(("num_documents", "own"), [(60, False), (60, True), (7, True)])
@pytest.mark.parametrize("noise", [0.0, 0.2, 5.0])
def test_figures_equal_a_plain_computation(num_documents, own, noise):
    rng = np.random.default_rng(1)
    documents = unit(rng, num_documents, 16)
    queries = documents[:7].copy() if own else unit(rng, 25, 16)
    moved = [x + noise * unit(rng, *x.shape) for x in (queries, documents)]
    asked, read = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in moved]
    left_out = list(range(7)) if own else [-1] * 25
    found = measure((queries, asked), (documents, read), left_out)
    depth = min(10, num_documents - own)
    assert found.depth == depth

    def top(q, d):
        scores = q.astype(np.float64) @ d.astype(np.float64).T
        if own:
            scores[np.arange(7), np.arange(7)] = -np.inf
        return [set(np.argsort(-row, kind="stable")[:depth]) for row in scores]

    wanted = top(queries, documents)
    for way, d in (("asymmetric", documents), ("symmetric", read)):
        shares = [len(a & b) / depth for a, b in zip(wanted, top(asked, d), strict=True)]
        assert found.overlap[way].value == pytest.approx(np.mean(shares), abs=1e-9)
        assert found.overlap[way].low <= np.mean(shares) <= found.overlap[way].high
    assert found.query_cosine.value == pytest.approx((queries * asked).sum(1).mean(), abs=1e-6)
    assert found.document_cosine.value == pytest.approx((documents * read).sum(1).mean(), abs=1e-6)
    if noise == 0:
        assert found.overlap["asymmetric"].value == found.overlap["symmetric"].value == 1


def test_lengths_of_a_teacher_that_ranks_by_inner_product_count_for_its_ranking():
    rng = np.random.default_rng(2)
    documents = unit(rng, 40, 8) * rng.uniform(0.2, 4, size=(40, 1)).astype(np.float32)
    queries = unit(rng, 20, 8)
    found = measure((queries, queries * 3), (documents, documents))
    assert found.overlap["asymmetric"].value == 1  # a query's length changes no ranking
    assert found.query_cosine.value == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(("num_queries", "num_documents"), [(0, 5), (3, 0)])
def test_nothing_to_compare_is_an_error(num_queries, num_documents):
    queries, documents = np.ones((num_queries, 4)), np.ones((num_documents, 4))
    with pytest.raises(LeafkitError, match="nothing to compare rankings on"):
        measure((queries, queries), (documents, documents))


def test_it_is_kept_with_the_benchmark_and_shown(tmp_path):
    rng = np.random.default_rng(1)
    queries, documents = unit(rng, 12, 8), unit(rng, 40, 8)
    found = measure((queries, queries), (documents, documents))
    assert isinstance(found, Agreement)
    result = EvaluationResult(agreements=(found,))
    result.save(tmp_path / "results.json")
    assert EvaluationResult.load(tmp_path / "results.json") == result
    (table,) = result.tables()
    assert "without judgments" in table.title
    assert [row[1] for row in table.rows][2:] == ["100.0% [100.0, 100.0]"] * 2
    assert {row["metric"] for row in result.records()} == {
        "query cosine",
        "document cosine",
        "overlap@10",
    }
    assert "mine has no judgments. Of 12 queries (held out of training)" in str(found)


def test_gains_of_the_source_by_rank():
    positions = np.array([[4, 2, 0], [4, 2, 0], [4, 2, 0]])
    assert source_gains(positions, np.array([4, 0, 1])).tolist() == [1.0, 0.5, 0.0]
