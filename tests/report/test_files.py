"""Every table as a file: rectangular, with numbers that a program reads."""

from __future__ import annotations

import csv
import io
from typing import Any

from report_page import read_report

from leafkit.report.files import named_tables, numbers_apart, table_files
from leafkit.results import Table


def test_every_table_is_there_in_three_forms(full: dict[str, Any]) -> None:
    files = table_files(read_report(full))
    stems = {name.rpartition(".")[0] for name in files}
    assert {f"{stem}.{ending}" for stem in stems for ending in ("md", "csv", "tex")} == set(files)
    expected = "retrieval-pydocs differences tasks indexes inheritance latency steps".split()
    assert set(expected) <= stems
    for name, text in files.items():
        assert text.endswith("\n")
        assert "None" not in text, name


def test_csv_has_numbers_where_the_page_has_words(full: dict[str, Any]) -> None:
    files = table_files(read_report(full))
    rows = list(csv.DictReader(io.StringIO(files["retrieval-pydocs.csv"])))
    teacher = next(row for row in rows if row["system"] == "teacher")
    ends = [float(teacher[f"nDCG@10{end}"]) for end in ("", " low", " high")]
    assert ends == [0.573, 0.553, 0.593]
    assert [float(row["of the teacher (%)"] or 100) for row in rows][:3] == [100, 98.4, 99.3]
    grid = list(csv.DictReader(io.StringIO(files["inheritance.csv"])))
    assert len(grid) == 78
    assert {float(row["gap"]) for row in grid} == {0.002}
    latency = list(csv.DictReader(io.StringIO(files["latency.csv"])))
    assert [float(row["queries/s"]) for row in latency] == [88.0, 382.0]


def test_latex_has_columns_that_latex_knows(full: dict[str, Any]) -> None:
    for name, text in table_files(read_report(full)).items():
        if name.endswith(".tex"):
            layout = text.partition(r"\begin{tabular}{")[2].partition("}")[0]
            assert set(layout) <= {"l", "r"}
            rows = [line for line in text.splitlines() if line.endswith(r"\\")]
            assert {line.replace(r"\&", "").count("&") for line in rows} == {len(layout) - 1}
            assert "\N{MINUS SIGN}" not in text


def test_two_tables_never_share_a_file(full: dict[str, Any]) -> None:
    for collection in full["bench"]["collections"]:
        collection["name"] = "Docs / 2" if collection["kind"] == "home" else "docs: 2"
    names = [name for name, _ in named_tables(read_report(full))]
    assert len(set(names)) == len(names)
    assert {"retrieval-docs-2", "retrieval-docs-2-2"} <= set(names)
    assert not any("/" in name or name.startswith(".") for name in names)


def test_cells_that_are_no_interval_stay_as_they_are() -> None:
    table = Table(
        "t", ("a", "b"), "lr", (("x\ny", "0.1 [0.0, 0.2]"), ("1,234", "n/a"), ("1,2", ""))
    )
    apart = numbers_apart(table)
    assert apart.header == ("a", "b", "b low", "b high")
    assert apart.rows == (
        ("x; y", "0.1", "0.0", "0.2"),
        ("1234", "n/a", "", ""),
        ("1,2", "", "", ""),
    )
