"""``benchmarks/predict.py``: the spaces, and how predictions are held against outcomes."""

from __future__ import annotations

import doctest
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from finished_runs import figures, make_runs

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import predict
from predict_parts import fits, fits_report, intervals
from predict_parts import report as prediction_report
from predict_parts import spaces as prediction_spaces

from leafkit.evaluation.forecast.calibration import CEILING, FEATURES
from leafkit.results import Forecast
from leafkit.results.codec import to_plain


def test_doctests():
    for module in (predict, fits, prediction_report, prediction_spaces):
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


def test_a_file_of_predictions_of_another_format_is_refused_by_name(tmp_path):
    path = tmp_path / "foretold.json"
    plain = {"about": {}, "predictions": []}
    for data in (plain, plain | {"format": prediction_report.FORMAT}):
        path.write_text(json.dumps(data))
        assert prediction_report.read_foretold(path)["predictions"] == []
    for data, says in (
        (plain | {"format": 2}, "foretold.json has format 2, and this script reads 1"),
        (plain | {"format": "1"}, "has format '1'"),
        ({"about": {}}, "foretold.json holds no predictions"),
        ([], "holds no predictions"),
    ):
        path.write_text(json.dumps(data))
        with pytest.raises(SystemExit, match=says):
            prediction_report.read_foretold(path)
    shipped = Path(predict.__file__).parent / "reports" / "2026-11-30-predict-foretold.json"
    assert prediction_report.read_foretold(shipped)["predictions"]


# --- other ways to read shares off finished runs


def _known_and_asked():
    runs = [replace(run, probe=figures_apart(run.probe.query_overlap)) for run in make_runs()]
    return [run for run in runs if run.corpus != "c"], [run for run in runs if run.corpus == "c"]


def figures_apart(overlap: float):
    return replace(figures(overlap), source_gain=0.9 * overlap)


@pytest.mark.parametrize("asked_with", FEATURES)
def test_every_way_finds_the_law_of_the_runs(asked_with):
    known, asked = _known_and_asked()
    # corpora differ by 2%, shares are the roots of the neighbors found
    for name, way in fits_report.ways_of_asking(asked_with).items():
        told = way(known, asked)
        off = [abs(t.value - r.outcome.value) for t, r in zip(told, asked, strict=True)]
        # a slope of one is not the one of these runs
        limit = 0.07 if name.startswith("difference") else 0.05
        assert np.median(off) < limit, name
        assert all(t.low <= t.value <= t.high for t in told), name
        assert all(t.low >= 0 and t.high <= CEILING for t in told), name


def test_outcomes_of_the_corpus_that_is_asked_about_are_not_looked_at():
    known, asked = _known_and_asked()
    other = [replace(r, outcome=replace(r.outcome, value=0.1)) for r in asked]
    for asked_with in FEATURES:
        for name, way in fits_report.ways_of_asking(asked_with).items():
            if name != "after one student was measured":  # which is one of the corpus
                assert way(known, asked) == way(known, other), name


def test_intervals_by_hand():
    groups = np.array([0, 0, 1, 1])
    kinds = np.array(["a", "b", "a", "b"])
    errors = intervals.Errors(np.array([1.0, 1, -1, -1]), np.full(4, 3.0), groups, kinds)
    leverage = np.array([0.0, 3.0])
    assert intervals.by_errors(errors, leverage) == pytest.approx([6.314, 6.314])
    assert intervals.by_leverage(errors, leverage) == pytest.approx([6.314, 2 * 6.314])
    assert intervals.studentized(errors, leverage) == pytest.approx([6.314 / 2, 6.314])
    assert intervals.conformal(errors, leverage) == pytest.approx([1, 1])
    # all of the error is the corpora's: one degree of freedom
    assert intervals.in_two_parts(errors, leverage) == pytest.approx([6.314, 6.314])


def test_a_rare_large_error_is_beyond_a_pooled_quantile_of_many_corpora():
    values = np.append(np.ones(95), np.full(5, 9.0))
    errors = intervals.Errors(values, np.zeros(100), np.arange(100), np.full(100, "a"))
    assert intervals.conformal(errors, np.zeros(1)) == pytest.approx([1])


def test_a_comparison_says_what_may_stand_in_for_the_packages():
    lines = "\n".join(fits_report.comparison_lines(make_runs()))
    assert "What no predictor can do" in lines
    assert lines.count("By the rule above: ") == len(FEATURES)
    assert "However queries are asked: " in lines


def test_what_is_narrower_but_covers_less_does_not_stand_in_for_the_packages():
    own = {"a": 0.05, "b": 0.06}
    wide, narrow = {"a": 0.6, "b": 0.7}, {"a": 0.3, "b": 0.4}
    shipped = fits_report.Compared(0.05, own, 1.0, 1.0, 0.65, wide, 0.9)
    other = fits_report.Compared(0.05, own, 0.95, 0.9, 0.35, narrow, 0.9)
    again = "figures chosen anew without the corpus, interval of studentised"
    name = "its shares, interval of studentised"
    found = {fits_report.SHIPPED: shipped, name: other, again: other}
    assert fits_report.is_better(name, found)
    for change in (
        {again: replace(other, covered=0.84)},
        {name: replace(other, least=0.84)},
        {name: replace(other, error=0.051)},
        {name: replace(other, order=0.88)},
        {name: replace(other, widths=narrow | {"b": 0.71})},
    ):
        assert not fits_report.is_better(name, found | change), change
