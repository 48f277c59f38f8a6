"""Records: cleaning, splits, duplicates, and a collection that survives being saved and read."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from leafkit.data.records import (
    SPLITS,
    Collection,
    Document,
    Query,
    clean_text,
    drop_duplicates,
    split_of,
)


def _collection() -> Collection:
    return Collection(
        name="home",
        documents=[
            Document("d1", "line one\nline two\u2028three", "a title"),
            Document("d2", "ü 語 \U0001f600 \\"),
            Document("d3", "x"),
        ],
        queries=[
            Query("q1", "first", "train", "Find: ü"),
            Query("q2", "second\r\n", "test"),
            Query("q3", "third", "test"),
            Query("q4", "fourth"),
        ],
        qrels={
            "q1": {"d2": 1, "d1": 2},
            "q2": {"d1": 0, "d3": -1},
            "q3": {"d3": 1, "d1": 0, "gone": 1},
        },
        counts={"bad rows skipped": 3},
        negatives={"q1": ["d3"], "q3": ["d1", "d2"]},
        soft={"q1": {"d2": 0.5, "d3": -1.25}},
    )


def test_round_trip(tmp_path: Path) -> None:
    collection = _collection()
    collection.save(tmp_path)
    assert Collection.load(tmp_path) == collection
    assert Collection.load(tmp_path).fingerprint() == collection.fingerprint()


def test_empty_round_trip(tmp_path: Path) -> None:
    Collection("none", []).save(tmp_path)
    assert Collection.load(tmp_path) == Collection("none", [])


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.documents.reverse(),
        lambda c: c.documents.append(Document("d4", "y")),
        lambda c: c.queries.pop(),
        lambda c: c.qrels["q1"].update(d2=2),
        lambda c: c.documents.__setitem__(2, Document("d3", "x", "title")),
        lambda c: c.queries.__setitem__(0, Query("q1", "first", "test", "Find: ü")),
        lambda c: c.queries.__setitem__(0, Query("q1", "first", "train")),
        lambda c: c.negatives["q1"].append("d1"),
        lambda c: c.negatives["q3"].reverse(),
        lambda c: c.soft["q1"].update(d3=1.25),
        lambda c: c.soft.pop("q1"),
    ],
)
def test_fingerprint_sees_every_change(change: object) -> None:
    collection = _collection()
    change(collection)
    assert collection.fingerprint() != _collection().fingerprint()


def test_scores_without_negatives_survive_too(tmp_path: Path) -> None:
    collection = _collection()
    collection.negatives = {"q3": ["d1"]}
    collection.save(tmp_path)
    assert Collection.load(tmp_path).soft == {"q1": {"d2": 0.5, "d3": -1.25}}


def test_fingerprint_is_of_content_alone() -> None:
    collection = _collection()
    collection.counts, collection.name = {}, "other"
    assert collection.fingerprint() == _collection().fingerprint()


def test_judged_needs_judgments_of_that_split_and_one_of_a_relevant_document() -> None:
    # q2 has only irrelevant ones and counts with 0, as in mteb; q4 has none at all
    collection = _collection()
    assert [q.id for q in collection.judged("test")] == ["q2", "q3"]
    assert [q.id for q in _collection().judged("train")] == ["q1"]
    assert _collection().judged("validation") == []
    del collection.qrels["q3"]
    assert collection.judged("test") == []


def test_pairs_give_positions_of_relevant_documents() -> None:
    assert [(q.id, positions) for q, positions in _collection().pairs("train")] == [("q1", [1, 0])]
    assert [(q.id, positions) for q, positions in _collection().pairs("test")] == [("q3", [2])]


@pytest.mark.parametrize(
    ("title", "text", "expected"), [("t", "x", "t x"), ("", "x", "x"), ("t", "", "t"), ("", "", "")]
)
def test_full_text(title: str, text: str, expected: str) -> None:
    assert Document("d", text, title).full_text == expected


@pytest.mark.parametrize(
    ("text", "expected", "counted"),
    [
        ("  plain  ", "plain", None),
        ("\ufeffmark", "mark", "byte order marks removed"),
        ("\ufeff\ufeff mark", "mark", "byte order marks removed"),
        ("nul\0nul", "nul nul", "texts with NUL characters repaired"),
        ("lone \ud800 surrogate", "lone ? surrogate", "texts with lone surrogates repaired"),
        ("\udcff", "?", "texts with lone surrogates repaired"),
        ("\U0001f600 whole pair", "\U0001f600 whole pair", None),
        ("in \ufeff side", "in \ufeff side", None),
        ("\0", "", "texts with NUL characters repaired"),
        ("", "", None),
    ],
)
def test_clean_text(text: str, expected: str, counted: str | None) -> None:
    counts: Counter[str] = Counter()
    assert clean_text(text, counts) == expected
    assert counts == (Counter({counted: 1}) if counted else Counter())
    clean_text(text, counts).encode("utf-8")


def test_split_of_is_frozen() -> None:
    # A change of these lines moves test queries into training, and old figures mean something else.
    splits = {i: split_of(f"numpy.linalg.f{i}") for i in range(40)}
    assert {i: split for i, split in splits.items() if split != "train"} == {
        9: "validation",
        25: "test",
    }
    shares = Counter(split_of(f"name {i}") for i in range(20_000))
    assert shares.keys() == set(SPLITS)
    assert 0.09 < shares["test"] / 20_000 < 0.11
    assert 0.025 < shares["validation"] / 20_000 < 0.035


def test_split_of_takes_any_text() -> None:
    assert {split_of("\ud800"), split_of("")} <= set(SPLITS)


def test_drop_duplicates_keeps_the_first_and_says_who_stands_for_whom() -> None:
    counts: Counter[str] = Counter()
    documents = [
        Document("a", "The Text"),
        Document("b", "the text"),
        Document("c", "Text", "The"),
        Document("d", "other"),
        Document("e", "The  Text"),
        Document("f", "The Text"),
    ]
    kept, stands_for = drop_duplicates(documents, counts)
    assert [d.id for d in kept] == ["a", "b", "d", "e"]
    assert stands_for == {"c": "a", "f": "a"}
    assert counts == {"duplicate documents dropped": 2}


@pytest.mark.parametrize(
    ("policy", "expected"),
    [("always", [0, 1, 2, -1, -1]), ("auto", [0, 1, -1, -1, -1]), ("never", [-1] * 5)],
)
def test_own_documents(policy: str, expected: list[int]) -> None:
    """Its own text, its own text behind a title, a number in common, a judged one, none; unjudged
    queries are left out.
    """
    documents = [
        Document("1", "The  SAME\ntext"),
        Document("2", "text", "Title"),
        Document("3", "other"),
        Document("4", "judged"),
        Document("6", "unjudged"),
    ]
    queries = [
        Query("1", "the same text "),
        Query("2", "title TEXT"),
        Query("3", "query"),
        Query("4", "judged"),
        Query("5", "other"),
    ]
    queries += [Query("6", "unjudged"), Query("1", "the same text", "train")]
    qrels = {q: {"3": 1} for q in ("1", "2", "4", "5")} | {"3": {"1": 1}}
    qrels["4"]["4"] = 0
    assert Collection("c", documents, queries, qrels).own_documents("test", policy) == expected


def test_an_unknown_policy_for_own_documents() -> None:
    with pytest.raises(ValueError, match="'sometimes' is not one of auto, always, never"):
        _collection().own_documents("test", "sometimes")
