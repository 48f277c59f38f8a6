"""What ``leafkit doctor`` says of NPUs: which of driver, CANN and package is missing; and a package
that breaks ``import torch`` is told of, not met.
"""

from __future__ import annotations

import os
import subprocess
import sys
import types
from pathlib import Path

import pytest
import tiny
import torch

from leafkit.cli.commands import doctor
from leafkit.core.devices import DeviceKind

LACKS_CANN = "libhccl.so: cannot open shared object file: No such file or directory"


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Sets up a machine: the driver's device files, CANN's variable and script, the package."""

    def make(num_files: int = 0, *, cann: str = "", reason: str | None = None, script: str = ""):
        (tmp_path / "dev").mkdir()
        for number in range(num_files):
            (tmp_path / "dev" / f"davinci{number}").touch()
        for name in doctor._CANN_VARIABLES:
            monkeypatch.delenv(name, raising=False)
        if cann:
            monkeypatch.setenv("ASCEND_HOME_PATH", cann)
        if script:
            (tmp_path / script).touch()
        monkeypatch.setattr(doctor, "_CANN_SCRIPTS", (tmp_path / "set_env.sh",))
        monkeypatch.setattr(doctor, "_DEVICE_FILES", tmp_path / "dev")
        monkeypatch.setattr(DeviceKind, "is_installed", lambda kind: reason is not None)
        monkeypatch.setattr(DeviceKind, "why_missing", lambda kind: reason)
        npu = types.SimpleNamespace(device_count=lambda: 2, get_device_name=lambda: "Ascend910B")
        monkeypatch.setattr(torch, "npu", npu, raising=False)
        return doctor._npu()

    return make


def test_without_the_package_and_without_a_device(machine):
    ((what, state, hint),) = machine()
    assert (what, state) == ("NPU", "torch_npu is not installed")
    assert "only for Ascend machines" in hint


def test_devices_without_the_package(machine):
    ((_, state, hint),) = machine(8)
    assert state == "torch_npu is not installed, and the driver shows 8 device(s)"
    assert hint == 'after CANN: pip install "leafkit[npu]"'


@pytest.mark.parametrize("script", ["", "set_env.sh"])
def test_the_package_without_cann(machine, script):
    npu, cann = machine(8, reason=f"torch_npu cannot be imported: {LACKS_CANN}", script=script)
    assert npu[1] == f"torch_npu cannot be imported: {LACKS_CANN}"
    assert npu[2] == "set CANN up; where there is none: pip uninstall torch_npu"
    assert cann[:2] == ("CANN", "not set up: ASCEND_HOME_PATH is not set")
    assert cann[2].startswith("source " if script else "install Ascend's CANN, then source")
    assert cann[2].rstrip(")").endswith("set_env.sh")


@pytest.mark.parametrize(
    ("num_files", "reason", "hint"),
    [
        (8, "torch_npu cannot be imported: undefined symbol: x", "torch's own minor version"),
        (0, "there is none on this machine", "the driver shows no device in /dev"),
        (8, "there is none on this machine", "ASCEND_RT_VISIBLE_DEVICES may hide some"),
    ],
)
def test_what_else_may_be_missing(machine, num_files, reason, hint):
    npu, cann = machine(num_files, cann="/opt/cann", reason=reason)
    assert npu[:2] == ("NPU", reason)
    assert hint in npu[2]
    assert cann == ("CANN", "/opt/cann (ASCEND_HOME_PATH)", "")


def test_devices_that_can_be_used(machine):
    npu, cann = machine(2, cann="/opt/cann", reason="")
    assert npu == ("NPU", "2 device(s), Ascend910B; tested on a made-up device only", "")
    assert cann[2] == ""


def install_broken_package(folder: Path) -> dict[str, str]:
    """A distribution that torch loads when it is imported, and that fails as torch_npu does where
    CANN is not there; the environment of a process that finds it.
    """
    (folder / "torch_npu").mkdir()
    (folder / "torch_npu" / "__init__.py").write_text(f"raise ImportError({LACKS_CANN!r})\n")
    about = folder / "torch_npu-2.13.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: torch_npu\nVersion: 2.13.0\n")
    (about / "entry_points.txt").write_text("[torch.backends]\ntorch_npu = torch_npu:_autoload\n")
    return {"PYTHONPATH": f"{folder}{os.pathsep}{tiny.ROOT}"}


def run(words: list[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "leafkit.cli", *words],
        env=tiny.environment(**env),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_a_package_that_breaks_torch_is_told_of(tmp_path):
    done = run(["doctor"], install_broken_package(tmp_path))
    assert done.returncode == 0, done.stderr
    assert f"torch_npu cannot be imported: {LACKS_CANN}" in done.stdout
    assert "device=cpu" in done.stdout


@pytest.mark.slow
def test_other_commands_say_in_one_line_that_torch_cannot_be_imported(tmp_path):
    home = tiny.make_home(tmp_path / "home")
    recipe = tiny.write_recipe(tmp_path / "t.yaml", tiny.tiny_recipe(home, tmp_path / "ck"))
    done = run(["distill", f"recipe={recipe}"], install_broken_package(tmp_path))
    assert done.returncode == 1
    said = (
        f"torch cannot be imported: Failed to load the backend extension: torch_npu: {LACKS_CANN}"
    )
    assert said in done.stderr
    assert "leafkit doctor tells what it lacks" in done.stderr
    assert "Traceback" not in done.stderr
