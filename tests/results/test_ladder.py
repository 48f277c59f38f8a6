"""What a ladder says in tables, on its page and in its file."""

from __future__ import annotations

import doctest
import json
from dataclasses import replace
from pathlib import Path

import pytest

from leafkit.cli.commands import ladder as command
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
    TimedOn,
)
from leafkit.results import ladder as ladder_module
from leafkit.results.agreement import HELD_OUT, SEEN
from leafkit.results.ladder import (
    ENDPOINT,
    JUDGED,
    REFUTED,
    TEACHERS_OWN,
    UNDECIDED,
    VERIFIED,
)


def interval(value: float) -> Interval:
    return Interval(value, value - 0.05, value + 0.05, 100)


def rung(name: str, kept: float, milliseconds: float) -> RungFigures:
    return RungFigures(
        name=name,
        fingerprint=f"{name}-1",
        parameters=1000,
        ndcg=interval(0.5 * kept),
        kept=interval(kept),
        encode_ms=milliseconds / 2,
        query_ms=milliseconds,
        timed_on=TimedOn("cpu", "float32", 2),
    )


LADDER = Ladder(
    collection="home <b>grown</b>",
    relevance=JUDGED,
    asked_with="judged test queries",
    training=HELD_OUT,
    max_query_tokens=64,
    space="abc",
    index="hnsw",
    setting="ef_search=256",
    num_documents=1000,
    num_calibration=100,
    num_verification=100,
    num_learning=500,
    learned_from="queries that train no rung below the student",
    rungs=(rung("table", 0.8, 1.0), rung("student", 0.95, 5.0), rung("teacher", 1.0, 50.0)),
    route=("table", "student", "teacher"),
    predictors=(
        LossPredictor(
            rung="table", previous="", intercept=0.2, weights=(0.1,), means=(1.0,), scales=(2.0,)
        ),
        LossPredictor(
            rung="student",
            previous="table",
            intercept=0.1,
            weights=(0.1,),
            means=(1.0,),
            scales=(2.0,),
        ),
    ),
    promises=(
        PromiseFigures(
            promise=0.95,
            threshold=0.1,
            bound=0.953,
            kept=interval(0.97),
            cost=interval(0.25),
            shares={"table": 0.5, "student": 0.4, "teacher": 0.1},
            mix=interval(0.96),
            gain=Interval(0.01, -0.02, 0.04, 100),
            num_needed=200,
        ),
        PromiseFigures(
            promise=0.99,
            threshold=None,
            bound=None,
            kept=Interval(1.0, 1.0, 1.0, 100),
            cost=Interval(1.0, 1.0, 1.0, 100),
            shares={"table": 0.0, "student": 0.0, "teacher": 1.0},
            mix=None,
            gain=None,
            num_needed=620,
        ),
    ),
    curve=(CurvePoint(0.02, interval(0.8)), CurvePoint(1.12, interval(1.0))),
    num_timed=40,
    timed_with="judged test queries",
    machine=Machine(
        cpu="a processor",
        cores=2,
        threads=1,
        memory_gib=8.0,
        peak_memory_gib=1.0,
        device="cpu",
        precision="float32",
        accelerator="",
    ),
)


def test_doctests():
    assert doctest.testmod(ladder_module).failed == 0


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
    assert [row[-2] for row in rungs.rows] == ["2.0%", "10.0%", "100.0%"]
    assert "ef_search=256" in rungs.title
    held, short = promises.rows
    assert held[0] == "95%"
    assert held[3:6] == (UNDECIDED, "25.0% [20.0, 30.0]", "table 50%, student 40%, teacher 10%")
    assert held[-1] == "+1.0 [-2.0, +4.0]"
    assert short[1] == "teacher alone"
    assert (short[3], short[5]) == ("", "teacher 100%")
    assert "99% takes the teacher alone: below 620 queries" in promises.note
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


def kept_between(low: float, high: float) -> Ladder:
    """Its first promise, of 95%, as the half that verifies might have found it."""
    first = replace(LADDER.promises[0], kept=Interval((low + high) / 2, low, high, 100))
    return replace(LADDER, promises=(first, *LADDER.promises[1:]))


@pytest.mark.parametrize(
    ("low", "high", "says"),
    [
        (0.95, 0.99, VERIFIED),
        (0.94, 0.96, UNDECIDED),
        (0.9, 0.95, UNDECIDED),
        (0.9, 0.949, REFUTED),
    ],
)
def test_a_promise_is_what_the_queries_that_verify_make_of_it(low, high, says, tmp_path):
    ladder = kept_between(low, high)
    first = ladder.promises[0]
    assert ladder.verification_of(first) == first.verification == says
    assert ladder.is_servable(first) == (says != REFUTED)
    assert ladder.tables()[1].rows[0][3] == says
    assert ("95% is refuted" in ladder.tables()[1].note) == (says == REFUTED)
    ladder.save(tmp_path / "ladder.json")
    assert json.loads((tmp_path / "ladder.json").read_text())["promises"][0]["verification"] == says


def test_the_teacher_alone_is_no_promise_to_serve():
    assert LADDER.promises[1].verification == VERIFIED
    assert not LADDER.is_servable(LADDER.promises[1])


def test_what_the_student_has_seen_verifies_nothing():
    ladder = replace(kept_between(0.96, 0.99), training=SEEN)
    first = ladder.promises[0]
    assert ladder.verification_of(first) == SEEN
    assert not ladder.is_servable(first)
    rungs, promises = ladder.tables()
    assert promises.rows[0][3] == SEEN
    assert "refuses it without unverified=true" in promises.note
    assert SEEN in rungs.title
    assert SEEN in render_ladder(ladder)


def test_what_is_offered_is_not_refuted():
    low, high = kept_between(0.96, 0.99).promises[0], kept_between(0.9, 0.93).promises[0]
    higher = replace(high, promise=0.97)
    ladder = replace(LADDER, promises=(low, higher))
    assert ladder.offers() == (
        "the highest that was verified is promise=0.95; held and not refuted are promise=0.95 at "
        "25% of the teacher's query time"
    )
    assert kept_between(0.94, 0.96).offers().startswith("none was verified; held and not refuted")
    for none in (kept_between(0.9, 0.93), replace(ladder, training=SEEN)):
        assert "without being refuted" in none.offers()
    assert "teacher alone" in replace(LADDER, promises=LADDER.promises[1:]).offers()


def test_the_command_says_how_to_serve_what_may_be(caplog):
    with caplog.at_level("INFO", logger="leafkit"):
        command._say_next(kept_between(0.96, 0.99), Path("made"))
        assert "serve it: leafkit serve made promise=0.95" in caplog.text
        caplog.clear()
        command._say_next(kept_between(0.9, 0.93), Path("made"))
    assert "serve it" not in caplog.text
    assert "without being refuted" in caplog.text


def test_times_say_what_computed():
    elsewhere = replace(LADDER.rungs[-1], timed_on=TimedOn(ENDPOINT, "", None))
    ladder = replace(LADDER, rungs=(*LADDER.rungs[:-1], elsewhere))
    rows = ladder.tables()[0].rows
    assert [row[-1] for row in rows] == [*["cpu, float32, 2 threads"] * 2, ENDPOINT]
    assert "40 single queries (judged test queries)" in ladder.tables()[0].note
    assert "hold the network" in ladder.tables()[0].note
    assert "hold the network" not in LADDER.tables()[0].note
