"""SIGKILL at any moment costs time, never the result."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import load_file

from leafkit.core.artifact import open_artifact

# each child is killed a random moment after one has appeared
MARKS = (
    ".lock",
    "vectors",
    "tiny/student",
    "tiny/index",
)
MAX_DELAY_S = 0.3
EPOCHS = "student.num_epochs=30"


def student_weights(checkpoints: Path) -> dict[str, torch.Tensor]:
    folder = checkpoints / "tiny" / "student"
    return load_file(folder / "model.safetensors") | load_file(
        folder / "2_Dense" / "model.safetensors"
    )


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_gives_the_same_student(home, tmp_path):
    """Kills fall into the reading, the training, and what follows it; the last child may finish."""
    recipe = tiny.write_recipe(tmp_path / "tiny.yaml", tiny.tiny_recipe(home, tmp_path / "ck"))
    moments = random.Random(3)
    command = [sys.executable, "-m", "leafkit.cli", "distill", f"recipe={recipe}", EPOCHS]
    num_killed = 0
    for mark in MARKS:
        child = subprocess.Popen(
            command, env=tiny.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while not (tmp_path / "ck" / mark).exists() and child.poll() is None:
            time.sleep(0.005)
        time.sleep(moments.uniform(0, MAX_DELAY_S))
        child.kill()
        num_killed += child.wait() == -signal.SIGKILL
    assert num_killed >= 3
    last = tiny.run_cli("distill", f"recipe={recipe}", EPOCHS)
    assert last.returncode == 0, last.stderr
    for stage in ("student", "index", "bench", "inherit"):
        open_artifact(tmp_path / "ck" / "tiny" / stage, stage)
    assert not list((tmp_path / "ck").rglob(".*.draft"))
    undisturbed = tiny.run_cli(
        "distill", f"recipe={recipe}", EPOCHS, f"checkpoints={tmp_path / 'whole'}"
    )
    assert undisturbed.returncode == 0, undisturbed.stderr
    killed, whole = student_weights(tmp_path / "ck"), student_weights(tmp_path / "whole")
    assert killed.keys() == whole.keys()
    assert all(torch.allclose(killed[name], whole[name], rtol=1e-5, atol=1e-5) for name in whole)


@pytest.mark.slow
def test_a_second_process_on_the_same_folder_is_refused_and_harms_nothing(home, tmp_path):
    recipe = tiny.write_recipe(tmp_path / "tiny.yaml", tiny.tiny_recipe(home, tmp_path / "ck"))
    command = [
        sys.executable,
        "-m",
        "leafkit.cli",
        "distill",
        f"recipe={recipe}",
        "student.num_epochs=2000",
    ]
    first = subprocess.Popen(
        command, env=tiny.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "ck" / "vectors").is_dir() and time.monotonic() < deadline:
            time.sleep(0.02)
        second = tiny.run_cli("distill", f"recipe={recipe}")
        assert second.returncode == 1
        assert f"in use by process {first.pid}" in second.stderr
        assert "checkpoints=DIR" in second.stderr
        assert first.poll() is None
    finally:
        first.kill()
        first.wait()
    assert tiny.run_cli("distill", f"recipe={recipe}").returncode == 0, (
        "the lock must go with its process"
    )
