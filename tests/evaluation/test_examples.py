"""Samples, lost queries and the list for the scatter plot, on planted rankings."""

from __future__ import annotations

import numpy as np
import pytest

from leafkit.data.records import Collection, Document, Query
from leafkit.evaluation.examples import MAX_QUERIES, NUM_LOST, list_lost, list_queries, show_samples
from leafkit.index.ranking import Ranking
from leafkit.results import QueryScores

NUM = 15


@pytest.fixture
def collection() -> Collection:
    """Query i is answered by document i; the text of a document is long."""
    documents = [Document(f"d{i}", f"text {i} " * 60) for i in range(NUM)]
    queries = [Query(f"q{i}", f"ask {i}") for i in range(NUM)] + [
        Query("train", "asked before", "train")
    ]
    return Collection(
        "planted",
        documents,
        queries,
        {f"q{i}": {f"d{i}": 1, "d0": 0} for i in range(1, NUM)} | {"q0": {"d0": 2}},
    )


def ranking(shift: int) -> Ranking:
    """Document (i + shift) % NUM first for query i, the next ones after it."""
    positions = (np.arange(NUM)[:, None] + shift + np.arange(7)) % NUM
    return Ranking(positions, np.tile(np.linspace(1, 0, 7, dtype=np.float32), (NUM, 1)))


def test_samples_show_five_documents_of_both_systems(collection):
    rankings = {"teacher": ranking(0), "asymmetric": ranking(3), "symmetric": ranking(1)}
    samples = show_samples(collection, "test", rankings, num_samples=3, seed=1)
    assert len(samples) == 3
    for sample in samples:
        assert len(sample.teacher) == len(sample.student) == 5
        assert (sample.teacher[0].id,) == sample.relevant
        assert [hit.relevant for hit in sample.teacher] == [True, False, False, False, False]
        assert sample.student[0].id == f"d{(int(sample.relevant[0][1:]) + 3) % NUM}"
        assert all(len(hit.text) == 200 for hit in sample.student)
    assert samples == show_samples(collection, "test", rankings, num_samples=3, seed=1)
    assert samples != show_samples(collection, "test", rankings, num_samples=3, seed=2)
    assert len(show_samples(collection, "test", rankings, num_samples=1000, seed=1)) == NUM


def test_unfilled_places_are_not_shown(collection):
    short = Ranking(np.where(np.arange(7) < 2, ranking(0).positions, -1), ranking(0).scores)
    (sample,) = show_samples(collection, "test", {"teacher": short}, num_samples=1, seed=0)
    assert len(sample.teacher) == 2


def test_the_largest_losses_come_first_and_gains_never(collection):
    rankings = {"teacher": ranking(0), "asymmetric": ranking(1)}
    teacher, student = np.ones(NUM), np.linspace(0, 1.4, NUM)
    lost = list_lost(collection, "test", rankings, {"teacher": teacher, "asymmetric": student})
    assert [row.id for row in lost] == [f"q{i}" for i in range(NUM_LOST)]
    third = lost[3]
    assert (third.id, third.query, third.relevant) == ("q3", "ask 3", ("d3",))
    assert (third.teacher_ndcg, third.student_ndcg) == (1.0, pytest.approx(0.3))
    assert (third.teacher[0].id, third.student[0].id) == ("d3", "d4")
    evenly = {"teacher": teacher, "asymmetric": teacher - 0.5}
    found = list_lost(collection, "test", rankings, evenly)
    assert [row.id for row in found] == [f"q{i}" for i in range(NUM_LOST)]
    equal = {"teacher": teacher, "asymmetric": teacher}
    assert list_lost(collection, "test", rankings, equal) == ()
    assert list_lost(collection, "test", rankings, {"teacher": teacher}) == ()


def test_the_list_of_queries_keeps_their_order_and_takes_a_sample_of_many():
    queries = [Query(f"q{i}", f"ask {i}") for i in range(MAX_QUERIES + 500)]
    values = {
        "teacher": np.arange(len(queries)) / 1e4,
        "symmetric": np.zeros(len(queries)),
        "bm25": np.ones(len(queries)),
    }
    found = list_queries(queries, values, seed=1)
    assert set(found.ndcg) == {"teacher", "symmetric"}
    columns = (found.ids, found.texts, *found.ndcg.values())
    assert [len(column) for column in columns] == [MAX_QUERIES] * 4
    numbers = [int(name[1:]) for name in found.ids]
    assert numbers == sorted(numbers)
    assert found.ndcg["teacher"] == tuple(n / 1e4 for n in numbers)
    assert found.texts == tuple(f"ask {n}" for n in numbers)
    assert found == list_queries(queries, values, seed=1)
    assert found.ids != list_queries(queries, values, seed=2).ids
    assert list_queries(queries[:3], {"teacher": np.ones(3)}, 0) == QueryScores(
        ids=("q0", "q1", "q2"),
        texts=("ask 0", "ask 1", "ask 2"),
        ndcg={"teacher": (1.0, 1.0, 1.0)},
    )
