"""What is known of the kinds of devices, and that asking costs no import that was not asked for."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch

from leafkit.config.recipe import DEVICES
from leafkit.core.devices import KINDS, DeviceKind, fetch, has_flash_attention, kind_of, send
from leafkit.models.precision import choose_device

CPU = torch.device("cpu")
NPU = KINDS["npu"]
LACKS_CANN = "libhccl.so: cannot open shared object file: No such file or directory"


@pytest.fixture
def write_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Puts a module in the place of Ascend's package, and forgets it afterwards."""

    def write(content: str) -> None:
        (tmp_path / "torch_npu.py").write_text(content)
        monkeypatch.syspath_prepend(tmp_path)

    yield write
    sys.modules.pop("torch_npu", None)


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


def test_knowing_the_kinds_imports_neither_torch_nor_what_brings_an_npu_to_it(
    tmp_path: Path, project_root: Path
) -> None:
    (tmp_path / "torch_npu.py").write_text("")
    code = (
        "import sys\n"
        "from leafkit.core.devices import KINDS\n"
        "assert all(kind.is_installed() for kind in KINDS.values())\n"
        "print(sorted({'torch', 'torch_npu'} & sys.modules.keys()))"
    )
    path = f"{tmp_path}{os.pathsep}{project_root}"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )
    assert done.stdout == "[]\n", done.stderr


def test_the_package_is_imported_for_an_npu_alone(write_package) -> None:
    write_package("")
    for name in ("cpu", "cuda", "mps"):
        KINDS[name].why_missing()
    assert choose_device("cpu") == CPU
    assert "torch_npu" not in sys.modules
    NPU.why_missing()
    assert "torch_npu" in sys.modules


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (
            f"raise ImportError({LACKS_CANN!r})",
            f"torch_npu cannot be imported: {LACKS_CANN}",
        ),
        ("raise RuntimeError", "torch_npu cannot be imported: RuntimeError"),
        ("is_available = lambda: False", "there is none on this machine"),
        ("is_available = lambda: 1 / 0", "torch does not reach it: division by zero"),
        ("is_available = lambda: True", ""),
    ],
)
def test_why_an_npu_cannot_be_used(
    write_package, monkeypatch: pytest.MonkeyPatch, content: str, reason: str
) -> None:
    write_package(content)
    npu = types.SimpleNamespace(is_available=lambda: sys.modules["torch_npu"].is_available())
    monkeypatch.setattr(torch, "npu", npu, raising=False)
    assert NPU.why_missing() == reason


def test_auto_says_why_an_installed_package_goes_unused(
    write_package, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.mps, "is_available", lambda: False)
    write_package(f"raise ImportError({LACKS_CANN!r})")
    with caplog.at_level("INFO", logger="leafkit"):
        assert choose_device("auto") == CPU
    assert f"device=auto takes no NPU: torch_npu cannot be imported: {LACKS_CANN}" in caplog.text


def test_auto_does_not_ask_for_an_npu_where_there_is_a_gpu(
    write_package, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    write_package("raise ImportError")
    assert choose_device("auto").type == "cuda"


def test_on_the_processor_nothing_is_copied_to_be_sent_or_fetched() -> None:
    tensor = torch.arange(3.0)
    assert send(tensor, CPU) is tensor
    assert fetch(tensor)() is tensor


def test_what_is_sent_ahead_goes_through_pinned_memory_without_waiting(ahead, monkeypatch) -> None:
    """Only main memory can be pinned, and a queued copy of memory that is not would be read while
    it changes.
    """
    ahead(True)
    calls = []

    class Noting:
        device = CPU

        def pin_memory(self) -> Noting:
            calls.append("pinned")
            return self

        def to(self, device: torch.device, **how: bool) -> Noting:
            calls.append((device.type, how))
            return self

    send(Noting(), CPU)
    assert calls == ["pinned", ("cpu", {"non_blocking": True})]
    calls.clear()
    elsewhere = Noting()
    elsewhere.device = torch.device("meta")
    send(elsewhere, CPU)
    assert calls == [("cpu", {})]


def test_a_device_is_waited_for_where_it_is_run_ahead_of(ahead, monkeypatch) -> None:
    calls = []
    monkeypatch.setattr(torch.cpu, "synchronize", lambda: calls.append("waited"))
    for is_ahead, expected in ((False, []), (True, ["waited"])):
        ahead(is_ahead)
        kind_of(CPU).wait()
        assert calls == expected


def test_what_is_fetched_is_waited_for_when_it_is_wanted(ahead, monkeypatch) -> None:
    ahead(True)
    calls = []

    class Event:
        def record(self) -> None:
            calls.append("queued")

        def synchronize(self) -> None:
            calls.append("waited")

    monkeypatch.setattr(torch.cpu, "Event", Event)
    arriving = fetch(torch.arange(3.0))
    assert calls == ["queued"]
    assert arriving().tolist() == [0, 1, 2]
    assert calls == ["queued", "waited"]
