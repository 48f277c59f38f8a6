"""A grid as JUnit XML and as a table of what failed."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from leafkit.evaluation.inheritance.junit import describe_failures, describe_setting, to_junit


def row(verdict: str, **changes):
    return {
        "mode": "asymmetric",
        "dim": 256,
        "precision": "int8",
        "queries": "float",
        "rescoring": 0,
        "bytes_per_vector": 256,
        "teacher": 0.6,
        "student": 0.5,
        "teacher_retention": 0.986,
        "student_retention": 0.95,
        "gap": 0.036,
        "low": 0.028,
        "high": 0.044,
        "max_gap": 0.02,
        "verdict": verdict,
    } | changes


GRID = {
    "collection": "py<docs>\x00",
    "num_queries": 1037,
    "strict": False,
    "rows": [
        row("inherited"),
        row("not inherited", rescoring=4, queries="quantized"),
        row("undecided", mode="symmetric"),
    ],
}


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
    assert bad.get("name") == "256-d int8, quantised queries, rescored x4"
    (failure,) = bad
    assert failure.tag == "failure"
    assert (
        "keeps 0.986 of its nDCG@10 and the student 0.950: gap +0.036 [+0.028, +0.044], allowed "
        "0.020" in failure.get("message")
    )
    assert [child.tag for child in open_case] == ["skipped"]


def test_undecided_is_a_failure_where_the_gate_is_strict():
    root = ElementTree.fromstring(to_junit(GRID | {"strict": True}))
    assert (root.get("failures"), root.get("skipped")) == ("2", "0")
    assert [child.tag for child in root[0][2]] == ["failure"]


def test_names_tell_cells_apart():
    rows = [
        row("inherited", dim=d, queries=q, rescoring=r)
        for d in (64, 32)
        for q in ("float", "quantized")
        for r in (0, 2, 4)
    ]
    assert len({describe_setting(r) for r in rows}) == len(rows)


@pytest.mark.parametrize(("strict", "count"), [(False, 1), (True, 2)])
def test_the_table_lists_what_fails_and_nothing_else(strict, count):
    text = describe_failures(GRID, strict)
    assert text.startswith(f"{count} of 3 settings are not inherited (py<docs>")
    assert len(text.splitlines()) == 2 + count
    assert "256-d int8, quantised queries, rescored x4" in text


def test_nothing_failing_is_no_text():
    assert (
        describe_failures(GRID | {"rows": [row("inherited"), row("undecided")]}, strict=False) == ""
    )
