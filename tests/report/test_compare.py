"""Several runs side by side, and the reading of their reports."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
from report_page import BLANK, HOSTILE, Page, check_safe, read_report

from leafkit.core.errors import LeafkitError, UsageError
from leafkit.report.compare import read_reports
from leafkit.report.compare import render_comparison as render_typed
from leafkit.report.side_by_side import MAX_RUNS


def render_comparison(runs: list[tuple[str, dict[str, Any]]]) -> str:
    return render_typed([(name, read_report(data)) for name, data in runs])


def _plain(result: Any) -> str:
    """A result in JSON, where undefined figures are equal."""
    return json.dumps(result.to_json())


def _write(folder: Path, data: Any, name: str = "report.json") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(
        data if isinstance(data, str) else json.dumps(data), encoding="utf-8"
    )
    return folder


@pytest.fixture
def runs(full: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Two runs that differ in a recipe's key, a version, a score, a verdict and a speed."""
    other = copy.deepcopy(full)
    other["recipe"]["seed"] = 43
    other["recipe"]["stages"]["tune"]["tau"] = 0.02
    other["versions"]["torch"] = "2.12.0"
    other["command"] = "leafkit distill recipe=kalm-to-23m seed=43"
    other["bench"]["collections"][1]["rows"][2]["ndcg@10"] = {
        "mean": 0.5123,
        "low": 0.49,
        "high": 0.53,
    }
    other["bench"]["latency"][1]["p50_ms"] = 1.3
    other["inherit"]["rows"][0]["verdict"] = "not inherited"
    return [("first", full), ("second", other)]


def test_a_folder_or_a_file_is_read_and_named(tmp_path: Path, full: dict[str, Any]) -> None:
    folder = _write(tmp_path / "kalm-to-23m", full)
    file = _write(tmp_path, full | {"name": ""}, "older.json") / "older.json"
    assert [name for name, _ in read_reports([folder, file])] == ["kalm-to-23m", "older"]
    assert _plain(read_reports([folder])[0][1]) == _plain(read_report(full))


def test_runs_of_one_name_are_told_apart_by_the_shortest_end_of_their_paths(
    tmp_path: Path, full: dict[str, Any]
) -> None:
    same = [_write(tmp_path / "monday" / "kalm", full), _write(tmp_path / "tuesday" / "kalm", full)]
    file = _write(tmp_path, full, "saved.json") / "saved.json"
    names = [name for name, _ in read_reports([*same, file])]
    assert names == [
        "kalm-to-23m (monday/kalm)",
        "kalm-to-23m (tuesday/kalm)",
        "kalm-to-23m (saved.json)",
    ]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "not valid JSON"),
        ("", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[]", "holds a list"),
        ("{}", "missing: name, command, created"),
        ('{"bench": 3}', "not written by leafkit"),
        (json.dumps(BLANK | {"inherit": {"rows": "x"}}), "missing: num_queries"),
        (json.dumps(BLANK | {"versions": []}), "versions is a list where an object is needed"),
        (json.dumps(BLANK | {"weights": [1]}), "unknown: weights"),
        (json.dumps({"format": 3} | BLANK), "it has format 3; this leafkit reads 1 and 2"),
    ],
)
def test_damaged_and_foreign_files_are_named(tmp_path: Path, content: str, complaint: str) -> None:
    folder = _write(tmp_path / "x", content)
    with pytest.raises(LeafkitError, match=complaint) as caught:
        read_reports([folder])
    assert str(folder / "report.json") in str(caught.value)
    assert caught.value.hint


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(LeafkitError, match="not valid JSON"):
        read_reports([tmp_path])


def test_missing_and_repeated_runs_are_refused(tmp_path: Path, full: dict[str, Any]) -> None:
    folder = _write(tmp_path / "run", full)
    (tmp_path / "empty").mkdir()
    for paths, complaint in (
        ([], "0 runs were named"),
        ([folder] * (MAX_RUNS + 1), f"1 to {MAX_RUNS} can be compared"),
        ([folder, tmp_path / "gone"], "no such file or folder: .*gone"),
        ([tmp_path / "empty"], "empty holds no report.json"),
        ([folder, folder / "report.json"], "named 2 times"),
    ):
        with pytest.raises(UsageError, match=complaint) as caught:
            read_reports(paths)
        assert caught.value.hint


def test_runs_are_columns(runs: list[tuple[str, dict[str, Any]]]) -> None:
    page = check_safe(render_comparison(runs))
    assert page.sections == ["retrieval", "inheritance", "frontiers", "recipes", "origin"]
    for expected in (
        "2 runs compared",
        "0.512 [0.490, 0.530]",
        "0.569 [0.549, 0.589]",
        "mean of 2",
        "0 exact, 12 near",
        "unknown",
        "leafkit distill recipe=kalm-to-23m seed=43",
        "2.12.0",
        "1 settings on which the runs differ",
    ):
        assert expected in page.text or expected == "mean of 2", expected
    assert "None" not in page.text


def test_only_what_differs_in_the_recipes_is_listed(runs: list[tuple[str, dict[str, Any]]]) -> None:
    text = Page(render_comparison(runs)).text
    recipes = text[
        text.index("What differs in the recipes", text.index("Quality against cost") + 60) :
    ]
    recipes = recipes[: recipes.index("How these were made")]
    assert re.sub(r"\s", "", recipes).endswith("seed4243stages.tune.tau\u20130.02")
    runs[1][1]["recipe"] = runs[0][1]["recipe"]
    assert "What differs in the recipes\nNothing." in Page(render_comparison(runs)).text


def test_versions_that_differ_are_marked(runs: list[tuple[str, dict[str, Any]]]) -> None:
    text = Page(render_comparison(runs)).text
    assert "torch \u2260 differs2.13.02.12.0" in text
    assert "numpy2.4.62.4.6" in text
    assert text.count("\u2260 differs") == 1


def test_collections_of_other_sizes_are_not_compared_in_silence(
    runs: list[tuple[str, dict[str, Any]]],
) -> None:
    warning = "not the same queries and documents in every run"
    assert warning not in Page(render_comparison(runs)).text
    runs[1][1]["bench"]["collections"][1]["num_documents"] += 1
    assert Page(render_comparison(runs)).text.count(warning) == 1
    runs[1][1]["bench"]["macro"]["num_collections"] = 3
    assert "not the same collections in every run" in Page(render_comparison(runs)).text


def test_every_run_has_a_line_and_a_color_of_its_own(
    runs: list[tuple[str, dict[str, Any]]],
) -> None:
    many = [(f"run {n}", runs[0][1]) for n in range(MAX_RUNS)]
    markup = render_comparison(many)
    style = markup[markup.index("<style>") : markup.index("</style>")]
    for tone in range(1, MAX_RUNS + 1):
        assert f'class="stroke-{tone}"' in markup
        assert f".stroke-{tone}{{" in style
        assert f'class="swatch back-{tone}"' in markup


def test_time_to_embed_shows_every_run(runs: list[tuple[str, dict[str, Any]]]) -> None:
    markup = render_comparison(runs)
    assert (
        "<title>second: student embeds queries, teacher embeds documents: nDCG@10 0.512 [0.490, "
        "0.530], 1.3 ms</title>" in markup
    )
    assert (
        "<title>first: student embeds queries, teacher embeds documents: nDCG@10 0.569 [0.549, "
        "0.589], 2.6 ms</title>" in markup
    )


def test_whole_and_partial_runs_go_together(data: dict[str, Any], full: dict[str, Any]) -> None:
    parts = [
        ("short", data),
        ("whole", full),
        ("diagnosis", {"diagnosis": full["diagnosis"]}),
        ("grid", {"inherit": full["inherit"]}),
    ]
    page = check_safe(render_comparison(parts))
    assert "None" not in page.text
    assert "The teacher kalm-mini can be inherited from" in page.text
    assert Page(render_comparison([("empty", {})])).sections == ["origin"]
    assert Page(render_comparison(parts[2:3])).sections == ["origin"]


def test_hostile_names_stay_text(runs: list[tuple[str, dict[str, Any]]]) -> None:
    data = runs[1][1]
    data["recipe"] = {HOSTILE: HOSTILE}
    data["versions"] = {HOSTILE: HOSTILE}
    data["hardware"]["cpu"] = data["command"] = data["created"] = data["commit"] = HOSTILE
    for collection in data["bench"]["collections"]:
        collection["name"] = collection["rows"][0]["system"] = HOSTILE
        collection["retention"][HOSTILE] = {"mean": 1.0, "low": 0.9, "high": 1.1}
    data["bench"]["indexes"][0] |= {"collection": HOSTILE, "kind": HOSTILE, "setting": HOSTILE}
    data["inherit"]["collection"] = HOSTILE
    data["inherit"]["rows"][0] |= {
        "precision": HOSTILE,
        "mode": HOSTILE,
    }
    assert (
        "alert(1)"
        in check_safe(render_comparison([(HOSTILE, runs[0][1]), ("b" + HOSTILE, data)])).text
    )


def test_a_folder_with_reports_of_its_parts_counts_as_one_run(
    tmp_path: Path, full: dict[str, Any]
) -> None:
    about = BLANK | {"name": "pair"}
    _write(tmp_path, about | {"command": "bench", "bench": full["bench"]}, "bench.json")
    _write(tmp_path, about | {"command": "inherit", "inherit": full["inherit"]}, "inherit.json")
    ((name, report),) = read_reports([tmp_path])
    assert (name, report.command) == ("pair", "bench")
    assert _plain(report.bench) == _plain(read_report(full).bench)
    assert _plain(report.inheritance) == _plain(read_report(full).inheritance)
