"""What is known of the kinds of devices, and that asking costs no import that was not asked for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from leafkit.config.recipe import DEVICES
from leafkit.core.devices import KINDS, DeviceKind, has_flash_attention, kind_of

CPU = torch.device("cpu")


def run(code: str, folder: Path, project_root: Path, **env: str) -> list[object]:
    """What a fresh Python prints as JSON, with the modules of a folder at hand."""
    environment: Mapping[str, str] = {
        **os.environ,
        "PYTHONPATH": f"{folder}{os.pathsep}{project_root}",
        **env,
    }
    done = subprocess.run(
        [sys.executable, "-c", f"import json, sys\n{code}"],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: list[object] = json.loads(done.stdout)
    return found


def test_a_recipe_may_name_every_kind_and_auto() -> None:
    assert DEVICES == ("auto", "cuda", "npu", "mps", "cpu")


def test_the_processor_is_there_and_its_tensors_lie_in_main_memory() -> None:
    kind = kind_of(CPU)
    assert (kind.why_missing(), kind.backend, kind.model_name()) == ("", "gloo", "")
    assert kind.is_host
    assert kind.random_state() is None
    assert kind.current() == CPU


@pytest.mark.parametrize(
    ("name", "backend"), [("cuda", "cpu:gloo,cuda:nccl"), ("npu", "cpu:gloo,npu:hccl")]
)
def test_tensors_in_main_memory_have_collectives_of_their_own(name: str, backend: str) -> None:
    assert KINDS[name].backend == backend


def test_of_an_unknown_kind_nothing_is_taken_for_granted() -> None:
    assert kind_of(torch.device("meta")) == DeviceKind("meta", "meta")
    assert not has_flash_attention(torch.device("meta"))


def test_knowing_the_kinds_needs_neither_torch_nor_what_brings_an_npu_to_it(
    tmp_path: Path, project_root: Path
) -> None:
    (tmp_path / "torch_npu.py").write_text("")
    code = (
        "from leafkit.core.devices import KINDS\n"
        "seen = [kind.is_installed() for kind in KINDS.values()]\n"
        "print(json.dumps([seen, 'torch' in sys.modules, 'torch_npu' in sys.modules]))"
    )
    assert run(code, tmp_path, project_root) == [[True] * 4, False, False]


def test_the_package_is_imported_for_an_npu_alone(tmp_path: Path, project_root: Path) -> None:
    (tmp_path / "torch_npu.py").write_text("")
    code = (
        "from leafkit.core.devices import KINDS\n"
        "told = []\n"
        "for name in ('cpu', 'cuda', 'npu'):\n"
        "    KINDS[name].why_missing()\n"
        "    told.append('torch_npu' in sys.modules)\n"
        "print(json.dumps(told))"
    )
    assert run(code, tmp_path, project_root) == [False, False, True]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (
            'raise ImportError("libhccl.so: cannot open shared object file")',
            "torch_npu cannot be imported: libhccl.so: cannot open shared object file",
        ),
        ("raise RuntimeError", "torch_npu cannot be imported: RuntimeError"),
        (
            "import types, torch\ntorch.npu = types.SimpleNamespace(is_available=lambda: False)",
            "there is none on this machine",
        ),
        (
            "import types, torch\ntorch.npu = types.SimpleNamespace(is_available=lambda: 1 / 0)",
            "torch does not reach it: division by zero",
        ),
        (
            "import types, torch\ntorch.npu = types.SimpleNamespace(is_available=lambda: True)\n"
            "torch.utils.rename_privateuse1_backend('npu')",
            "",
        ),
    ],
)
def test_why_an_npu_cannot_be_used(
    tmp_path: Path, project_root: Path, content: str, reason: str
) -> None:
    (tmp_path / "torch_npu.py").write_text(content)
    code = (
        "import torch\n"
        "from leafkit.core.devices import KINDS\n"
        "print(json.dumps([KINDS['npu'].why_missing()]))"
    )
    if "rename" not in content:  # the package names the device before torch is asked for it
        content = f"{content}\n"
    assert run(code, tmp_path, project_root) == [reason]


def test_auto_says_why_an_installed_package_goes_unused(tmp_path: Path, project_root: Path) -> None:
    (tmp_path / "torch_npu.py").write_text('raise ImportError("libhccl.so: not found")')
    code = (
        "import logging\n"
        "told = []\n"
        "from leafkit.models.precision import choose_device\n"
        "logging.getLogger('leafkit').setLevel('INFO')\n"
        "handler = logging.Handler()\n"
        "handler.emit = lambda record: told.append(record.getMessage())\n"
        "logging.getLogger('leafkit').addHandler(handler)\n"
        "print(json.dumps([choose_device('auto').type, *told]))"
    )
    found = run(code, tmp_path, project_root)
    assert found == [
        "cpu",
        "device=auto takes no NPU: torch_npu cannot be imported: libhccl.so: not found",
    ]
