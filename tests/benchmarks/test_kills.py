"""``benchmarks/kills.py``: it stops where it aims, sees what differs, and a few stops end in the
undisturbed run's bits.
"""

from __future__ import annotations

import doctest
import json
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import checkpoint_cost
import data_parallel
import kills
import million_texts
from lib import kept
from lib.stopping import STATUSES, Whole

STOP = {"signal": "SIGKILL", "at": "a change", "moment": "saving a state", "status": -9}
ROWS = [
    {"fresh": "teach", "faults": []},
    {
        "run": 0,
        "stage": "teach",
        "stops": [STOP, STOP | {"signal": "SIGTERM", "moment": "in training", "status": 143}],
        "faults": [],
    },
    {"run": 1, "stage": "distill", "stops": [STOP, STOP | {"status": 0}], "faults": ["other bits"]},
    {
        "run": 2,
        "stage": "distill",
        "stops": [STOP],
        "apart": {"weights": 3e-7, "losses": 2e-7},
        "faults": [],
    },
]


@pytest.mark.parametrize("module", [checkpoint_cost, data_parallel, million_texts])
def test_doctests(module):
    assert doctest.testmod(module).failed == 0


def test_the_report_counts_stops_by_stage_and_moment_and_tells_every_fault():
    lines = kills.make_report(ROWS)
    text = "\n".join(lines)
    assert "**4 stops, 3 runs, 1 faults.** 1 runs ended" in text  # one stop came too late
    assert "| teach | 1 | 1 | 0 | 0 | 2 |" in lines
    assert "| distill | 2 | 0 | 0 | 0 | 2 |" in lines
    assert "| saving a state | 3 | 0 | 0 | 0 | 3 |" in lines
    assert "| in training | 0 | 1 | 0 | 0 | 1 |" in lines
    assert lines.count("| all | 3 | 1 | 0 | 0 | 4 |") == 2
    assert "2.0e-07 of a loss (bar: 1e-06), 3.0e-07 of a weight." in text
    assert lines[-2] == "- distill, run 1: other bits"
    assert "None." in kills.make_report([row for row in ROWS if not row["faults"]])


def test_aims_are_spread_over_signals_times_and_changes(tmp_path):
    whole = Whole(tmp_path, 2.0, 50)
    chooser = random.Random(0)
    aims = [kills.draw_aim(chooser, whole) for _ in range(400)]
    assert {aim.number for aim in aims} == STATUSES.keys()
    at_times = [aim for aim in aims if not aim.change]
    assert 150 < len(at_times) < 250
    assert all(0 <= aim.after_s <= 2 for aim in at_times)
    assert {aim.change for aim in aims} >= {0, 1, 2, 49, 50}
    assert max(aim.change for aim in aims) == 50


def test_a_changed_a_missing_and_a_left_file_are_named(tmp_path):
    for name in ("whole", "found"):
        student = tmp_path / name / "tiny" / "student"
        student.mkdir(parents=True)
        (student / "losses.json").write_text("[1.0, 0.5]")
        (student / "manifest.json").write_text(name)  # it holds times
        weights = {"a.weight": np.ones(3), "key.bias": np.ones(2)}
        save_file(weights, student / "model.safetensors")
    assert kept.differences(tmp_path / "whole", tmp_path / "found") == []
    apart = kept.largest_differences(tmp_path / "whole", tmp_path / "found")
    assert apart == {"weights": 0, "losses": 0}
    weights = {"a.weight": np.array([1, 1 - 1e-6, 1]), "key.bias": np.zeros(2)}
    save_file(weights, student / "model.safetensors")
    (student / "losses.json").write_text("[1.0, 0.6]")
    (student / ".model.safetensors.tmp").touch()
    (student / "manifest.json").unlink()
    told = kept.differences(tmp_path / "whole", tmp_path / "found")
    assert told == [
        "tiny/student/manifest.json is missing",
        "tiny/student/.model.safetensors.tmp is left over",
        "tiny/student/losses.json has other bits",
        "tiny/student/model.safetensors has other bits",
    ]
    apart = kept.largest_differences(tmp_path / "whole", tmp_path / "found")
    assert apart["weights"] == pytest.approx(1e-6)
    assert apart["losses"] == pytest.approx(0.2)
    for losses, largest in (("[1.0, NaN]", np.inf), ("[1.0, Infinity]", np.inf), ("[0.0, 1]", 1)):
        (student / "losses.json").write_text(losses)
        apart = kept.largest_differences(tmp_path / "found", tmp_path / "found")
        assert apart["losses"] == (np.inf if "NaN" in losses else 0)  # beside itself
        apart = kept.largest_differences(tmp_path / "whole", tmp_path / "found")
        assert apart["losses"] == largest
    for value in (np.nan, np.inf):
        weights["a.weight"] = np.array([1, value, 1])
        save_file(weights, student / "model.safetensors")
        apart = kept.largest_differences(tmp_path / "whole", tmp_path / "found")
        assert apart["weights"] == float("inf")
    (student / "losses.json").write_text("[1.0]")
    apart = kept.largest_differences(tmp_path / "whole", tmp_path / "found")
    assert apart["losses"] == float("inf")


# the process forks, and a child of one that has run threads may wait for ever
STOPS_AT_A_CHANGE = """
import signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import leafkit.pipeline.distill, leafkit.pipeline.teacher.teach  # once for all children
from lib.forked import Aim, Child
from leafkit.cli import main

root, found = Path(sys.argv[2]), []

def write(words):
    for number in range(5):
        (root / f"{number}.txt").write_text("x")
    return 7

main.main = write
for aim in (None, Aim(signal.SIGKILL, 4, 0.0), Aim(signal.SIGKILL, 9, 0.0)):
    for path in root.iterdir():
        path.unlink()
    child = Child([], root, root.parent / "out", aim=aim)
    child.stop()
    found.append([child.wait(60), sorted(p.stem for p in root.iterdir()), child.board.num_changes])
print(found)
"""


@pytest.mark.slow
def test_a_command_is_stopped_just_before_the_change_that_is_aimed_at(tmp_path):
    (tmp_path / "root").mkdir()
    places = [str(Path(kills.__file__).parent), str(tmp_path / "root")]
    done = subprocess.run(
        [sys.executable, "-c", STOPS_AT_A_CHANGE, *places],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    every = ["0", "1", "2", "3", "4"]
    expected = [[7, every, 5], [-signal.SIGKILL, every[:3], 4], [7, every, 5]]
    assert done.stdout.strip() == repr(expected)


@pytest.mark.slow
@pytest.mark.timeout(1300)
def test_a_few_stops_leave_nothing_behind_and_end_in_the_same_bits(tmp_path):
    words = ["--folder", str(tmp_path), "--stops", "6", "--seed", "3", "--print-only"]
    done = subprocess.run(
        [sys.executable, kills.__file__, *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-3000:]
    rows = [json.loads(line) for line in (tmp_path / "stops.jsonl").read_text().splitlines()]
    assert kills.count_stops(rows) >= 6
    assert {row["fresh"] for row in rows if "fresh" in row} >= {"teach", "distill", "static"}
    assert ", 0 faults.**" in done.stdout
