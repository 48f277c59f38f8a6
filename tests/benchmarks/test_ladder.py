"""``benchmarks/ladder.py``: which cells it takes back, and what it says of many draws."""

from __future__ import annotations

import argparse
import doctest
import sys
from pathlib import Path

import numpy as np
import pytest
from kept_cells import USUAL, check_others_are_refused, each_other_option
from ladder_case import times_of

from leafkit.pipeline.ladder.measure import Measured

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import ladder


def test_doctests():
    assert doctest.testmod(ladder).failed == 0


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """Measures with the options that are given beside the usual ones; counts cells."""
    cells = []

    def made(options, corpus, stem):
        cells.append(stem)
        return {"splits": {}}

    monkeypatch.setattr(ladder, "make_ladder", made)
    usual = USUAL | {"label": "ladder", "folder": tmp_path}

    def measure(**others):
        return ladder.measure(argparse.Namespace(**(usual | others)))

    return measure, cells


def test_a_finished_cell_is_taken_back(measured):
    measure, cells = measured
    assert measure() == measure()
    assert cells == ["scifact"]


@each_other_option
def test_a_cell_of_other_options_is_refused(measured, others, said):
    check_others_are_refused(*measured, others, said)


def test_draws_count_how_often_a_promise_is_given_and_kept(monkeypatch):
    monkeypatch.setattr(ladder, "NUM_SPLITS", 4)
    chooser = np.random.default_rng(0)
    signal = chooser.random(300)
    values = np.stack([1 - 0.5 * (chooser.random(300) < signal**2), np.ones(300)], axis=1)
    signals = {("", "student"): signal[:, None]}
    case = Measured(
        names=("student", "teacher"),
        ndcg=values,
        signals=signals,
        losses=1 - values,
        learned=(values, signals),
        times=times_of((1.0, 10.0)),
    )
    found = ladder.draw_splits(case, ("student", "teacher"), [0.5, 0.9999])
    assert found["0.5"][:2] == [1.0, 1.0]
    # the student alone holds it but for what looks worse than any query that calibrated
    assert found["0.5"][3] == pytest.approx(0.1, abs=0.03)
    assert found["0.9999"] == [0.0, 1.0, 1.0, 1.0]  # never given: the teacher for all
