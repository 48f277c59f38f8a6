"""What a ladder says in tables, on its page and in its file."""

from __future__ import annotations

from dataclasses import replace

import pytest

from leafkit.core.errors import LeafkitError
from leafkit.report.ladder import draw_frontier, render_ladder
from leafkit.results import (
    CurvePoint,
    Interval,
    Ladder,
    LossPredictor,
    Machine,
    PromiseFigures,
    RungFigures,
)
from leafkit.results.ladder import JUDGED, TEACHERS_OWN


def interval(value: float) -> Interval:
    return Interval(value, value - 0.05, value + 0.05, 100)


def rung(name: str, kept: float, milliseconds: float) -> RungFigures:
    return RungFigures(
        name,
        f"{name}-1",
        1000,
        interval(0.5 * kept),
        interval(kept),
        milliseconds / 2,
        milliseconds,
    )


LADDER = Ladder(
    collection="home <b>grown</b>",
    relevance=JUDGED,
    asked_with="judged test queries",
    space="abc",
    index="hnsw",
    setting="ef_search=256",
    num_documents=1000,
    num_calibration=100,
    num_verification=100,
    num_learning=500,
    rungs=(rung("table", 0.8, 1.0), rung("student", 0.95, 5.0), rung("teacher", 1.0, 50.0)),
    route=("table", "student", "teacher"),
    predictors=(
        LossPredictor("table", "", 0.2, (0.1,), (1.0,), (2.0,)),
        LossPredictor("student", "table", 0.1, (0.1,), (1.0,), (2.0,)),
    ),
    promises=(
        PromiseFigures(
            0.95,
            0.1,
            0.953,
            interval(0.97),
            interval(0.25),
            {"table": 0.5, "student": 0.4, "teacher": 0.1},
            interval(0.96),
            Interval(0.01, -0.02, 0.04, 100),
            200,
        ),
        PromiseFigures(
            0.99,
            None,
            None,
            Interval(1.0, 1.0, 1.0, 100),
            Interval(1.0, 1.0, 1.0, 100),
            {"table": 0.0, "student": 0.0, "teacher": 1.0},
            None,
            None,
            620,
        ),
    ),
    curve=(CurvePoint(0.02, interval(0.8)), CurvePoint(1.12, interval(1.0))),
    machine=Machine("a processor", 2, 1, 8.0, 1.0, "cpu", "float32", ""),
)


def test_it_is_read_as_it_was_written(tmp_path):
    LADDER.save(tmp_path / "ladder.json")
    assert Ladder.load(tmp_path / "ladder.json") == LADDER


def test_a_promise_that_is_moved_in_the_file_is_noticed(tmp_path):
    path = tmp_path / "ladder.json"
    LADDER.save(path)
    path.write_text(path.read_text().replace('"threshold": 0.1', '"threshold": 0.9'))
    with pytest.raises(LeafkitError, match="edited"):
        Ladder.load(path)


def test_its_tables_hold_each_rung_and_each_promise():
    rungs, promises = LADDER.tables()
    assert [row[0] for row in rungs.rows] == ["table", "student", "teacher"]
    assert [row[-1] for row in rungs.rows] == ["2.0%", "10.0%", "100.0%"]
    assert "ef_search=256" in rungs.title
    held, short = promises.rows
    assert held[0] == "95%"
    assert held[4] == "table 50%, student 40%, teacher 10%"
    assert held[-1] == "+1.0 [-2.0, +4.0]"
    assert short[1] == "teacher alone"
    assert short[4] == "teacher 100%"
    assert "99% takes the teacher alone: below 620 judged queries" in promises.note
    assert "95% takes" not in promises.note


def test_it_says_whose_opinion_is_relevant():
    assert TEACHERS_OWN not in str(LADDER)
    assert TEACHERS_OWN in str(replace(LADDER, relevance=TEACHERS_OWN))


def test_a_record_per_figure():
    records = LADDER.records()
    assert len(records) == 3 * 2 + 3 + 2
    assert {row["system"] for row in records} == {
        "table", "student", "teacher", "router 0.95", "router 0.99",
    }  # fmt: skip


def test_a_rung_by_name():
    assert LADDER.rung("student").query_ms == 5.0
    with pytest.raises(KeyError):
        LADDER.rung("3l")


def test_the_page_has_the_frontier_no_script_and_escapes_what_is_not_ours():
    page = render_ladder(LADDER)
    assert "<script" not in page
    assert "<b>grown" not in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert page.count("<svg") == 1
    chart = str(draw_frontier(LADDER))
    assert "router" in chart
    assert "table, 1.00 ms, 80.0%" in chart
