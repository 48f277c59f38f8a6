"""Statements as questions, words as pseudo-texts."""

from __future__ import annotations

import pytest

from leafkit.data.augment import as_question, make_pseudo_texts

OPENINGS = ("how do I ", "how to ", "how can I ", "which function can ")


def _core(question: str | None) -> str | None:
    if question is None:
        return None
    opening = next(o for o in OPENINGS if question.startswith(o))
    assert question.endswith("?")
    return question.removeprefix(opening).removesuffix("?")


@pytest.mark.parametrize(
    ("statement", "core"),
    [
        ("Compute the inverse of a matrix.", "compute the inverse of a matrix"),
        ("Computes the inverse of a matrix.", "compute the inverse of a matrix"),
        ("Applies a filter twice.", "apply a filter twice"),
        ("Matches the pattern greedily", "match the pattern greedily"),
        ("Passes arguments on. Nothing else happens.", "pass arguments on"),
        ("Process the queue now.", "process the queue now"),
        ("Fixes the broken links", "fix the broken links"),
        ("Returns True if the file exists.", "check if the file exists"),
        ("Return true if the file exists", "check if the file exists"),
        ("Sort numbers in v1.2 order.", "sort numbers in v1.2 order"),
    ],
)
def test_verbs_become_questions(statement: str, core: str) -> None:
    assert _core(as_question(statement, 0)) == core


@pytest.mark.parametrize(
    "statement",
    [
        "A matrix of numbers.",
        "The inverse of a matrix.",
        "Sort numbers",
        "",
        "...",
        "Mapping of keys to values.",
        "Deprecated since version 3.",
        "Quickly sort all rows.",
        "Iterator over all rows.",
        "Class that holds rows.",
        "Rows of the matrix.",
        "3 rows are kept.",
        "`x` is kept here.",
        "Wrapper for the C function.",
        "Sorts is a word.",
    ],
)
def test_anything_else_stays_a_statement(statement: str) -> None:
    assert as_question(statement, 0) is None


def test_the_opening_depends_on_text_and_seed_alone() -> None:
    statements = [f"Compute the value number {i}." for i in range(200)]
    questions = [as_question(s, 1) for s in statements]
    assert questions == [as_question(s, 1) for s in reversed(statements)][::-1]
    assert questions != [as_question(s, 2) for s in statements]
    counts = [sum(q.startswith(o) for q in questions) for o in OPENINGS]
    assert sum(counts) == 200
    assert min(counts) > 25


WORDS = [f"word{i}" for i in range(50)]


def test_pseudo_texts_are_words_of_the_vocabulary() -> None:
    texts = make_pseudo_texts(WORDS, 500, seed=0)
    assert len(texts) == 500
    assert len(set(texts)) == 500
    lengths = {len(text.split()) for text in texts}
    assert lengths == set(range(2, 13))
    for text in texts:
        words = text.split()
        assert set(words) <= set(WORDS)
        assert len(set(words)) == len(words)


def test_pseudo_texts_are_a_function_of_the_seed() -> None:
    assert make_pseudo_texts(WORDS, 20, 3) == make_pseudo_texts(WORDS, 20, 3)
    assert make_pseudo_texts(WORDS, 20, 3) != make_pseudo_texts(WORDS, 20, 4)
    assert make_pseudo_texts(WORDS, 20, 3)[:5] == make_pseudo_texts(WORDS, 5, 3)


def test_no_words_or_no_texts() -> None:
    assert make_pseudo_texts([], 5, 0) == []
    assert make_pseudo_texts(WORDS, 0, 0) == []
