"""Which queries calibrate a router: none that the student has seen, where there are others."""

from __future__ import annotations

import doctest
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from leafkit.core.errors import UsageError
from leafkit.data.records import Collection, Document, Query
from leafkit.pipeline.ladder import asked
from leafkit.pipeline.ladder.asked import FEWEST, find_unseen, load_questions
from leafkit.pipeline.student.leave_out import leave_out
from leafkit.pipeline.student.targets import Target, hash_contents
from leafkit.pipeline.student.unjudged_test_set import choose_held_out, unseen_texts
from leafkit.results.agreement import HELD_OUT, SEEN
from leafkit.results.ladder import JUDGED

MODEL: Any = SimpleNamespace(encoder=None, prompt=lambda role: "find: ")
TEACHER: Any = SimpleNamespace(model=MODEL, name="t")


def test_doctests():
    assert doctest.testmod(asked).failed == 0


def target(*texts: str, role: str = "query") -> Target:
    return Target(list(texts), role, np.zeros((len(texts), 4)))


def test_a_text_that_trains_in_any_role_is_seen():
    queries = [Query(str(i), text) for i, text in enumerate(["one", "two", "three", "four"])]
    targets = [
        target("a document", "TWO ", role="document"),
        target("find: three", role="prompted"),  # under an instruction of its own
        target("fourth"),
    ]
    assert find_unseen(queries, targets, MODEL) == [0, 3]
    assert find_unseen(queries, [], MODEL) == [0, 1, 2, 3]
    assert find_unseen(queries, targets, MODEL, also=["One"]) == [3]


@pytest.fixture
def collection():
    """Of 40 judged queries."""
    count = FEWEST + 10
    queries = [Query(f"q{i}", f"question {i}", "test", f"do {i}") for i in range(count)]
    documents = [Document(f"d{i}", f"text {i}") for i in range(count)]
    return Collection("home", documents, queries, {f"q{i}": {f"d{i}": 1} for i in range(count)})


@pytest.fixture
def load(monkeypatch, collection):
    """Loads the questions of 40 judged queries, of which so many train."""
    texts: list[str] = []

    def load_vectors(run, model, name, wanted, **others):
        texts.extend(wanted)
        assert others["role"] == "query"
        return np.arange(len(wanted))[:, None] * np.ones(4)

    monkeypatch.setattr(asked, "load_vectors", load_vectors)
    recipe = SimpleNamespace(
        bench=SimpleNamespace(split="test"),
        data=SimpleNamespace(exclude_self="auto", max_query_tokens=32),
        ladder=SimpleNamespace(promises=[0.9]),
        student=SimpleNamespace(question_ratio=0.0),
    )

    def load(num_seen: int, question_ratio: float = 0.0):
        recipe.student.question_ratio = question_ratio
        texts.clear()
        targets = [target(*(f"Question  {i}" for i in range(num_seen)))]
        found = load_questions(
            SimpleNamespace(recipe=recipe),  # type: ignore[arg-type]
            None,  # type: ignore[arg-type]
            TEACHER,
            SimpleNamespace(collection=collection),  # type: ignore[arg-type]
            targets=targets,
            trained=hash_contents(targets),
            has_others=True,
        )
        assert texts == found.texts
        return found

    return load


def test_judged_queries_that_train_calibrate_nothing(load):
    found = load(7)
    assert (found.training, found.relevance) == (HELD_OUT, JUDGED)
    assert [query.id for query in found.queries] == [f"q{i}" for i in range(7, FEWEST + 10)]
    assert len(found.vectors) == len(found.own) == len(found.queries)


def test_queries_that_train_rewritten_as_questions_are_seen(load, collection):
    """As texts they are not among the targets."""
    collection.queries.extend(Query(f"t{i}", f"Question {i}", "train") for i in range(5))
    assert len(load(0).queries) == FEWEST + 10
    assert len(load(0, question_ratio=0.5).queries) == FEWEST + 5


def test_where_too_few_are_unseen_all_are_asked_and_it_is_said(load, caplog):
    with caplog.at_level("INFO", logger="leafkit"):
        found = load(11)
    assert (found.training, len(found.queries)) == (SEEN, FEWEST + 10)
    assert "11 of 40 the student has seen in training" in caplog.text


def test_queries_are_asked_without_instructions_of_their_own(load):
    """As a server asks them."""
    assert {query.instruction for query in load(0).queries} == {""}


def test_a_student_of_other_words_is_refused(monkeypatch):
    """Few judged queries of one split held nothing out of its training; by the name of another
    split, which has none, documents would be held out that it has seen.
    """
    monkeypatch.setattr(asked, "load_vectors", lambda run, *_, **__: np.ones((FEWEST, 4)))
    monkeypatch.setattr(asked, "teachers_own", lambda *_: None)
    count = 20 * FEWEST
    documents = [Document(f"d{i}", f"text {i}") for i in range(count)]
    queries = [Query("q", "a question", "test")]
    collection = Collection("home", documents, queries, {"q": {"d0": 1}})
    recipe = SimpleNamespace(
        bench=SimpleNamespace(split="validation"), data=SimpleNamespace(max_query_tokens=32)
    )

    targets = [target(*(document.full_text for document in documents), role="document")]

    def load(trained: Sequence[str]):
        return load_questions(
            SimpleNamespace(recipe=recipe),  # type: ignore[arg-type]
            None,  # type: ignore[arg-type]
            TEACHER,
            SimpleNamespace(collection=collection),  # type: ignore[arg-type]
            targets=targets,
            trained=trained,
            has_others=True,
        )

    held_out = unseen_texts(choose_held_out(collection, "validation", TEACHER))
    assert len(held_out) == FEWEST
    trained = leave_out(targets, held_out)
    assert load(hash_contents(trained)).training == HELD_OUT
    as_many = leave_out(targets, frozenset(targets[0].texts[:FEWEST]))
    assert len(as_many[0].texts) == len(trained[0].texts)
    for others in (targets, as_many):
        with pytest.raises(UsageError, match="learned from other texts") as refused:
            load(hash_contents(others))
        assert "seed" in refused.value.hint
    with pytest.raises(UsageError, match="learned from other texts"):
        load(())
