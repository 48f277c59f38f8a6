"""Tables of a comparison: a column per run."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from report_page import HOSTILE, read_report

from leafkit.report import side_by_side
from leafkit.report.side_by_side import ABSENT, Run


@pytest.fixture
def runs(full: dict[str, Any]) -> list[Run]:
    """The whole run, one without its mean and checks, and an empty one."""
    short = copy.deepcopy(full)
    del short["inherit"], short["bench"]["macro"]
    short["recipe"]["seed"] = 7
    parts = [full, short, {}]
    return [Run(f"run {n}", read_report(data), n) for n, data in enumerate(parts, 1)]


def test_the_mean_comes_last_and_what_a_run_lacks_is_a_dash(runs: list[Run]) -> None:
    found = side_by_side.retrieval(runs)
    assert [c.name for c in found] == ["pydocs", "pydocs-out-of-domain", "all collections"]
    groups = dict(found[2].groups)
    assert groups["nDCG@10"][0] == ["teacher", "0.543 [0.523, 0.563]", ABSENT, ABSENT]
    assert list(groups) == ["nDCG@10", "share of the teacher"]
    assert found[0].groups[2][1][0] == ["queries", "1,109", "1,109", ABSENT]
    assert [c.warning for c in found] == ["", "", ""]


def test_verdicts_are_counted_where_there_is_a_grid(runs: list[Run]) -> None:
    rows = {row[0]: row[1:] for row in side_by_side.outcomes(runs)}
    assert rows["undecided"] == ["12", ABSENT, ABSENT]
    assert rows["collection"] == ["pydocs", ABSENT, ABSENT]
    assert side_by_side.disagreements(runs) == []


def test_recipes_are_compared_among_runs_that_have_one(runs: list[Run]) -> None:
    assert side_by_side.recipes(runs) == [["seed", "42", "7", ABSENT]]
    assert side_by_side.recipes(runs[1:]) is None


def test_the_head_of_a_column_is_a_name_with_its_color() -> None:
    head = Run(HOSTILE, read_report({}), 3).head
    assert "back-3" in head
    assert "<script" not in head
