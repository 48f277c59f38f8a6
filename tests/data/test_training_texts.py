"""What of a source trains a student, and in which role."""

from __future__ import annotations

from collections import Counter

import pytest

from leafkit.config import SourceConfig
from leafkit.core.errors import UsageError
from leafkit.data.records import Collection, Document, Query
from leafkit.data.sources import training_texts

PAIRS = Collection(
    "pairs",
    [Document("a", "an answer"), Document("b", "another", "with a title")],
    [Query("1", "a question", "train"), Query("2", "a test", "test")],
)
QUESTIONS = Collection("questions", [Document(str(i), f"what is {i}") for i in range(9)])


@pytest.mark.parametrize(
    ("take", "documents", "queries"),
    [
        ("all", ["an answer", "with a title another"], ["a question"]),
        ("queries", [], ["a question"]),
        ("documents", ["an answer", "with a title another"], []),
    ],
)
def test_a_source_of_pairs_gives_what_is_asked_of_it(take, documents, queries):
    found = training_texts(PAIRS, SourceConfig("jsonl:x", take=take), Counter())
    assert (found[0], [query.text for query in found[1]]) == (documents, queries)


def test_plain_texts_train_as_queries_and_a_limit_draws_some_of_them():
    counts: Counter[str] = Counter()
    source = SourceConfig("jsonl:x", limit=4, take="as_queries")
    documents, queries = training_texts(QUESTIONS, source, counts)
    assert documents == []
    texts = [query.text for query in queries]
    assert len(set(texts)) == 4
    assert set(texts) < {document.text for document in QUESTIONS.documents}
    assert {query.split for query in queries} == {"train"}
    assert sum(counts.values()) == 4


@pytest.mark.parametrize(("take", "role"), [("as_queries", "query"), ("documents", "document")])
def test_chosen_texts_come_in_the_order_of_the_choice(take, role):
    counts: Counter[str] = Counter()
    asked = []

    def order(texts, role, limit):
        asked.append((list(texts), role, limit))
        return [4, 1, 7][: len(texts)]

    source = SourceConfig("jsonl:x", limit=3, take=take, choose="leverage")
    documents, queries = training_texts(QUESTIONS, source, counts, order)
    assert (documents or [query.text for query in queries]) == [
        "what is 4",
        "what is 1",
        "what is 7",
    ]
    texts = [document.text for document in QUESTIONS.documents]
    assert asked[0 if role == "document" else 1] == (texts, role, 3)
    assert dict(counts) == {"texts chosen by the start model (choose=leverage) out of 9": 3}
    with pytest.raises(ValueError, match="choose=leverage, and nothing here chooses"):
        training_texts(QUESTIONS, source, counts)


@pytest.mark.parametrize(
    ("collection", "take", "what"),
    [
        (PAIRS, "as_queries", "this source has 1 train queries"),
        (QUESTIONS, "queries", "take=queries, and it has no such texts"),
        (Collection("none", [], PAIRS.queries), "documents", "take=documents, and it has no such"),
    ],
)
def test_what_a_source_cannot_give_is_refused(collection, take, what):
    with pytest.raises(UsageError, match=what):
        training_texts(collection, SourceConfig("jsonl:x", take=take), Counter())
