"""What every test may need: no hub, the shared collections, a config whose paths lie in the test's
own folder.
"""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = (
    "1"  # read when huggingface_hub is imported, so it stands before everything else
)
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # one process per core already

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from leafkit.config import DataConfig
from leafkit.core.console import set_verbosity
from leafkit.core.devices import KINDS

# as the command line does, so that tests can read what a run says
set_verbosity("info")

# a shell's background jobs ignore Ctrl-C, and so would their children
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="session")
def project_root() -> Path:
    """Folder that holds pyproject.toml."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real collections for development; they are no part of the project."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"the development collections are not on this machine: {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture
def data_config(tmp_path: Path) -> DataConfig:
    """A data section whose home collection is an absent file in the test's own folder."""
    return DataConfig(
        corpus=f"jsonl:{tmp_path / 'home.jsonl'}", packages=[], out_of_domain_packages=[]
    )


@pytest.fixture
def ahead(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes the processor count as a device that it runs ahead of, or not; further facts of its
    kind by name.
    """
    import torch

    plain = KINDS["cpu"]

    def count(is_ahead: bool, **facts: Any) -> None:
        # there is no device that could read pinned memory
        monkeypatch.setattr(torch.Tensor, "pin_memory", torch.Tensor.clone)
        monkeypatch.setitem(KINDS, "cpu", replace(plain, runs_ahead=is_ahead, **facts))

    return count


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB; skips where this user may not mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a tmpfs here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def run_python(tmp_path: Path) -> Callable[[str], subprocess.Popen[str]]:
    """Start a fresh Python on some code, with leafkit importable."""

    def start(code: str) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=tmp_path,
        )

    return start


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A slow test may take long on a busy machine; pytest-timeout's five minutes are for the
    others.
    """
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(1500))
