"""Pairs in memory as training rows: equal texts, known answers, and every form that is refused."""

from __future__ import annotations

import doctest

import pytest

from leafkit.core.errors import UsageError
from leafkit.data import pair_records
from leafkit.data.pair_records import rows_of_pairs


def test_doctests():
    assert doctest.testmod(pair_records).attempted > 0
    assert doctest.testmod(pair_records).failed == 0


def test_a_row_per_positive_equal_texts_once():
    rows = rows_of_pairs(
        "mine",
        [
            {"query": "a", "positives": ["x", "y"], "negatives": ["z", "x", "z"]},
            {"query": "a", "positive": "z"},
            {"query": "b", "positive": "x", "negatives": ["y", "b"], "instruction": "find"},
        ],
    )
    assert rows.documents == ["x", "y", "z", "b"]
    assert rows.queries == ["a", "a", "a", "b"]
    assert rows.positives == [0, 1, 2, 0]
    assert rows.query_ids == [0, 0, 0, 1]
    assert rows.relevant == [frozenset({0, 1, 2}), frozenset({0})]
    assert rows.negatives == [[], [], [], [1]]
    assert rows.instructions == ["", "", "", "find"]
    assert rows.counts == {"negatives that some row calls relevant left out": 5}


def test_texts_are_cleaned_and_counted():
    rows = rows_of_pairs("mine", [{"query": " a\0b ", "positive": "\ud800x"}])
    assert rows.queries == ["a b"]
    assert rows.documents == ["?x"]
    assert sum(rows.counts.values()) == 2


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([], "there is no training pair"),
        (["text"], "pair 0 is a str"),
        ([{"query": "a"}], "one of positive and positives is needed"),
        ([{"query": "a", "positive": "b", "positives": ["b"]}], "one of positive and positives"),
        ([{"query": "a", "positive": "b", "negs": []}], r"unknown keys \['negs'\]"),
        ([{"query": "a", "positives": "b"}], "positives is not text"),
        ([{"query": 3, "positive": "b"}], "query is not text"),
        ([{"query": "a", "positive": None}], "positives is not text"),
        ([{"query": "a", "positive": " "}], "positives has an empty text"),
        ([{"query": "a", "positive": "b"}, {"query": "", "positive": "b"}], "pair 1: query has an"),
        ([{"query": "a", "positives": []}], "pair 0 has no positive"),
        ([{"query": "a", "positive": "b", "negatives": [1]}], "negatives is not text"),
    ],
)
def test_a_row_of_another_form_is_refused_by_its_number(pairs, message):
    with pytest.raises(UsageError, match=message) as caught:
        rows_of_pairs("mine", pairs)
    assert '"query"' in caught.value.hint
