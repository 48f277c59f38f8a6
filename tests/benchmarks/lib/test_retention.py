"""What a student keeps of its teacher, and how two students differ."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))
from lib.retention import Retention, mean_of_seeds, points, verdict

from leafkit.evaluation.bootstrap import Bootstrap


@pytest.fixture
def teacher() -> dict[str, np.ndarray]:
    chooser = np.random.default_rng(0)
    return {"a": chooser.beta(2, 1, 80), "b": chooser.beta(1, 2, 40)}


def scaled(values, **by):
    return {name: values[name] * factor for name, factor in by.items()}


def test_a_constant_share_has_no_uncertainty(teacher):
    kept = Retention(teacher, ["a", "b"], 200)
    found = kept.of(scaled(teacher, a=0.9, b=0.5))
    assert (found.value, found.low, found.high) == pytest.approx((0.7, 0.7, 0.7))
    assert found.n == 120


def test_one_collection_is_the_library_s_own_interval(teacher):
    student = {"a": np.clip(teacher["a"] + np.random.default_rng(1).normal(0, 0.2, 80), 0, 1)}
    found = Retention(teacher, ["a"], 300).of(student)
    assert found == Bootstrap(80, 300, 42).ratio(student["a"], teacher["a"])


def test_differences_are_paired(teacher):
    noise = np.random.default_rng(2).normal(0, 0.3, 80)
    first, second = {"a": teacher["a"] + noise}, {"a": teacher["a"] * 0.98 + noise}
    kept = Retention(teacher, ["a"], 300)
    gap = kept.difference(first, second)
    assert gap.value == pytest.approx(0.02)
    assert gap.high - gap.low < 1e-9  # the noise is common to both
    assert kept.of(first).high - kept.of(first).low > 0.05
    assert points(gap) == "+2.0 [+2.0, +2.0]"
    assert [verdict(kept.difference(*pair)) for pair in ((first, second), (second, first))] == [
        "better",
        "worse",
    ]
    assert verdict(kept.difference(first, first)) == "no difference"


def test_collections_count_alike_whatever_their_size(teacher):
    kept = Retention(teacher, ["a", "b"], 200)
    gap = kept.difference(scaled(teacher, a=1.0, b=1.0), scaled(teacher, a=1.0, b=0.9))
    assert gap.value == pytest.approx(0.05)


def test_seeds_are_averaged_query_by_query():
    found = mean_of_seeds([{"a": [0.0, 1.0]}, {"a": [1.0, 1.0]}])
    np.testing.assert_allclose(found["a"], [0.5, 1.0])
