"""BM25 by hand."""

from __future__ import annotations

import math
from pathlib import Path

import bm25s
import numpy as np
import pytest

from leafkit.config import DataConfig
from leafkit.data.sources import read_collection
from leafkit.evaluation.bm25 import bm25_scores, search_bm25
from leafkit.evaluation.metrics import per_query_metrics

DOCUMENTS = ["red apple tree", "red red car", "green apple apple apple pie with cream", "blue sky"]


def by_hand(query: str) -> list[float]:
    """Lucene's BM25: idf = log(1 + (N - n + .5) / (n + .5)), tf / (tf + k1 (1 - b + b l / avg)), k1
    = 1.5, b = .75.
    """
    words = [d.lower().split() for d in DOCUMENTS]
    average = sum(map(len, words)) / len(words)
    scores = []
    for document in words:
        score = 0.0
        for term in query.lower().split():
            holding = sum(term in d for d in words)
            idf = math.log(1 + (len(words) - holding + 0.5) / (holding + 0.5))
            tf = document.count(term)
            score += (
                idf * tf / (tf + 1.5 * (0.25 + 0.75 * len(document) / average)) if holding else 0.0
            )
        scores.append(score)
    return scores


@pytest.mark.parametrize("query", ["red apple", "apple", "Green PIE", "sky"])
def test_scores_equal_the_formula(query):
    found = search_bm25([query], DOCUMENTS, 4)
    expected = by_hand(query)
    assert found.scores[0].tolist() == pytest.approx(sorted(expected, reverse=True), abs=1e-5)
    assert [expected[p] for p in found.positions[0]] == pytest.approx(
        found.scores[0].tolist(), abs=1e-5
    )


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


# --- scores of given candidates


@pytest.mark.parametrize(
    "query", ["red apple", "apple apple", "Green PIE", "unheard", "", "red unheard"]
)
def test_candidate_scores_equal_the_formula(query):
    found = bm25_scores([query], np.array([[2, 0, 3, 1]]), DOCUMENTS)
    assert found.dtype == np.float32
    assert found[0].tolist() == pytest.approx([by_hand(query)[i] for i in (2, 0, 3, 1)], abs=1e-5)


def test_candidate_scores_equal_bm25s_on_random_text():
    generator = np.random.default_rng(0)
    words = np.array([f"word{i}" for i in range(60)] + ["猫", "猫和狗"])

    def make_text():
        return " ".join(generator.choice(words, size=generator.integers(0, 30)))

    documents, queries = [make_text() for _ in range(200)], [make_text() for _ in range(30)]
    whole = bm25_scores(queries, np.tile(np.arange(200), (30, 1)), documents)
    ranking = search_bm25(queries, documents, 200)
    assert np.allclose(
        np.take_along_axis(whole, ranking.positions, axis=1), ranking.scores, atol=1e-5
    )
    candidates = generator.integers(200, size=(30, 5))
    assert np.array_equal(
        bm25_scores(queries, candidates, documents), np.take_along_axis(whole, candidates, axis=1)
    )
    english = [document for document in documents if document.isascii()]
    retriever = bm25s.BM25()
    retriever.index(
        bm25s.tokenize(english, stopwords=None, show_progress=False, return_ids=False),
        show_progress=False,
    )
    theirs = retriever.get_scores(["word3", "word7", "word3"])
    ours = bm25_scores(["word3 word7 word3"], np.arange(len(english))[None], english)[0]
    assert theirs.max() > 0
    assert np.allclose(ours, theirs, atol=1e-5)


def test_a_missing_candidate_has_no_score_and_an_unrelated_one_zero():
    found = bm25_scores(["sky", "red"], np.array([[3, -1, 0], [-1, -1, -1]]), DOCUMENTS)
    assert found[0, 0] > 0
    assert np.isnan(found).tolist() == [[False, True, False], [True, True, True]]
    assert found[0, 2] == 0
    assert bm25_scores([], np.zeros((0, 3)), DOCUMENTS).shape == (0, 3)
    assert bm25_scores(["red"], np.zeros((1, 0)), []).shape == (1, 0)


@pytest.mark.parametrize(
    ("candidates", "problem"),
    [
        ([[4]], "4 to 4 of 4"),
        ([[-2]], "-2 to -2 of 4"),
        ([[0], [1]], r"shape \(2, 1\) for 1 queries"),
        ([0], "shape"),
    ],
)
def test_candidates_that_do_not_fit_are_refused(candidates, problem):
    with pytest.raises(ValueError, match=problem):
        bm25_scores(["red"], np.array(candidates), DOCUMENTS)


def test_documents_without_a_word_score_zero():
    found = search_bm25(["red", ""], ["", "?", "a"], 2)
    assert found.positions.tolist() == [[0, 1], [0, 1]]
    assert not found.scores.any()
    assert bm25_scores(["red"], np.array([[1, -1, 0]]), ["", "?"])[0, [0, 2]].tolist() == [0, 0]
    one_of_two = math.log(2) / (1 + 1.5 * (0.25 + 0.75 * 2))
    assert bm25_scores(["red"], np.array([[1, 0]]), ["", "red"])[0].tolist() == [
        pytest.approx(one_of_two, abs=1e-5),
        0,
    ]


# --- scripts without spaces

CHINESE = [
    "黑豹队的防守只丢了308分。",
    "他的队友贡献了六次擒杀",
    "武汉位于长江",
]


def test_chinese_is_found_by_a_part_of_a_sentence():
    found = search_bm25(["防守丢了多少分?", "擒杀", "长江"], CHINESE, 3)
    assert found.positions[:, 0].tolist() == [0, 1, 2]
    assert (found.scores[:, 0] > 0).all()


def test_pairs_of_characters_count_beyond_the_characters():
    same_characters = ["上海 市", "海上 市"]
    scores = bm25_scores(["上海"], np.array([[0, 1]]), same_characters)[0]
    assert scores[0] > scores[1] > 0


def test_latin_words_and_numbers_inside_chinese_stay_words():
    documents = ["在NFL生涯中", "他有136次", "こんにちは"]
    assert search_bm25(["nfl", "136", "こん"], documents, 1).positions.ravel().tolist() == [0, 1, 2]


# the collections' README says .964 and .667, the best of k1 .9 to 1.5; ours has one k1
@pytest.mark.parametrize(("folder", "expected"), [("xquad_zh", 0.9648), ("scifact", 0.6613)])
def test_real_collections(shared_data: Path, folder: str, expected: float):
    collection = read_collection(f"beir:{shared_data / folder}", DataConfig())
    queries = collection.judged("test")
    ranking = search_bm25(
        [q.text for q in queries], [d.full_text for d in collection.documents], 10
    )
    ids = [q.id for q in queries], [d.id for d in collection.documents]
    assert per_query_metrics(ranking, *ids, collection.qrels, metrics=["ndcg@10"])[
        "ndcg@10"
    ].mean() == pytest.approx(expected, abs=2e-3)
