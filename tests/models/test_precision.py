"""Device and arithmetic: explicit names, clear refusals, a measured choice."""

from __future__ import annotations

import pytest
import torch

from leafkit.core import devices
from leafkit.core.devices import DeviceKind
from leafkit.core.errors import MissingExtra, UsageError
from leafkit.models import precision
from leafkit.models.precision import (
    choose_device,
    choose_precision,
    describe_precision,
    keep_precision,
)

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def available(monkeypatch, *names):
    monkeypatch.setattr(DeviceKind, "why_missing", lambda kind: missing(kind, names))


def missing(kind, names):
    return "" if kind.name in (*names, "cpu") else "there is none on this machine"


@pytest.mark.parametrize(
    ("there", "chosen"), [((), "cpu"), (("cuda", "mps"), "cuda"), (("mps",), "mps")]
)
def test_auto_takes_the_best_device_there_is(monkeypatch, there, chosen):
    available(monkeypatch, *there)
    assert choose_device("auto").type == chosen


def test_cpu_is_always_there(monkeypatch):
    available(monkeypatch)
    assert choose_device("cpu") == CPU


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_a_missing_device_is_a_usage_error_with_a_remedy(monkeypatch, name):
    available(monkeypatch)
    with pytest.raises(UsageError, match=f"device={name}: there is none on this machine") as caught:
        choose_device(name)
    assert caught.value.exit_status == 2
    assert "device=auto" in caught.value.hint


def test_npu_without_its_package_names_the_extra(monkeypatch):
    monkeypatch.setattr(devices.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="torch_npu") as caught:
        choose_device("npu")
    assert caught.value.hint == 'pip install "leafkit[npu]"'


def test_npu_with_its_package_but_without_a_device_is_refused(monkeypatch):
    """``import torch_npu`` may succeed on a machine whose NPU is not there: the name alone is not
    enough.
    """
    monkeypatch.setattr(devices.importlib.util, "find_spec", lambda name: object())
    available(monkeypatch)
    with pytest.raises(UsageError, match="device=npu: there is none on this machine"):
        choose_device("npu")


@pytest.mark.parametrize("device", [CPU, CUDA])
def test_float32_is_taken_at_its_word(device):
    assert choose_precision("float32", device) == torch.float32


@pytest.mark.parametrize(("name", "chosen"), [("auto", torch.bfloat16), ("bf16", torch.bfloat16)])
def test_a_gpu_with_bf16_uses_it(monkeypatch, name, chosen):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    assert choose_precision(name, CUDA) == chosen


def test_a_gpu_without_bf16_falls_back_or_refuses(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    assert choose_precision("auto", CUDA) == torch.float32
    with pytest.raises(UsageError, match="this GPU has no bf16") as caught:
        choose_precision("bf16", CUDA)
    assert "precision=float32" in caught.value.hint


@pytest.mark.parametrize(
    ("speedup", "has_instructions", "chosen"),
    [
        (3.0, True, torch.bfloat16),
        (1.1, True, torch.bfloat16),
        (0.9, True, torch.float32),
        (3.0, False, torch.bfloat16),
        (1.1, False, torch.float32),
        (0.3, False, torch.float32),
    ],
)
def test_a_cpu_uses_bf16_only_where_it_measures_faster(
    monkeypatch, speedup, has_instructions, chosen
):
    monkeypatch.setattr(precision, "bf16_speedup", lambda: speedup)
    monkeypatch.setattr(precision, "has_bf16_instructions", lambda: has_instructions)
    assert choose_precision("auto", CPU) == chosen
    assert choose_precision("bf16", CPU) == torch.bfloat16


def test_mps_stays_in_float32():
    assert choose_precision("auto", torch.device("mps")) == torch.float32


def test_the_probe_measures_a_positive_ratio_once():
    precision.bf16_speedup.cache_clear()
    assert precision.bf16_speedup() > 0
    assert precision.bf16_speedup() == precision.bf16_speedup()
    assert precision.bf16_speedup.cache_info().misses == 1


def test_what_a_probe_chose_is_said_with_its_figure(monkeypatch):
    monkeypatch.setattr(precision, "bf16_speedup", lambda: 2.25)
    assert (
        describe_precision("auto", CPU, torch.bfloat16)
        == "bfloat16 (probe: bf16 at 2.2 times float32's matrix speed)"
    )
    assert describe_precision("float32", CPU, torch.float32) == "float32"
    assert describe_precision("auto", CUDA, torch.bfloat16) == "bfloat16"


@pytest.mark.parametrize("first", [torch.float32, torch.bfloat16])
def test_what_auto_chose_first_stays_on_another_cpu_and_near_the_threshold(
    monkeypatch, tmp_path, first
):
    path = tmp_path / "precision.json"
    monkeypatch.setattr(precision, "has_bf16_instructions", lambda: True)
    monkeypatch.setattr(
        precision, "bf16_speedup", lambda: 1.01 if first == torch.bfloat16 else 0.99
    )
    assert keep_precision("auto", CPU, path) == (first, False)
    for speedup in (0.2, 0.99, 1.01, 5.0):
        monkeypatch.setattr(precision, "bf16_speedup", lambda s=speedup: s)
        assert keep_precision("auto", CPU, path) == (first, True)
    monkeypatch.setattr(precision, "bf16_speedup", lambda: pytest.fail("probed again"))
    assert "chosen when these checkpoints were begun" in describe_precision(
        "auto", CPU, first, is_kept=True
    )
    # a word of the user's counts, and is not kept
    for name, dtype in (("float32", torch.float32), ("bf16", torch.bfloat16)):
        assert keep_precision(name, CPU, path) == (dtype, False)
    assert keep_precision("auto", CPU, path) == (first, True)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff", b'{"cpu": "int3"}', b'{"cpu": 1}'])
def test_a_file_that_says_nothing_usable_is_written_again(monkeypatch, tmp_path, content):
    path = tmp_path / "precision.json"
    path.write_bytes(content)
    monkeypatch.setattr(precision, "bf16_speedup", lambda: 9.0)
    assert keep_precision("auto", CPU, path) == (torch.bfloat16, False)
    assert keep_precision("auto", CPU, path) == (torch.bfloat16, True)


def test_each_device_keeps_its_own_and_a_gpu_without_bf16_is_no_cpu(monkeypatch, tmp_path):
    path = tmp_path / "precision.json"
    monkeypatch.setattr(precision, "bf16_speedup", lambda: 0.1)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    assert keep_precision("auto", CPU, path) == (torch.float32, False)
    assert keep_precision("auto", CUDA, path) == (torch.bfloat16, False)
    assert keep_precision("auto", CPU, path) == (torch.float32, True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)  # another GPU
    assert keep_precision("auto", CUDA, path) == (torch.float32, False)
    assert keep_precision("auto", CUDA, path) == (torch.float32, True)
