"""``benchmarks/predict.py``: the spaces, and how predictions are held against outcomes."""

from __future__ import annotations

import doctest
import sys
from pathlib import Path

import numpy as np
import pytest
from finished_runs import make_runs

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import predict
from predict_parts import report as prediction_report
from predict_parts import spaces as prediction_spaces

from leafkit.evaluation.forecast.calibration import FEATURES
from leafkit.results import Forecast
from leafkit.results.codec import to_plain


def test_doctests():
    for module in (predict, prediction_report, prediction_spaces):
        assert doctest.testmod(module).failed == 0


@pytest.fixture
def vectors() -> np.ndarray:
    drawn = np.random.default_rng(0).normal(size=(40, 16)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


@pytest.mark.parametrize("name", ["as it is", "rotated", "widened"])
def test_a_turned_space_keeps_every_product(vectors, name):
    documents, queries = prediction_spaces.change_space(name, [vectors, vectors[:9]], 3)
    assert queries @ documents.T == pytest.approx(vectors[:9] @ vectors.T, abs=1e-5)


@pytest.mark.parametrize("name", ["non-linear", "truncated", "noisy", "anisotropic"])
def test_another_space_ranks_otherwise_and_the_same_each_time(vectors, name):
    made = [prediction_spaces.change_space(name, [vectors, vectors[:9]], 3) for _ in range(2)]
    assert (made[0][0] == made[1][0]).all()
    assert np.isfinite(made[0][0]).all()
    unit = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in made[0]]
    assert np.abs(unit[1] @ unit[0].T - vectors[:9] @ vectors.T).max() > 0.05


def pairs(*values: tuple[float, float, float, float]):
    runs = make_runs(is_trained=False)
    return [
        (Forecast(told, low, high, ""), _with(run, found))
        for (told, low, high, found), run in zip(values, runs, strict=False)
    ]


def _with(run, found):
    from dataclasses import replace

    return replace(run, outcome=replace(run.outcome, value=found))


def test_a_turnout_by_hand():
    found = prediction_report.turnout(
        pairs((0.9, 0.8, 1.0, 0.91), (0.7, 0.6, 0.8, 0.75), (0.5, 0.45, 0.55, 0.6))
    )
    assert found.count == 3
    assert found.covered == pytest.approx(2 / 3)
    assert found.order == pytest.approx(1)
    assert found.error == pytest.approx(0.05)
    assert found.width == pytest.approx(0.2)
    assert found.verdict == (
        "coverage of 85% missed; rank correlation of 0.85 met; median error of 2 points missed"
    )


def test_a_report_says_every_group_and_what_was_farthest_off():
    runs = make_runs()
    table = [run for run in runs if run.corpus != "c"]
    settled = [run for run in runs if run.corpus == "c"]
    told = to_plain(Forecast(0.8, 0.7, 0.9, ""))
    foretold = {
        "about": {"date": "2026-01-01", "table": [len(table), ["a", "b"], "2026-01-01"]},
        "predictions": [
            {
                "corpus": run.corpus,
                "space": run.space,
                "kind": run.kind,
                "texts": run.num_texts,
                "forecasts": dict.fromkeys(FEATURES, told),
            }
            for run in settled
        ],
    }
    # a kind comes once in a space
    settled = list({(r.corpus, r.space, r.kind): r for r in settled}.values())
    foretold["predictions"] = foretold["predictions"][-2:]
    lines = "\n".join(prediction_report.report_lines(foretold, settled, table))
    assert "Foretold on 2026-01-01 for c" in lines
    assert "by 14 finished runs on a, b" in lines
    assert "| trained |" in lines
    assert "The farthest off" in lines
    foretold["predictions"][0]["space"] = "unheard of"
    with pytest.raises(SystemExit, match="not settled"):
        prediction_report.compare(foretold, settled)
