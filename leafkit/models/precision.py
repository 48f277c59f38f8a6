"""Which device and which arithmetic: explicit names, or a short measured choice."""

from __future__ import annotations

import functools
import importlib.util
import time

import torch

from leafkit.errors import MissingExtra, UsageError

_PROBE_SHAPE = (2048, 384, 1536)  # the feed-forward product of a 384-wide encoder over one batch
_PROBE_REPEATS = 5


def choose_device(name: str) -> torch.device:
    """The device a recipe names; auto takes cuda, then npu, then mps, then cpu.

    Raises:
        UsageError: the device is not on this machine.
        MissingExtra: the device needs a package that is not installed.
    """
    if name == "auto":
        name = next((n for n in ("cuda", "npu", "mps") if _is_available(n)), "cpu")
    elif name == "npu" and importlib.util.find_spec("torch_npu") is None:
        raise MissingExtra("torch_npu", "npu", "device=npu")
    elif name != "cpu" and not _is_available(name):
        raise UsageError(f"device={name}: there is none on this machine", "leafkit doctor lists what there is; device=auto chooses")
    return torch.device(name)


def _is_available(name: str) -> bool:
    if name == "cuda":
        return torch.cuda.is_available()
    if name == "mps":
        return torch.backends.mps.is_available()
    if name == "npu":
        npu = getattr(torch, "npu", None)
        return npu is not None and bool(npu.is_available())
    return name == "cpu"


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """torch.bfloat16 or torch.float32; auto takes bf16 on a CPU only where it measures faster.

    Raises:
        UsageError: bf16 is asked for on a GPU that has none.
    """
    if name == "float32":
        return torch.float32
    if device.type == "cuda" and not torch.cuda.is_bf16_supported():
        if name == "bf16":
            raise UsageError("precision=bf16: this GPU has no bf16", "precision=float32, or precision=auto")
        return torch.float32
    if name == "bf16" or device.type in {"cuda", "npu"}:
        return torch.bfloat16
    return torch.bfloat16 if device.type == "cpu" and bf16_speedup() > 1.2 else torch.float32


@functools.cache
def bf16_speedup() -> float:
    """How many times faster this CPU multiplies bf16 than float32 matrices; takes about a tenth of a second."""
    rows, inner, columns = _PROBE_SHAPE
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        left, right = torch.ones(rows, inner, dtype=dtype), torch.ones(inner, columns, dtype=dtype)
        torch.mm(left, right)
        best = float("inf")
        for _ in range(_PROBE_REPEATS):
            started_s = time.perf_counter()
            torch.mm(left, right)
            best = min(best, time.perf_counter() - started_s)
        seconds[dtype] = best
    return seconds[torch.float32] / seconds[torch.bfloat16]
