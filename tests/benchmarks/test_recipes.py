"""``benchmarks/recipes.py``: a run of a recipe, made once, and what the report says of it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import tiny

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import recipes


@pytest.mark.slow
def test_a_run_is_made_once_and_reported(tmp_path):
    home = tiny.make_home(tmp_path / "home")
    recipe = tiny.write_recipe(tmp_path / "tiny.yaml", tiny.tiny_recipe(home, "checkpoints"))
    words = [str(recipe), "student.num_epochs=.1", "bench.num_resamples=20"]
    report = recipes.run_recipe(words, tmp_path / "runs")
    again = recipes.run_recipe(words, tmp_path / "runs")
    assert again.created == report.created
    [row, *_] = recipes.rows(report)
    assert row[0] == "tiny"
    assert all("%" in cell for cell in row[-3:])
    found = report.bench.collections[0]
    assert row[2] == str(found.num_queries)
    assert row[-3] == found.retention["asymmetric"].percent()
    assert recipes.costs(report)[1:3] == [
        f"{one.parameters / 1e6:.1f}M" for one in (report.teacher, report.student)
    ]
    assert "student.num_epochs=.1" in recipes.about(report)


def test_a_run_that_fails_ends_the_benchmark(tmp_path):
    with pytest.raises(SystemExit, match="ended with"):
        recipes.run_recipe(["own-index", "data.corpus=beir:nowhere"], tmp_path)
