"""The tables that page, card and console share."""

from __future__ import annotations

from typing import Any

from report_page import read_report

from leafkit.report import facts, tables


def test_numbers_stand_right_and_verdicts_are_known(full: dict[str, Any]) -> None:
    table = tables.differences_table(read_report(full))
    assert table.header == ("collection", "difference", "metric", "value", "p", "verdict")
    assert table.align == "lllrrv"
    assert table.rows[1][3:] == ("-0.004 [-0.011, +0.003]", "0.210", "within noise")
    assert table.rows[-1][0] == "stsb"


def test_the_share_of_the_teacher_stands_beside_its_metric(full: dict[str, Any]) -> None:
    part = facts.scored(read_report(full))[0]
    assert tables.retrieval_table(part).header[:3] == ("system", "nDCG@10", "MAP@100")
    shared = tables.retrieval_table(part, shares=True)
    assert shared.header[:3] == ("system", "nDCG@10", "of the teacher")
    assert [row[2][:5] for row in shared.rows] == ["", "98.4%", "99.3%", "97.9%", "", ""]
    assert "MAP@100" not in tables.retrieval_table(part, narrow=True).header


def test_the_cheapest_setting_or_the_best_one_stands_for_its_kind(full: dict[str, Any]) -> None:
    (table,) = tables.index_tables(read_report(full))
    settings = {row[:2]: row[2] for row in table.rows}
    assert settings["hnsw", "teacher"] == "ef_search=64"
    assert settings["hnsw", "student"] == "ef_search=128"
    assert settings["binary", "teacher"] == "exhaustive*"
    assert len(table.rows) == 6


def test_settings_are_told_apart_by_their_device(full: dict[str, Any]) -> None:
    rows = full["bench"]["indexes"]
    rows[2:2] = [rows[0] | {"device": "cuda"}, rows[1] | {"device": "cuda"}]
    indexes = facts.bench(read_report(full)).indexes
    found = tables.settings_of(row for row in indexes if row.kind == "flat")
    assert [tables.setting_of(own["teacher"]) for own in found] == [
        "exhaustive",
        "exhaustive\ncuda",
    ]


def test_of_a_large_grid_the_failing_settings_are_listed_first_to_last(
    full: dict[str, Any], data: dict[str, Any]
) -> None:
    large = tables.inheritance_table(read_report(full))
    assert [row[-1] for row in large.rows] == ["not inherited"] + ["undecided"] * 12
    assert "scored" in large.header
    small = tables.inheritance_table(read_report(data))
    assert len(small.rows) == 14
    assert "scored" not in small.header
    narrow = tables.inheritance_table(read_report(full), narrow=True)
    assert not {"teacher", "student"} & set(narrow.header)


def test_a_teacher_without_judged_queries_has_variances_alone(full: dict[str, Any]) -> None:
    for row in full["diagnosis"]["spectrum"] + full["diagnosis"]["dims"]:
        for key in ("ndcg", "retention", "random", "gain"):
            row.pop(key, None)
    ranks, heads = tables.diagnosis_tables(read_report(full))
    assert ranks.header == ("rank", "variance")
    assert heads.header == ("dim", "variance")


def test_steps_end_with_their_sum(data: dict[str, Any]) -> None:
    assert tables.steps_table(read_report(data)).rows[-1] == ("total", "", "908.1")
    assert tables.steps_table(read_report({})).rows == ()
