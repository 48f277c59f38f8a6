"""Packed execution against padded groups, on every architecture that has a packed form."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch

from gpu_parts.made import device_of, make_ids, make_lengths
from gpu_parts.part import Emit, Part, Row, Setting, Verdict, at_most
from leafkit.models import text_encoder as encoder_module
from leafkit.models.checkpoint import load_encoder
from leafkit.models.packed.backbone import can_pack, why_padded
from leafkit.models.text_encoder import TextEncoder
from leafkit.models.tiny import tiny_encoder

BAR = 1e-5
# by name: transformers' model_type, attention, further fields of the config
KINDS: dict[str, tuple[str, str, dict[str, int | None]]] = {
    "bert": ("bert", "", {}),
    "roberta": ("roberta", "", {}),
    "xlm-roberta": ("xlm-roberta", "", {}),
    "distilbert": ("distilbert", "", {}),
    "mpnet": ("mpnet", "", {}),
    "modernbert, windows": ("modernbert", "", {"local_attention": 32}),
    "qwen2, causal": ("qwen2", "causal", {}),
    "qwen2, bidirectional": ("qwen2", "bidirectional", {}),
    "qwen3, bidirectional": ("qwen3", "bidirectional", {}),
    "mistral, causal, windows": ("mistral", "causal", {"sliding_window": 16}),
    "mistral, bidirectional": ("mistral", "bidirectional", {"sliding_window": None}),
    "gemma3, windows": ("gemma3_text", "bidirectional", {"sliding_window": 16}),
}


@contextmanager
def padded() -> Iterator[None]:
    """Within it no encoder runs packed."""
    encoder_module.can_pack = lambda backbone: False
    try:
        yield
    finally:
        encoder_module.can_pack = can_pack


def gap(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest difference as a share of the largest value."""
    return float((found - expected).abs().max() / expected.abs().max())


def _pooled(encoder: TextEncoder, ids: Sequence[np.ndarray], is_packed: bool) -> torch.Tensor:
    with torch.no_grad():
        if is_packed:
            return encoder.pool(ids)
        with padded():
            return encoder.pool(ids)


def _gradient(encoder: TextEncoder, ids: Sequence[np.ndarray], is_packed: bool) -> torch.Tensor:
    """All weights' gradients in one row, under bf16 autocast as in training."""
    encoder.zero_grad(set_to_none=True)
    with torch.autocast(encoder.device.type, torch.bfloat16):
        if is_packed:
            pooled = encoder.pool(ids)
        else:
            with padded():
                pooled = encoder.pool(ids)
    torch.nn.functional.normalize(pooled, dim=1)[:, 0].sum().backward()
    found = [p.grad.flatten() for p in encoder.parameters() if p.grad is not None]
    return torch.cat(found).float()


def run(setting: Setting, emit: Emit) -> None:
    """float32 without TF32, bf16 weights, and gradients under bf16 autocast."""
    torch.set_float32_matmul_precision("highest")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    device, tokenizer = device_of(setting), load_encoder("builtin:minilm").tokenizer
    hidden, count, longest = (64, 12, 60) if setting.is_tiny else (256, 96, 300)
    lengths = make_lengths(count, longest // 4, longest)
    for name, (architecture, attention, fields) in KINDS.items():
        encoder = tiny_encoder(
            architecture, tokenizer, 0, attention=attention, hidden=hidden, **fields
        )
        assert not why_padded(encoder.backbone), name
        encoder.disable_dropout()
        size = encoder.backbone.config.vocab_size
        ids = make_ids(lengths, 3, size)
        encoder.to(device)
        half = copy.deepcopy(encoder)
        half.backbone.to(torch.bfloat16)
        exact = _pooled(encoder, ids, is_packed=False)
        of_packed, of_padded = (_gradient(encoder, ids, is_packed) for is_packed in (True, False))
        emit(
            {
                "way": name,
                "float32": gap(_pooled(encoder, ids, is_packed=True), exact),
                "bf16_packed": gap(_pooled(half, ids, is_packed=True), exact),
                "bf16_padded": gap(_pooled(half, ids, is_packed=False), exact),
                "gradient": float((of_packed - of_padded).norm() / of_padded.norm()),
            }
        )


def judge(rows: Sequence[Row]) -> list[Verdict]:
    """The largest difference in float32."""
    found = [row["float32"] for row in rows if "float32" in row]
    # numpy's maximum of something that is no number is none either
    largest = float(np.max(found)) if len(found) == len(KINDS) else None
    what = f"packed against padded, float32, {len(KINDS)} architectures, relative difference"
    return [at_most(what, BAR, largest, ".1e")]


EQUALITY = Part(
    "equality",
    "Packed against padded",
    "Pooled vectors of small random models over texts of many lengths: largest difference from"
    " padded groups in float32 (TF32 off), as a share of the largest value. In bf16 weights the"
    " same for both ways, from the float32 vectors. Gradients of all weights under bf16 autocast:"
    " norm of the difference between packed and padded, as a share of the norm.",
    60,
    run,
    {
        "way": ("architecture", ""),
        "float32": ("float32", ".1e"),
        "bf16_packed": ("bf16, packed", ".1e"),
        "bf16_padded": ("bf16, padded", ".1e"),
        "gradient": ("gradients, bf16", ".1e"),
    },
    judge,
)
