"""Which queries become questions, and what pseudo-texts are drawn from."""

from __future__ import annotations

import pytest
import tiny

from leafkit.pipeline.corpus import pseudo_texts, vary_queries

QUERIES = [query for query, _ in tiny.make_pairs(60)]


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 0), (0.25, 15), (0.4, 24), (0.5, 30), (0.75, 45), (1.0, 60)]
)
def test_the_share_of_questions_is_the_one_asked_for(share, expected):
    varied = vary_queries(QUERIES, share, seed=1)
    assert len(varied) == len(QUERIES)
    changed = [(a, b) for a, b in zip(QUERIES, varied, strict=True) if a != b]
    assert len(changed) == expected
    assert all(b.endswith("?") for _, b in changed)


def test_statements_that_make_no_question_stay_as_they_are():
    assert vary_queries(["The matrix of all values.", "x"], 1.0, seed=1) == [
        "The matrix of all values.",
        "x",
    ]


def test_a_share_never_moves_when_queries_are_added():
    assert vary_queries(QUERIES, 0.25, seed=1)[:40] == vary_queries(QUERIES[:40], 0.25, seed=1)


def test_pseudo_texts_are_whole_words_of_the_vocabulary():
    encoder = tiny.make_encoder()
    texts = pseudo_texts(encoder, 50, seed=1)
    words = {word for text in texts for word in text.split()}
    assert len(texts) == 50
    assert words <= set(encoder.tokenizer.get_vocab())
    assert min(map(len, words)) >= 4
    assert texts == pseudo_texts(encoder, 50, seed=1) != pseudo_texts(encoder, 50, seed=2)
