"""Results as tables: the same cells in every dress, and text that cannot break out of it."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from leafkit.results import EvaluationResult, RunReport, Table

FORMAT_1 = Path(__file__).parent / "format1" / "report.json"


@pytest.fixture(scope="module")
def report() -> RunReport:
    return RunReport.from_json(json.loads(FORMAT_1.read_text(encoding="utf-8")))


def test_every_collection_system_and_metric_is_in_the_frame(report):
    frame = report.bench.to_pandas()
    found = frame[(frame.collection == "pairs") & (frame.metric == "ndcg@10")].set_index("system")
    row = report.bench.collection("pairs").systems[2]
    assert row.system == "asymmetric"
    assert found.loc["asymmetric", "value"] == row.metrics["ndcg@10"].value
    kept = report.bench.collection("pairs").retention["asymmetric"]
    assert found.loc["asymmetric", "teacher_ratio"] == kept.value
    assert found.loc["asymmetric", "teacher_ratio_high"] == kept.high
    assert (found["n"] == 12).all()
    assert found.loc[["teacher", "bm25"], "teacher_ratio"].isna().all()
    assert set(frame.collection) == {"pairs", "away", "all collections", "alike"}
    assert len(frame[frame.collection == "all collections"]) == 6 * 5


def test_the_grid_in_a_frame_has_numbers_and_bounds(report):
    frame = report.inheritance.to_pandas()
    assert len(frame) == len(report.inheritance.cells)
    assert frame.gap_low[0] == report.inheritance.cells[0].gap.low
    assert frame.gap.dtype == float


def test_an_unknown_collection_is_a_key_error(report):
    with pytest.raises(KeyError, match="nowhere"):
        report.bench.collection("nowhere")


def test_text_markdown_latex_and_html_hold_the_same_cells(report):
    cell = str(report.bench.collection("pairs").systems[0].metrics["ndcg@10"])
    kept = report.bench.collection("pairs").retention["asymmetric"].percent()
    for text in (
        str(report.bench),
        report.bench.to_markdown(),
        report.bench._repr_html_(),
        report.bench.to_latex().replace(r"\%", "%"),
    ):
        assert cell in text
        assert kept in text
        assert "n = 12" in text
    assert str(report.inheritance.cells[0].gap.signed()) in str(report.inheritance)


def test_the_failing_settings_stand_first(report):
    shown = replace(report.inheritance, strict=True).tables()[0]
    verdicts = [row[-1] for row in shown.rows]
    assert verdicts == ["undecided"] * 10 + ["inherited"] * 2
    assert shown.note.startswith("Not passed: of 12 settings, 2 inherited, 10 undecided.")


def test_columns_line_up():
    table = Table("t", ("name", "n"), "lr", (("a", "1,000"), ("longer", "1")), "a note")
    assert str(table).splitlines() == [
        "t",
        "name        n",
        "------  -----",
        "a       1,000",
        "longer      1",
        "a note",
    ]


def test_an_empty_result_prints_nothing():
    assert str(EvaluationResult()) == ""
    assert EvaluationResult().to_pandas().empty


def test_text_cannot_break_out_of_its_cell():
    table = Table("a_b", ("x|y", "50%"), "lr", (("a|b\nc", "<script>"), ("\\~^{}&$#", "1")))
    markdown = table.to_markdown().splitlines()
    assert markdown[2:5] == ["| x\\|y | 50% |", "|---|--:|", "| a\\|b c | <script> |"]
    assert "<script>" not in table.to_html()
    assert "&lt;script&gt;" in table.to_html()
    latex = table.to_latex()
    assert r"a\_b" in latex
    assert r"50\%" in latex
    assert r"\textbackslash{}\textasciitilde{}\textasciicircum{}\{\}\&\$\#" in latex


def test_results_import_nothing_heavy():
    code = (
        "import sys, leafkit.results; "
        "print([m for m in ('torch', 'numpy', 'pandas', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_cell_with_a_comma_stays_one_cell_in_csv():
    table = Table("t", ("name", "n"), "lr", (('a "b"', "1,000"), ("c", "1")), "a note")
    assert list(csv.reader(io.StringIO(table.to_csv()))) == [
        ["name", "n"],
        ['a "b"', "1,000"],
        ["c", "1"],
    ]
