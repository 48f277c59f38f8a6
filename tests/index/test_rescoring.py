"""Candidates scored again, against numpy in float64."""

from __future__ import annotations

import numpy as np
import pytest
from index_case import make_documents, make_queries

from leafkit.index import rescoring
from leafkit.index.rescoring import rescore, score_candidates, score_pairs

DOCUMENTS = make_documents()
QUERIES = make_queries(DOCUMENTS)


def test_rescoring_by_hand():
    documents = np.array([[1, 0], [0.6, 0.8], [0, 1]], dtype=np.float32)
    found = rescore(np.array([[0, 2.0]], dtype=np.float32), documents, np.array([[0, 1, 2]]), 2)
    assert found.positions.tolist() == [[2, 1]]
    assert np.allclose(found.scores, [[2.0, 1.6]])


@pytest.mark.parametrize(("read", "cached"), [(1, 1), (7, 100), (8192, 2**17)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scores_do_not_depend_on_the_blocks_bit_for_bit(read, cached, dtype, monkeypatch):
    generator = np.random.default_rng(0)
    rows, positions = generator.integers(len(QUERIES), size=500), generator.integers(300, size=500)
    usual = score_pairs(QUERIES, DOCUMENTS, rows, positions, dtype=dtype)
    monkeypatch.setattr(rescoring, "_READ_PAIRS", read)
    monkeypatch.setattr(rescoring, "_CACHED_NUMBERS", cached)
    again = score_pairs(QUERIES, DOCUMENTS, rows, positions, dtype=dtype)
    exact = np.einsum(
        "pd,pd->p", QUERIES[rows].astype(np.float64), DOCUMENTS[positions].astype(np.float64)
    )
    assert np.array_equal(usual, again)
    if dtype is np.float64:  # rounded once
        assert np.array_equal(usual, exact.astype(np.float32))
    else:
        assert np.allclose(usual, exact, atol=1e-6)


def test_places_without_a_document_score_last():
    positions = np.stack([np.arange(5)] * len(QUERIES))
    positions[2, 3] = -1
    expected = (QUERIES @ DOCUMENTS.T)[:, :5]
    expected[2, 3] = -np.inf
    assert np.allclose(score_candidates(QUERIES, DOCUMENTS, positions), expected, atol=1e-6)
    found = rescore(QUERIES, DOCUMENTS, positions, 5)
    assert found.positions[2, -1] == -1
    assert found.scores[2, -1] == -np.inf


def test_documents_are_prepared_before_they_are_compared():
    rows, positions = np.arange(20), np.arange(20)
    found = score_pairs(QUERIES, DOCUMENTS, rows, positions, prepare=lambda d: -2 * d)
    assert np.array_equal(found, -2 * score_pairs(QUERIES, DOCUMENTS, rows, positions))
