"""Rows of a training as arrays: the same as counting them one by one."""

from __future__ import annotations

import numpy as np
import pytest

from leafkit.data.stored.flat_tokens import flatten
from leafkit.pipeline.student.targets import Target
from leafkit.pipeline.student.train_rows import lengths_of, pairs_of, train_rows

VECTORS = np.zeros((3, 2), dtype=np.float32)
TARGETS = [
    Target(["a", "b", "c"], "document", VECTORS),
    Target(["d", "a"], "query", VECTORS[:2], repeats=2),
    Target(["e"], "query", VECTORS[:1]),
]


@pytest.mark.parametrize("role", ["document", "query", "neither", "any"])
@pytest.mark.parametrize("without", [frozenset(), frozenset("a"), frozenset("abcde")])
def test_rows_are_those_counted_one_by_one(role, without):
    def is_wanted(number, target):
        assert TARGETS[number] is target
        return role in (target.role, "any")

    expected = [
        (g, i)
        for g, target in enumerate(TARGETS)
        if is_wanted(g, target)
        for _ in range(target.repeats)
        for i, text in enumerate(target.texts)
        if text not in without
    ]
    rows = train_rows(TARGETS, is_wanted, without=without)
    assert rows.shape == (len(expected), 2)
    assert pairs_of(rows) == expected
    assert all(type(n) is int for row in pairs_of(rows) for n in row)
    token_ids = [flatten([[[7] * n for n in sizes]]) for sizes in ([1, 0, 4], [2, 5], [3])]
    assert lengths_of(token_ids, rows).tolist() == [len(token_ids[g][i]) for g, i in expected]
