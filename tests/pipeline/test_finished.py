"""A finished run is known by what it read and wrote; whatever changes, however little, is seen."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny

from leafkit.config.load import load_recipe
from leafkit.core.checkpoint_layout import FINISHED_FILE
from leafkit.pipeline import finished as finished_module
from leafkit.pipeline.distill import run_distill
from leafkit.pipeline.finished import is_finished, record_finished
from leafkit.pipeline.run import Run, open_run

Change = Callable[[Path], None]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe with its data, models and checkpoints, finished; all of it in one folder."""
    root = tmp_path_factory.mktemp("finished") / "place"
    home = tiny.make_home(root / "home")
    recipe = tiny.tiny_recipe(home, root / "ck")
    recipe["inherit"] = {"precisions": ["float32"]}
    tiny.write_recipe(root / "tiny.yaml", recipe)
    _run(root)
    return root


def _run(root: Path, work: Callable[[Run], object] = run_distill) -> Run:
    with open_run(load_recipe(str(root / "tiny.yaml"))) as run:
        work(run)
        report = run.folder / "report.json"
        report.write_text("{}")
        record_finished(run, [report])
    return run


def _is_finished(root: Path, *overrides: str) -> bool:
    return is_finished(load_recipe(str(root / "tiny.yaml"), overrides))


@pytest.fixture
def place(original: Path) -> Path:
    """The finished run, which is put back afterwards: a copy would have other inodes."""
    assert _is_finished(original)
    return original


def _append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\n")


def _touch_back(path: Path) -> None:
    """Change a byte and put the old time of change back."""
    before = path.stat()
    content = path.read_bytes()
    path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _one(root: Path, pattern: str) -> Path:
    return sorted(root.glob(pattern))[0]


CHANGES: dict[str, Change] = {
    "data": lambda root: _append(root / "home/pairs.jsonl"),
    "teacher": lambda root: _touch_back(root / "home/big/model.safetensors"),
    "a file more in the teacher": lambda root: (root / "home/big/more.json").write_text("{}"),
    "student": lambda root: _touch_back(root / "ck/tiny/student/model.safetensors"),
    "a file less in the index": lambda root: (root / "ck/tiny/index/vectors.npy").unlink(),
    "vectors": lambda root: _touch_back(_one(root, "ck/vectors/*/00000.vectors")),
    "corpus": lambda root: _append(_one(root, "ck/corpora/*/documents.jsonl")),
    "figures": lambda root: _append(_one(root, "ck/measured/*/figures.json")),
    "manifest": lambda root: _append(root / "ck/tiny/bench/manifest.json"),
    "report": lambda root: (root / "ck/tiny/report.json").unlink(),
    "torn record": lambda root: (root / "ck/tiny" / FINISHED_FILE).write_text("{"),
    "no record": lambda root: (root / "ck/tiny" / FINISHED_FILE).unlink(),
    "empty record": lambda root: (root / "ck/tiny" / FINISHED_FILE).write_text("{}"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_any_change_is_seen(place: Path, what: str) -> None:
    saved = place.with_name("saved")
    shutil.copytree(place, saved)
    try:
        CHANGES[what](place)
        assert not _is_finished(place)
    finally:
        # the same inodes with the same content are not the same state: the run is made anew
        shutil.rmtree(place)
        saved.rename(place)
        assert not _is_finished(place)
        _run(place)


@pytest.mark.parametrize(
    "override", ["student.optimizer.lr=0.002", "seed=3", "bench.num_samples=1", "force=true"]
)
def test_another_recipe_is_not_finished(place: Path, override: str) -> None:
    assert not _is_finished(place, override)


def test_another_package_or_machine_is_not_finished(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("_package_state", "other"), ("versions", {"torch": "0"})):
        with monkeypatch.context() as patch:
            patch.setattr(finished_module, name, lambda value=value: value)
            assert not _is_finished(place)
    for name, text in (("CUDA_VISIBLE_DEVICES", "7"), ("WORLD_SIZE", "2")):
        with monkeypatch.context() as patch:
            patch.setenv(name, text)
            assert not _is_finished(place)
    assert _is_finished(place)


def test_the_package_state_is_of_every_source_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "leafkit").mkdir()
    source = tmp_path / "leafkit" / "__init__.py"
    source.write_text("A = 1\n")
    monkeypatch.setattr(finished_module, "_PACKAGE", tmp_path / "leafkit")
    first = finished_module._package_state()
    assert finished_module._package_state() == first
    source.write_text("A = 2\n")
    os.utime(source, ns=(0, 10**18))
    assert finished_module._package_state() != first


def test_what_changed_during_the_run_is_seen_by_the_next(place: Path) -> None:
    def distill_then_edit(run: Run) -> None:
        run_distill(run)
        _append(place / "home/pairs.jsonl")

    _run(place, distill_then_edit)
    assert not _is_finished(place)
    _run(place)
    assert _is_finished(place)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("data.corpus", "hf:somebody/rows@train"),
        ("bench.collections", "[mteb:SciFact]"),
        ("teacher.source", "endpoint:text-model"),
        ("teacher.source", "vectors:/data/vectors"),
    ],
)
def test_what_lies_elsewhere_is_asked_every_time(place: Path, key: str, value: str) -> None:
    from leafkit.config.load import load_recipe as load

    recipe = load(str(place / "tiny.yaml"), [f"{key}={value}"])
    assert not finished_module._can_be_watched(recipe)
    assert finished_module._can_be_watched(load(str(place / "tiny.yaml")))


def test_another_recipe_of_the_teacher_is_seen(tmp_path: Path, place: Path) -> None:
    teacher = tiny.write_recipe(tmp_path / "t.yaml", {"stages": {"s": tiny.tiny_stage(place)}})
    recipe = load_recipe(str(place / "tiny.yaml"), [f"teacher.source=recipe:{teacher}"])
    before = finished_module._circumstances(recipe)
    tiny.write_recipe(teacher, {"stages": {"s": tiny.tiny_stage(place, num_steps=5)}})
    assert finished_module._circumstances(recipe) != before


@pytest.mark.slow
def test_the_command_that_has_nothing_to_do_loads_nothing(place: Path) -> None:
    (place / "ck/tiny" / FINISHED_FILE).unlink()
    (place / "ck/tiny/report.json").unlink()  # it is none, and so would not be replaced
    words = ["distill", f"recipe={place / 'tiny.yaml'}"]
    for _ in range(2):
        done = tiny.run_cli(*words, timeout=900)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "tiny: up to date; nothing has changed since" in done.stdout
    assert "nDCG" in done.stdout
    code = (
        f"import sys, time\nfrom leafkit.cli.main import main\nmain({words!r})\n"
        "print([name for name in ('torch', 'transformers', 'lightning') if name in sys.modules])"
    )
    command = [sys.executable, "-c", code]
    environment = tiny.environment()
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
    record = json.loads((place / "ck/tiny" / FINISHED_FILE).read_text())
    assert any(name.endswith("pairs.jsonl") for name in record["files"])
    time.sleep(0.1)
    _append(place / "ck/tiny/bench/results.json")
    done = tiny.run_cli(*words, timeout=900)
    assert done.returncode == 1
    assert "results.json does not have the sha256" in done.stdout + done.stderr
