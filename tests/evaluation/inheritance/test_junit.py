"""A grid as JUnit XML and as a table of what failed."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import pytest

from leafkit.evaluation.inheritance.junit import describe_failures, to_junit
from leafkit.results import GridCell, InheritanceGrid, Interval, Verdict


def cell(verdict: Verdict, **changes) -> GridCell:
    made = GridCell(
        mode="asymmetric",
        dim=256,
        precision="int8",
        queries="float",
        rescoring=0,
        bytes_per_vector=256,
        teacher=0.6,
        student=0.5,
        teacher_retention=Interval(0.986, 0.98, 0.99, 1037),
        student_retention=Interval(0.95, 0.94, 0.96, 1037),
        gap=Interval(0.036, 0.028, 0.044, 1037),
        max_gap=0.02,
        verdict=verdict,
    )
    return replace(made, **changes)


GRID = InheritanceGrid(
    collection="py<docs>\x00",
    num_queries=1037,
    num_documents=5000,
    strict=False,
    scales={},
    cells=(
        cell("inherited"),
        cell("not inherited", rescoring=4, queries="quantized"),
        cell("undecided", mode="symmetric"),
    ),
)


def test_one_test_case_for_each_cell_with_a_readable_message():
    root = ElementTree.fromstring(to_junit(GRID))
    assert root.attrib == {"tests": "3", "failures": "1", "errors": "0", "skipped": "1"}
    (suite,) = root
    assert suite.get("name") == "leafkit inherit on py<docs>?"
    good, bad, open_case = suite
    assert (good.get("classname"), good.get("name"), len(good)) == (
        "inherit.asymmetric",
        "256-d int8",
        0,
    )
    assert bad.get("name") == "256-d int8, quantized queries, rescored x4"
    (failure,) = bad
    assert failure.tag == "failure"
    assert (
        "keeps 0.986 of its nDCG@10 and the student 0.950: gap +0.036 [+0.028, +0.044], allowed "
        "0.020" in failure.get("message")
    )
    assert [child.tag for child in open_case] == ["skipped"]


def test_undecided_is_a_failure_where_the_gate_is_strict():
    root = ElementTree.fromstring(to_junit(replace(GRID, strict=True)))
    assert (root.get("failures"), root.get("skipped")) == ("2", "0")
    assert [child.tag for child in root[0][2]] == ["failure"]


def test_names_tell_cells_apart():
    rows = [
        cell("inherited", dim=d, queries=q, rescoring=r)
        for d in (64, 32)
        for q in ("float", "quantized")
        for r in (0, 2, 4)
    ]
    assert len({r.setting for r in rows}) == len(rows)


@pytest.mark.parametrize(("strict", "count"), [(False, 1), (True, 2)])
def test_the_table_lists_what_fails_and_nothing_else(strict, count):
    text = describe_failures(GRID, strict)
    assert text.startswith(f"{count} of 3 settings are not inherited (py<docs>")
    assert len(text.splitlines()) == 3 + count
    assert "256-d int8, quantized queries, rescored x4" in text


def test_nothing_failing_is_no_text():
    grid = replace(GRID, cells=(cell("inherited"), cell("undecided")))
    assert describe_failures(grid) == ""
    assert describe_failures(grid, strict=True) != ""
