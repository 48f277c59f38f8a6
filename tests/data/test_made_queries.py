"""Titles and sentences as queries, in any language."""

from __future__ import annotations

import pytest

from leafkit.data.made_queries import make_queries_of
from leafkit.data.records import Document

LONG = " ".join(f"word{n}" for n in range(26)) + "."


@pytest.mark.parametrize(
    ("document", "made"),
    [
        (Document("a", "One two three four five. Too short.", "A title"), 2),
        (Document("a", "One two three four five. Six seven eight nine ten!", ""), 2),
        # one word is no query, 26 are none either: stretches of them are
        (Document("a", LONG, "Title"), 3),
        (Document("a", "One two three four five six seven eight nine ten.", ""), 2),
        (Document("a", "One two three four five.", ""), 1),  # too short to be cut
        (Document("a", "面包在温暖的地方会发酵而盐会减慢它发酵的速度", ""), 2),
        (Document("a", "Zażółć gęślą jaźń w nocy. A potem znowu w dzień.", "Po polsku"), 3),
        (Document("a", "面包在温暖的地方会发酵。盐会减慢发酵的速度。", "烘焙面包的基本方法"), 3),
        (Document("a", "Heading of the text\nFirst line of the text here\nx", ""), 1),
        (Document("a", "  spaced   out   words   in   lines. ", "  A   title "), 2),
        (Document("a", "", ""), 0),
        # what is too short for all of these is asked whole
        (Document("a", "iPhone 12 Pro Max", ""), 1),
        (Document("a", "Heading of the text\nx", ""), 1),
        (Document("a", "garden", "hose"), 1),
        (Document("a", "烘焙面包", ""), 1),
        # the Urdu full stop
        (Document("a", "یہ ایک چھوٹی سی کتاب ہے\u06d4 وہ ایک بڑی سی کتاب ہے\u06d4", ""), 2),
    ],
)
def test_titles_and_single_sentences(document, made):
    texts = list(make_queries_of([document], 9, seed=0))
    assert len(texts) == made
    for text in texts:
        assert text in " ".join(f"{document.title} {document.text}".split())


def test_what_has_no_parts_moves_nothing_in_the_order_of_the_others():
    documents = [
        Document(str(i), " ".join(f"Sentence {k} of document {i}." for k in range(3)))
        for i in range(20)
    ]
    alone = list(make_queries_of(documents, 90, seed=3))
    # the same chance moves as many documents that give nothing
    empty = [*documents, *(Document(f"s{i}", "") for i in range(10))]
    short = [*documents, *(Document(f"s{i}", f"tag {i}") for i in range(10))]
    expected = list(make_queries_of(empty, 90, seed=3))
    found = list(make_queries_of(short, 90, seed=3))
    assert [text for text in found if not text.startswith("tag")] == expected
    assert sorted(expected) == sorted(alone)
    # one that is short is asked before any other is twice
    assert sum(text.startswith("tag") for text in found[:30]) == 10
    assert len(found) == 70


TOKYO = [
    "Tokyo (東京) is the capital of Japan and its most populous prefecture.",
    "It lies at the head of Tokyo Bay on the Pacific coast (太平洋) of central Honshu.",
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" ".join(TOKYO), TOKYO),
        # no full stop: stretches end between words
        (
            "the head of Tokyo Bay on the Pacific coast 太平洋 of central Honshu island",
            ["the head of Tokyo Bay on the", "Pacific coast 太平洋 of central Honshu island"],
        ),
        (
            "DECnet协议完全由Digital Equipment Corporation设计。盐会减慢发酵的速度。",
            ["DECnet协议完全由Digital Equipment Corporation设计。", "盐会减慢发酵的速度。"],
        ),
        (
            "PyTorchとTensorFlowの違いを説明します。東京は日本の首都です。",
            ["PyTorchとTensorFlowの違いを説明します。", "東京は日本の首都です。"],
        ),
        ("ฉันใช้ Python และ TensorFlow ทุกวัน", ["ฉันใช้ Python และ", "TensorFlow ทุกวัน"]),
    ],
)
def test_names_in_another_script_make_no_other_language_of_a_text(text, expected):
    assert list(make_queries_of([Document("a", text)], 9, seed=0)) == expected


def test_every_document_is_asked_for_before_one_is_twice():
    documents = [
        Document(str(i), " ".join(f"Sentence {k} of document {i}." for k in range(9)), f"title {i}")
        for i in range(20)
    ]
    first = list(make_queries_of(documents, 20, seed=3))
    assert sorted(first) == sorted(document.title for document in documents)
    second = list(make_queries_of(documents, 40, seed=3))
    assert second[:20] == first
    assert len({text.rpartition(" ")[2] for text in second[20:]}) == 20
    assert (
        list(make_queries_of(documents, 40, seed=3))
        == second
        != list(make_queries_of(documents, 40, seed=4))
    )


def test_a_text_of_two_documents_is_made_once():
    documents = [Document(i, "The same sentence in both documents.", "") for i in "ab"]
    assert list(make_queries_of(documents, 9, seed=0)) == ["The same sentence in both documents."]


def test_each_query_names_the_document_that_it_was_made_of() -> None:
    documents = [
        Document("a", "Bread rises when it is warm. Nobody else says this here."),
        Document("b", "Bread rises when it is warm.", "A title"),
    ]
    found = make_queries_of(documents, 9, seed=0)
    assert found["Nobody else says this here."] == 0
    assert found["A title"] == 1
    assert found["Bread rises when it is warm."] in (0, 1)
