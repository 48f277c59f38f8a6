"""``benchmarks/speed.py``: bars, and the check of ratios against an earlier run."""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from speed import Row, worse_than

RATE = Row("training, texts/s (60 tokens each)", 100.0, "trainer", 20.0, (5.0, 4.5, 5.5), bar=5.0)
COST = Row(
    "one query, p50 ms", 1.0, "encode", 8.0, (0.125, 0.12, 0.13), bar=0.125, is_less_better=True
)
VALUE = Row("static, p50 ms", 0.05, bar=0.15, is_less_better=True)


@pytest.mark.parametrize(
    ("row", "reached"),
    [
        (RATE, True),
        (replace(RATE, bar=5.01), False),
        (COST, True),
        (replace(COST, bar=0.124), False),
        (VALUE, True),
        (replace(VALUE, bar=0.04), False),
        (replace(RATE, bar=None), None),
    ],
)
def test_bars(row, reached):
    assert row.reaches_bar() is reached
    assert ("**missed**" in row.to_markdown()) is (reached is False)


@pytest.mark.parametrize(
    ("row", "ratio", "is_worse"),
    [
        (RATE, (5.0, 4.5, 5.5), False),
        (RATE, (4.1, 4.0, 4.2), False),
        (RATE, (4.0, 3.9, 4.1), True),
        (RATE, (9.0, 8.0, 10.0), False),
        (COST, (0.142, 0.14, 0.15), False),
        (COST, (0.144, 0.14, 0.15), True),
        (COST, (0.05, 0.04, 0.06), False),
    ],
)
def test_a_ratio_counts_as_worse_beyond_the_worst_earlier_turn(row, ratio, is_worse):
    assert bool(worse_than([replace(row, ratio=ratio)], [asdict(row)])) is is_worse


def test_times_and_rows_that_were_not_there_are_not_compared():
    slower = replace(RATE, what="training, texts/s (70 tokens each)", ours=1.0, theirs=0.2)
    assert worse_than([slower, replace(VALUE, ours=9.0)], [asdict(RATE), asdict(VALUE)]) == []
    assert worse_than([replace(RATE, ratio=(1.0, 1.0, 1.0))], [asdict(COST)]) == []
