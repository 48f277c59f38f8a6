"""BM25 by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from leafkit.search.bm25 import search_bm25

DOCUMENTS = ["red apple tree", "red red car", "green apple apple apple pie with cream", "blue sky"]


def by_hand(query: str) -> list[float]:
    """Lucene's BM25: idf = log(1 + (N - n + .5) / (n + .5)), tf / (tf + k1 (1 - b + b l / avg)), k1 = 1.5, b = .75."""
    words = [d.lower().split() for d in DOCUMENTS]
    average = sum(map(len, words)) / len(words)
    scores = []
    for document in words:
        score = 0.0
        for term in query.lower().split():
            holding = sum(term in d for d in words)
            idf = math.log(1 + (len(words) - holding + 0.5) / (holding + 0.5))
            tf = document.count(term)
            score += idf * tf / (tf + 1.5 * (0.25 + 0.75 * len(document) / average)) if holding else 0.0
        scores.append(score)
    return scores


@pytest.mark.parametrize("query", ["red apple", "apple", "Green PIE", "sky"])
def test_scores_equal_the_formula(query):
    found = search_bm25([query], DOCUMENTS, 4)
    expected = by_hand(query)
    assert found.scores[0].tolist() == pytest.approx(sorted(expected, reverse=True), abs=1e-5)
    assert [expected[p] for p in found.positions[0]] == pytest.approx(found.scores[0].tolist(), abs=1e-5)


def test_every_query_has_its_own_row():
    found = search_bm25(["car", "cream", "sky"], DOCUMENTS, 1)
    assert found.positions.tolist() == [[1], [2], [3]]


def test_k_is_at_most_the_number_of_documents():
    assert search_bm25(["red"], DOCUMENTS, 100).positions.shape == (1, 4)


@pytest.mark.parametrize("query", ["unheard", "", "?"])
def test_a_query_without_known_words_scores_zero_everywhere(query):
    found = search_bm25([query, "sky"], DOCUMENTS, 4)
    assert np.array_equal(found.scores[0], np.zeros(4, dtype=np.float32))
    assert found.positions[1][0] == 3
