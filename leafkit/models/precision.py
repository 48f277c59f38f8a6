"""Which device and which arithmetic: explicit names, or a short measured choice."""

from __future__ import annotations

import contextlib
import functools
import json
import time
from pathlib import Path

import torch

from leafkit.core.artifact import write_durably
from leafkit.core.console import log
from leafkit.core.devices import KINDS, DeviceKind, kind_of
from leafkit.core.errors import MissingExtra, UsageError

_PROBE_SHAPE = (2048, 384, 1536)  # the feed-forward product of a 384-wide encoder over one batch
_PROBE_REPEATS, _PROBE_LIMIT_S = 15, 1.0
_CLEARLY_FASTER = 1.2
_AUTO = {"float32": torch.float32, "bfloat16": torch.bfloat16}  # what auto may choose


def choose_device(name: str) -> torch.device:
    """The device a recipe names; auto takes cuda, then npu, then mps, then cpu.

    Raises:
        UsageError: the device is not on this machine.
        MissingExtra: the device needs a package that is not installed.
    """
    if name == "auto":
        return torch.device(next(kind.name for kind in KINDS.values() if _is_there(kind)))
    kind = KINDS[name]
    if not kind.is_installed():
        raise MissingExtra(kind.package, kind.extra, f"device={name}")
    reason = kind.why_missing()
    if reason:
        raise UsageError(
            f"device={name}: {reason}",
            "leafkit doctor lists what there is; device=auto chooses",
        )
    return torch.device(name)


def _is_there(kind: DeviceKind) -> bool:
    """Whether auto may take it; who installed a package for a device learns why it goes unused."""
    reason = kind.why_missing()
    if reason and kind.package and kind.is_installed():
        log(f"device=auto takes no {kind.title}: {reason}", style="yellow")
    return not reason


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """torch.bfloat16 or torch.float32; auto takes bf16 on a CPU only where it measures faster.

    Raises:
        UsageError: bf16 is asked for on a GPU that has none.
    """
    if name == "float32":
        return torch.float32
    if not kind_of(device).has_bf16():
        if name == "bf16":
            raise UsageError(
                f"precision=bf16: this {kind_of(device).title} has no bf16",
                "precision=float32, or precision=auto",
            )
        return torch.float32
    if name == "bf16" or kind_of(device).prefers_bf16:
        return torch.bfloat16
    return torch.bfloat16 if kind_of(device).is_host and use_bf16_on_cpu() else torch.float32


def keep_precision(name: str, device: torch.device, path: Path) -> tuple[torch.dtype, bool]:
    """The arithmetic, and whether auto chose it earlier: its first choice is kept, for it decides
    about every result. A probe near its threshold, or on another CPU, would choose otherwise, and
    all that was finished would be made again.

    Args:
        name: auto, float32 or bf16; the last two are taken at their word.
        device: computed on.
        path: of the file that keeps what auto chose, by device. One that cannot be read counts as
            empty.

    Raises:
        UsageError: see ``choose_precision``.
        LeafkitError: the file cannot be written.
    """
    if name != "auto":
        return choose_precision(name, device), False
    kept: dict[str, str] = {}
    with contextlib.suppress(OSError, ValueError, TypeError, RecursionError):
        kept = dict(json.loads(path.read_text(encoding="utf-8")))
    dtype = _AUTO.get(str(kept.get(device.type)))
    # a bf16 of another GPU is of no use to one that has none
    if dtype is not None and (dtype == torch.float32 or kind_of(device).has_bf16()):
        return dtype, True
    chosen = choose_precision(name, device)
    kept[device.type] = str(chosen).removeprefix("torch.")
    write_durably(path, json.dumps(kept).encode())
    return chosen, False


def describe_precision(
    name: str, device: torch.device, chosen: torch.dtype, is_kept: bool = False
) -> str:
    """The chosen arithmetic, with the probe's figure where a probe chose it, and a word where the
    choice is an earlier one.
    """
    text = str(chosen).removeprefix("torch.")
    if is_kept:
        return f"{text} (chosen when these checkpoints were begun)"
    if name == "auto" and kind_of(device).is_host:
        text += f" (probe: bf16 at {bf16_speedup():.1f} times float32's matrix speed)"
    return text


def use_bf16_on_cpu() -> bool:
    """Whether bf16 pays on this CPU: where it has the instructions, unless it measures slower; else
    only if much faster.
    """
    return bf16_speedup() > (1.0 if has_bf16_instructions() else _CLEARLY_FASTER)


def has_bf16_instructions() -> bool:
    """Whether the processor multiplies bf16 itself (AVX512-BF16, AMX, or Arm's BF16), as Linux
    tells.
    """
    info = Path("/proc/cpuinfo")
    words = set(info.read_text().split()) if info.is_file() else set()
    return bool(words & {"avx512_bf16", "amx_bf16", "bf16"})


@functools.cache
def bf16_speedup() -> float:
    """How many times faster this CPU multiplies bf16 than float32 matrices; takes a few tenths of a
    second.

    The two take turns and the best of each counts, so that another program's work does not decide.
    Where bf16 is emulated, two turns tell enough: the probe ends when it has taken a second.
    """
    rows, inner, columns = _PROBE_SHAPE
    operands = {
        dtype: (torch.ones(rows, inner, dtype=dtype), torch.ones(inner, columns, dtype=dtype))
        for dtype in (torch.float32, torch.bfloat16)
    }
    best = dict.fromkeys(operands, float("inf"))
    begun_s = time.perf_counter()
    for turn in range(_PROBE_REPEATS):
        if turn >= 2 and time.perf_counter() - begun_s > _PROBE_LIMIT_S:
            break
        for dtype, (left, right) in operands.items():
            started_s = time.perf_counter()
            torch.mm(left, right)
            best[dtype] = min(best[dtype], time.perf_counter() - started_s)
    return best[torch.float32] / best[torch.bfloat16]
