"""The card: what it is called, and what it does at most on one large matrix product."""

from __future__ import annotations

import torch
from lib.machine import describe, num_cores

from gpu_parts.arithmetic import peak_tflops
from gpu_parts.made import device_of, seconds_of
from gpu_parts.part import Emit, Part, Setting
from leafkit.core.devices import has_flash_attention, kind_of


def run(setting: Setting, emit: Emit) -> None:
    """Name, peak and matrix rate."""
    device = device_of(setting)
    kind, size = kind_of(device), 256 if setting.is_tiny else 8192
    name = kind.model_name()
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        a @ b
    repeats = 3 if setting.is_tiny else 50
    seconds = seconds_of(lambda: [a @ b for _ in range(repeats)], device)
    emit(
        {
            "way": name or "processor",
            "machine": describe("torch", "transformers", "lightning", hardware=name, python=True),
            "cores": num_cores(),
            "memory_gib": torch.cuda.mem_get_info()[1] / 2**30 if name else None,
            "cuda": torch.version.cuda or "none",
            "varlen": "yes" if has_flash_attention(device) else "no",
            "peak_tflops": setting.peak_tflops or peak_tflops(name),
            "matmul_tflops": repeats * 2 * size**3 / seconds / 1e12,
        }
    )


CARD = Part(
    "card",
    "The card",
    "The peak is the vendor's, dense bf16, or what --peak-tflops says; beside it the rate on one"
    " square matrix product in bf16, which no model exceeds. varlen: whether texts of any lengths"
    " go through one attention kernel.",
    45,
    run,
    {
        "way": ("device", ""),
        "cuda": ("CUDA of torch", ""),
        "cores": ("processor cores", ""),
        "memory_gib": ("memory, GiB", ".0f"),
        "varlen": ("varlen", ""),
        "peak_tflops": ("peak, TFLOPs/s", ",.0f"),
        "matmul_tflops": ("matrix product, TFLOPs/s", ",.3g"),
    },
)
