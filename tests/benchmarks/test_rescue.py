"""``benchmarks/rescue.py``: which cells it takes back."""

from __future__ import annotations

import argparse
import doctest
import sys
from pathlib import Path

import pytest
from kept_cells import USUAL, check_others_are_refused, each_other_option

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import rescue


def test_doctests():
    assert doctest.testmod(rescue).failed == 0


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """Measures with the options that are given beside the usual ones; counts cells."""
    cells = []

    def made(truth, folder, words):
        cells.append(list(words))
        return {"documents": 10, "seconds": 1.0}

    def write_pairs(truth, count, folder):
        folder.mkdir(parents=True, exist_ok=True)

    monkeypatch.setattr(rescue, "open_truth", lambda options, corpus: None)
    monkeypatch.setattr(rescue, "write_pairs", write_pairs)
    monkeypatch.setattr(rescue, "rescue", made)
    usual = USUAL | {"vectors": [10], "label": "rescue", "folder": tmp_path}

    def measure(**others):
        return rescue.measure(argparse.Namespace(**(usual | others)))

    return measure, cells


def test_a_finished_cell_is_taken_back(measured):
    measure, cells = measured
    first = measure()
    assert measure() == first
    assert len(cells) == 1
    assert first[("scifact", 10)]["documents"] == 10


@each_other_option
def test_a_cell_of_other_options_is_refused(measured, others, said):
    check_others_are_refused(*measured, others, said)


def test_a_cell_that_does_not_say_its_options_is_refused(measured, tmp_path):
    measure, _ = measured
    measure()
    path = tmp_path / "cells" / "scifact-10-rescue" / "cell.json"
    path.write_text('{"documents": 10}')
    with pytest.raises(SystemExit, match="teacher is None there"):
        measure()
