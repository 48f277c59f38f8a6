"""Points of the frontier charts: which figures they are made of."""

from __future__ import annotations

from typing import Any

from report_page import read_report

from leafkit.report.charts.plots import Dot
from leafkit.report.costs import (
    bytes_dots,
    cost_collections,
    encoder_dots,
    frontiers,
    speed_dots,
)


def test_bytes_come_from_indexes_and_from_the_grid(full: dict[str, Any]) -> None:
    full["inherit"]["rows"] = [
        row for row in full["inherit"]["rows"] if row["precision"] == "float32" and row["dim"] == 64
    ]
    teacher = bytes_dots(read_report(full), "pydocs", "teacher")
    # the grid's teacher is the same in either mode: one dot
    assert [d.x for d in teacher] == [
        3072,
        3345.5,
        3345.5,
        96,
        256,
    ]
    assert teacher[-1] == Dot(256, 0.573 * 0.87, "64-d float32, plain: nDCG@10 0.499, 256 bytes")
    # no index holds the student's documents
    assert [d.x for d in bytes_dots(read_report(full), "pydocs", "symmetric")] == [256]
    asymmetric = bytes_dots(read_report(full), "pydocs", "asymmetric")
    assert asymmetric[1].text == (
        "hnsw ef_search=64, student queries: nDCG@10 0.536 [0.516, 0.556], 3,345.5 bytes, "
        "4,200 queries/s"
    )
    assert bytes_dots(read_report(full), "pydocs-out-of-domain", "teacher") == []


def test_speeds_come_from_indexes_alone(full: dict[str, Any]) -> None:
    assert [d.x for d in speed_dots(read_report(full), "pydocs", "asymmetric")] == [
        900.0,
        4200.0,
        2500.0,
        10100.0,
    ]
    assert speed_dots(read_report(full), "pydocs", "symmetric") == []


def test_the_query_encoder_decides_how_long_a_system_takes(full: dict[str, Any]) -> None:
    found = {system: dot.x for system, dot in encoder_dots(read_report(full), "pydocs")}
    # the baseline was not timed
    assert found == {
        "teacher": 11.2,
        "reversed": 11.2,
        "symmetric": 2.6,
        "asymmetric": 2.6,
    }


def test_collections_come_in_the_order_of_the_report(full: dict[str, Any]) -> None:
    full["bench"]["indexes"][0]["collection"] = "pydocs-out-of-domain"
    full["bench"]["indexes"][1]["collection"] = "elsewhere"
    assert cost_collections(read_report(full)) == ["pydocs", "pydocs-out-of-domain", "elsewhere"]
    assert cost_collections(read_report({})) == []


def test_one_point_makes_no_chart(full: dict[str, Any]) -> None:
    bench = full["bench"] | {"indexes": full["bench"]["indexes"][:1], "latency": []}
    assert frontiers(read_report({"bench": bench})) == []
