"""The summary on the console: whole at 100 columns, also without a terminal."""

from __future__ import annotations

import io
from typing import Any

import pytest
from report_page import read_report
from rich.console import Console

from leafkit.report.console import print_summary


def _printed(data: dict[str, Any], **options: Any) -> str:
    stream = io.StringIO()
    print_summary(read_report(data), Console(file=stream, **options))
    return stream.getvalue()


@pytest.mark.parametrize(
    "options", [{}, {"soft_wrap": True}, {"width": 100, "force_terminal": True, "no_color": True}]
)
def test_every_figure_is_there_in_lines_of_100_columns(
    data: dict[str, Any], options: dict[str, Any]
) -> None:
    text = _printed(data, highlight=False, **options)
    for expected in (
        "0.573 [0.553, 0.593]",
        "0.873 [0.861, 0.885]",
        "pydocs-out-of-domain (out-of-domain, 402 queries), 2,210 documents",
        "asymmetric - symmetric",
        "-0.004 [-0.011, +0.003]",
        "within noise",
        "+0.031 [+0.021, +0.041]",
        "not inherited",
        "382.0",
        "908.1",
        "BM25",
        "Not passed: of 14 settings",
        "the student keeps 99.3% [98.1, 100.5]",
    ):
        assert expected in text
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    assert max(len(line.rstrip()) for line in text.splitlines() if "\x1b" not in line) <= 100


def test_home_comes_before_away(data: dict[str, Any]) -> None:
    text = _printed(data)
    assert text.index("pydocs (in-domain") < text.index("pydocs-out-of-domain (out-of-domain")


def test_there_are_no_escape_codes_without_a_terminal(data: dict[str, Any]) -> None:
    assert "\x1b" not in _printed(data)


def test_the_console_keeps_its_width(data: dict[str, Any]) -> None:
    console = Console(file=io.StringIO(), width=60)
    print_summary(read_report(data), console)
    assert console.width == 60


def test_markup_in_names_is_text(data: dict[str, Any]) -> None:
    data["bench"]["collections"][1]["name"] = data["steps"][0]["name"] = "[red]x[/nonsense]\x1b[31m"
    assert "[red]x[/nonsense][31m" in _printed(data)


def test_an_ascii_stream_is_enough(data: dict[str, Any]) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    print_summary(read_report(data), Console(file=stream))
    stream.flush()
    assert b"0.573 [0.553, 0.593]" in raw.getvalue()


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("bench", "nDCG@10  "),
        ("inherit", "Inheritance"),
        ("steps", "Steps"),
        ("student", "parameters"),
    ],
)
def test_a_missing_part_is_left_out(data: dict[str, Any], key: str, words: str) -> None:
    assert words in _printed(data)
    del data[key]
    assert words not in _printed(data)


def test_an_empty_run_prints_nothing() -> None:
    assert _printed({}) == ""


def test_new_parts_are_there_in_lines_of_100_columns(full: dict[str, Any]) -> None:
    text = _printed(full)
    for expected in (
        "reversed",
        "recall@10",
        "all collections (mean of 2 collections)",
        "contamination: 0 of 1,109 queries exact, 12 near",
        "contamination: unknown (the training texts of minilm are not known)",
        "own documents dropped from the rankings: 1,109",
        "<0.001",
        "stsb",
        "Spearman",
        "ef_search=128",
        "exhaustive*",
        "quantized queries",
        "1 not inherited, 12 undecided",
        "effective rank: 212.3",
        "- One bit per dimension keeps 92.1%.",
        "The teacher kalm-mini can be inherited from",
    ):
        assert expected in text, expected
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 100
    assert "home's documents train the student by design" not in text  # the report says so


def test_of_a_large_grid_only_what_is_not_inherited_is_listed(full: dict[str, Any]) -> None:
    text = _printed(full)
    grid = text[
        text.index("Inheritance on pydocs, all settings but the inherited") : text.index(
            "Not passed"
        )
    ]
    rows = [line for line in grid.splitlines() if "asymmetric" in line]
    assert len(rows) == 13
    assert rows[0].rstrip().endswith("not inherited")
    assert "symmetric   plain" not in grid.replace("asymmetric", "")


def test_very_many_failing_settings_are_counted(full: dict[str, Any]) -> None:
    for row in full["inherit"]["rows"]:
        row["verdict"] = "undecided"
    text = _printed(full)
    assert "... and 38 more, all of them in the report." in text


@pytest.mark.parametrize("part", ["inherit", "diagnosis", "bench"])
def test_one_part_alone_is_printed(full: dict[str, Any], part: str) -> None:
    assert {"inherit": "Not passed", "diagnosis": "First dimensions", "bench": "Indexes on"}[
        part
    ] in _printed({part: full[part]})
