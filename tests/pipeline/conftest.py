"""A finished tiny run, made once, and ways to run recipes in this process."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from leafkit.config.load import load_recipe
from leafkit.pipeline.distill import run_distill
from leafkit.pipeline.run import Run, open_run


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def home(tmp_path_factory) -> Path:
    """Pairs, a teacher and a student's start model; read only."""
    return tiny.make_home(tmp_path_factory.mktemp("home"))


Start = Callable[..., Run]


def start(recipe: Path, *overrides: str, work: Callable[[Run], Any] = run_distill) -> Run:
    """Run ``work`` on a recipe in this process and return the finished run."""
    with open_run(load_recipe(str(recipe), overrides)) as run:
        work(run)
    return run


@pytest.fixture(scope="session", name="start")
def start_fixture() -> Start:
    return start


@pytest.fixture(scope="session")
def finished(home, tmp_path_factory) -> Path:
    """Folder with tiny.yaml and ck/, the checkpoints of its finished distillation; read only: take
    ``done``.
    """
    folder = tmp_path_factory.mktemp("finished")
    recipe = tiny.write_recipe(folder / "tiny.yaml", tiny.tiny_recipe(home, folder / "ck"))
    start(recipe)
    return folder


@pytest.fixture
def done(finished, tmp_path, home) -> Path:
    """The recipe of a finished run, in a copy that a test may damage. Its checkpoints are in ck/
    beside it.
    """
    shutil.copytree(finished / "ck", tmp_path / "ck")
    return tiny.write_recipe(tmp_path / "tiny.yaml", tiny.tiny_recipe(home, tmp_path / "ck"))
