"""Results as JSON and back: nothing is lost, nothing unknown is read, refusals name the place."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from leafkit.core.errors import LeafkitError
from leafkit.results import (
    ContaminationReport,
    Diagnosis,
    EvaluationResult,
    InheritanceGrid,
    Interval,
    RunReport,
    merge_reports,
)

FORMAT_1 = Path(__file__).parent / "format1"  # written by the last version without types


def read(name: str) -> dict[str, Any]:
    return json.loads((FORMAT_1 / f"{name}.json").read_text(encoding="utf-8"))


@pytest.fixture
def report() -> RunReport:
    return RunReport.from_json(read("report"))


def numbers(value: Any) -> list[float]:
    """Every number of plain data, in a fixed order, without the format and the counts n that format
    1 did not hold.
    """
    if isinstance(value, dict):
        kept = (v for k, v in value.items() if k not in {"n", "num_rows", "format"})
        return sorted(number for v in kept for number in numbers(v))
    if isinstance(value, list):
        return sorted(number for v in value for number in numbers(v))
    return [float(value)] if isinstance(value, int | float) else []


@pytest.mark.parametrize("name", ["report", "diagnosis"])
def test_a_report_of_format_1_is_read_without_losing_a_figure(name):
    old = read(name)
    new = RunReport.from_json(old).to_json()
    for part in ("bench", "inherit", "losses", "recipe", "steps", "corpora"):
        if part in old:
            key = {"inherit": "inheritance"}.get(part, part)
            assert numbers(new[key]) == numbers(old[part])
    if name == "diagnosis":
        # the first of the agreements stood twice, and the pairs' number is n now
        kept = dict(old["diagnosis"])
        kept["binary"] = {k: v for k, v in kept["binary"].items() if k != "sign_agreement"}
        kept["anisotropy"] = {k: v for k, v in kept["anisotropy"].items() if k != "num_pairs"}
        assert numbers(new["diagnosis"]) == numbers(kept)


@pytest.mark.parametrize("name", ["report", "diagnosis"])
def test_what_is_written_is_read_again(name, tmp_path):
    first = RunReport.from_json(read(name))
    first.save(tmp_path / "report.json")
    assert RunReport.load(tmp_path / "report.json") == first
    assert json.loads((tmp_path / "report.json").read_text())["format"] == 2


def test_the_parts_of_format_1_get_todays_names_and_counts(report):
    first, second = report.bench.collections
    assert (first.kind, second.kind) == ("in-domain", "out-of-domain")
    assert first.systems[0].metrics["ndcg@10"].n == first.num_queries == 12
    assert report.bench.macro.retention["asymmetric"].n == 12 + 30
    assert {row.recall_at_10.n for row in report.bench.indexes} == {12}
    assert (first.differences[0].a, first.differences[0].b) == ("symmetric", "teacher")
    assert 0 < first.differences[0].p <= 1
    assert first.contamination.queries.total == 12
    assert set(first.per_query.ndcg) == {"teacher", "asymmetric", "symmetric"}
    assert report.machine.cores == read("report")["hardware"]["cores"]
    assert report.bench.tasks[0].scores["student"].n == 12


def test_a_diagnosis_of_format_1(report):
    found = RunReport.from_json(read("diagnosis")).diagnosis
    old = read("diagnosis")["diagnosis"]
    assert found.verdict == old["verdict"]
    assert found.figures.mean_cosine.n == old["anisotropy"]["num_pairs"]
    assert found.figures.spectrum[-1].quality.retention.value == 1.0
    assert found.figures.dims[0].random is None
    assert found.figures.dims[1].random is not None
    assert found.figures.binary.student is not None


def test_contamination_of_format_1_had_the_names_at_the_top():
    old = {"pairs": {"unknown": "the training texts of m are not known"}}
    assert ContaminationReport.from_json(old).collections["pairs"].unknown.endswith("not known")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"colour": "red"}, "unknown: colour"),
        ({"machine": {"cpu": "x"}}, "missing: machine.cores"),
        ({"steps": {}}, "steps is an object where a list is needed"),
        ({"name": 3}, "name is a number where text is needed"),
        ({"created": None}, "created is null where text is needed"),
        ({"steps": [{"name": "a", "seconds": True, "status": "done"}]}, "steps[0].seconds is true"),
        ({"versions": ["torch"]}, "versions is a list where an object is needed"),
        ({"losses": {"student": [0.5, "low"]}}, "losses.student[1] is text where a number"),
        ({"format": 3}, "format 3; this leafkit reads 1 and 2"),
    ],
)
def test_a_wrong_file_is_refused_with_the_place(report, change, complaint):
    with pytest.raises(LeafkitError) as caught:
        RunReport.from_json(report.to_json() | change, "some/report.json")
    assert complaint in str(caught.value)
    assert str(caught.value).startswith("some/report.json is no report")
    assert "leafkit distill" in caught.value.hint


@pytest.mark.parametrize("kind", [RunReport, EvaluationResult, InheritanceGrid, Diagnosis])
@pytest.mark.parametrize("data", [[], "text", {}, {"rows": 1}, {"collections": [3]}, None])
def test_what_is_no_result_at_all_gets_one_clear_error(kind, data):
    with pytest.raises(LeafkitError, match=f"no {kind.what} that can be read"):
        kind.from_json(data)


def test_an_unknown_key_of_format_1_is_refused_too():
    old = read("report")
    old["bench"]["collections"][0]["colour"] = "red"
    with pytest.raises(LeafkitError, match=r"unknown: bench.collections\[0\].colour"):
        RunReport.from_json(old)


@pytest.mark.parametrize("text", ["{", "\x00", "[" * 100_000])
def test_a_damaged_file_is_named(tmp_path, text):
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(LeafkitError, match=r"results\.json is not valid JSON"):
        EvaluationResult.load(path)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(LeafkitError, match=r"cannot read .*grid.json: No such file"):
        InheritanceGrid.load(tmp_path / "grid.json")


def test_derived_values_are_written_and_must_agree(report):
    grid = report.inheritance
    plain = grid.to_json()
    assert (plain["passed"], plain["num_undecided"]) == (True, 10)
    with pytest.raises(LeafkitError, match="passed is False where the other fields make it True"):
        InheritanceGrid.from_json(plain | {"passed": False})
    strict = replace(grid, strict=True)
    assert not strict.passed
    assert len(strict.failing()) == 10
    assert InheritanceGrid.from_json(strict.to_json()) == strict


def test_a_verdict_is_one_of_three(report):
    plain = json.loads(json.dumps(report.inheritance.to_json()))
    plain["cells"][0]["verdict"] = "maybe"
    with pytest.raises(LeafkitError, match=r"cells\[0\].verdict is 'maybe' where one of inherited"):
        InheritanceGrid.from_json(plain)


def test_undefined_numbers_and_odd_text_survive(report, tmp_path):
    odd = replace(report, name="half a pair \ud800", losses={"student": (math.nan, 1.0)})
    odd.save(tmp_path / "report.json")
    found = RunReport.load(tmp_path / "report.json")
    assert found.name == odd.name
    assert math.isnan(found.losses["student"][0])


def test_reports_of_parts_merge_and_the_first_one_counts(report):
    measured = replace(report, inheritance=None, command="leafkit bench")
    checked = replace(report, bench=None, command="leafkit inherit")
    found = merge_reports([measured, checked])
    assert found.command == "leafkit bench"
    assert found.bench == report.bench
    assert found.inheritance == report.inheritance
    assert merge_reports([checked]).bench is None
    with pytest.raises(ValueError, match="no report"):
        merge_reports([])


def test_an_interval_prints_with_its_bounds():
    found = Interval(-0.0123, -0.02, 0.001, 100)
    assert str(found) == "-0.012 [-0.020, 0.001]"
    assert found.signed() == "-0.012 [-0.020, +0.001]"
    assert found.contains(0.0)
    assert not found.contains(0.5)
