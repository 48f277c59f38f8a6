"""Code is edited in a copy of the package and the same command is given again: what is run?"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tiny

import leafkit

PACKAGE = Path(leafkit.__file__).resolve().parent
STEP = re.compile(r"^(\S.*?)(: up to date| \.\.\.)", re.M)


@pytest.fixture(scope="module")
def place(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package, a recipe that trains a teacher in one stage and distils a student."""
    root = tmp_path_factory.mktemp("edited")
    shutil.copytree(PACKAGE, root / "leafkit", ignore=shutil.ignore_patterns("__pycache__"))
    recipe = tiny.tiny_recipe(home, root / "ck")
    teacher = {key: recipe[key] for key in ("checkpoints", "device", "precision", "data")}
    stage = tiny.tiny_stage(home)
    path = tiny.write_recipe(root / "taught.yaml", teacher | {"stages": {"only": stage}})
    recipe["teacher"] = {"source": f"recipe:{path}"}
    recipe["inherit"] = {"precisions": ["float32"]}
    tiny.write_recipe(root / "tiny.yaml", recipe)
    return root


def _run(place: Path) -> tuple[set[str], set[str]]:
    """``leafkit distill`` with the copy: the steps that ran, and those that were up to date."""
    environment = tiny.environment() | {"PYTHONPATH": str(place), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "leafkit.cli", "distill", f"recipe={place / 'tiny.yaml'}"]
    done = subprocess.run(
        command,
        env=os.environ | environment,
        cwd=place,
        timeout=900,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    steps = [(name, how) for name, how in STEP.findall(done.stdout) if not name.startswith(" ")]
    return {name for name, how in steps if how == " ..."}, {
        name for name, how in steps if how != " ..."
    }


def _edit(place: Path, file: str, old: str, new: str) -> None:
    path = place / "leafkit" / file
    text = path.read_text(encoding="utf-8")
    assert old in text, f"{file} does not hold {old!r}"
    path.write_text(text.replace(old, new), encoding="utf-8")


@pytest.mark.slow
def test_only_what_an_edit_decides_about_is_run_again(place: Path) -> None:
    run, kept = _run(place)
    assert {"only", "student", "index", "bench", "inherit"} <= run
    # comments, docstrings, log lines, the report and the console decide about nothing
    for path in (place / "leafkit").rglob("*.py"):
        path.write_text(path.read_text(encoding="utf-8") + "\n# edited\n", encoding="utf-8")
    _edit(
        place, "losses/leaf.py", '"""Sum over rows of the squared', '"""Edited: sum of the squared'
    )
    for path in [*(place / "leafkit/report").glob("*.py"), place / "leafkit/core/console.py"]:
        path.write_text(path.read_text(encoding="utf-8") + "\nEDITED = 1\n", encoding="utf-8")
    run, kept = _run(place)
    assert run == set()
    assert {"only", "student", "index", "bench", "inherit"} <= kept
    # another loss: the student and what is measured of it, not the teacher and its vectors
    squared = "(student.float() - teacher.float()).square().sum()"
    _edit(place, "losses/leaf.py", squared, "(student.float() - teacher.float()).abs().sum()")
    run, kept = _run(place)
    assert {"student", "bench", "inherit"} <= run
    assert {"only", "index"} <= kept
    assert not any("corpus" in name for name in run)
    assert _run(place)[0] == set()
