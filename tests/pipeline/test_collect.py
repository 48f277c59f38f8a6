"""What a report gathers, whichever parts a run has, and from whichever run they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny

from leafkit.config.load import load_recipe
from leafkit.pipeline.collect import collect_report, summarise_steps
from leafkit.pipeline.distill import run_distill
from leafkit.pipeline.run import open_run
from leafkit.report.card import render_card
from leafkit.report.page import render_report
from leafkit.results import RunReport


def report_on(recipe: Path, *overrides: str) -> RunReport:
    with open_run(load_recipe(str(recipe), overrides)) as run:
        run_distill(run)
        return collect_report(run, "leafkit distill")


def _of_soup(home: Path, tmp_path: Path) -> dict[str, Any]:
    members = [f"model:{home / 'big'}", f"model:{home / 'big'}"]
    teacher = tiny.tiny_recipe(home, tmp_path / "ck") | {
        "stages": {"mix": {"soup": {"members": members, "weights": [0.5, 0.5]}}}
    }
    teacher["teacher"] = {}
    path = tiny.write_recipe(tmp_path / "soup.yaml", teacher)
    return {"teacher": {"source": f"recipe:{path}"}}


def _static(home: Path, tmp_path: Path) -> dict[str, Any]:
    return {"student": {"kind": "static", "init": f"model:{home / 'small'}"}}


def _not_judged(home: Path, tmp_path: Path) -> dict[str, Any]:
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(f'{{"id": "{i}", "text": "{d}"}}\n' for i, d in _documents()))
    return {"data": {"corpus": f"jsonl:{path}", "num_pseudo_texts": 16}}


def _documents() -> list[tuple[int, str]]:
    return list(enumerate(document for _, document in tiny.make_pairs()))


@pytest.mark.slow
@pytest.mark.parametrize("change", [_of_soup, _static, _not_judged])
def test_a_run_without_a_part_ends_with_a_report(home, tmp_path, change) -> None:
    recipe = tiny.tiny_recipe(home, tmp_path / "ck") | change(home, tmp_path)
    report = report_on(tiny.write_recipe(tmp_path / "tiny.yaml", recipe))
    assert report.losses["student"]
    assert "mix" not in report.losses
    for text in (render_report(report), render_card(report)):
        assert "None" not in text


@pytest.mark.slow
def test_a_second_run_keeps_the_times_of_the_first(home, tmp_path) -> None:
    recipe = tiny.write_recipe(tmp_path / "tiny.yaml", tiny.tiny_recipe(home, tmp_path / "ck"))
    first, second = report_on(recipe), report_on(recipe)
    assert {step.status for step in second.steps} == {"up to date"}
    made = {step.name: step.seconds for step in first.steps}
    assert made.keys() == {step.name for step in second.steps}
    for step in second.steps:
        assert step.seconds == pytest.approx(made[step.name]), step.name
    spent = sum(step.spent_s or 0 for step in second.steps)
    assert spent < 0.5 * sum(made.values())
    assert "time of the run that made it" in render_report(second)


def test_an_artifact_counts_once_by_whatever_name_it_is_asked_for():
    def step(name: str, artifact: str, status: str) -> dict[str, object]:
        return {"name": name, "artifact": artifact, "seconds": 60.0, "status": status}

    found = summarise_steps(
        [
            step("minilm vectors of corpus documents", "vectors/m", "done"),
            step("student", "mine/student", "done"),
            step("minilm vectors of pydocs documents", "vectors/m", "up to date"),
            step("student", "mine/student", "up to date"),
        ]
    )
    assert [(s.name, s.status) for s in found] == [
        ("minilm vectors of corpus documents", "done"),
        ("student", "done"),
    ]
    # manifests of earlier versions name no artifact
    old = [{"name": name, "seconds": 1.0, "status": "done"} for name in ("a", "b", "a")]
    assert [s.name for s in summarise_steps(old)] == ["a", "b"]
