"""Packed against padded execution, and two attentions for training: throughput of one machine, as
ratios.

    python benchmarks/packed.py

Texts of 10 to 60 random tokens; shapes of MiniLM, the 59M teacher and Qwen2; median of alternating
repetitions. Writes a dated report.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from lib.arguments import make_parser
from lib.machine import describe
from lib.report import command, save, table, title
from torch.nn import functional
from transformers import Qwen2Config, Qwen2Model

from leafkit.models import text_encoder as encoder_module
from leafkit.models.checkpoint import load_encoder
from leafkit.models.grow import grow
from leafkit.models.packed import attention
from leafkit.models.packed.backbone import can_pack
from leafkit.models.text_encoder import EncoderSpec, TextEncoder

NUM_TEXTS = 64


def make_qwen2(like: TextEncoder) -> TextEncoder:
    """Bidirectional layers of Qwen2-0.5B's shape with random weights, under another model's
    tokenizer.
    """
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(like.tokenizer),
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=4,
        num_attention_heads=14,
        num_key_value_heads=2,
    )
    config.is_causal = False
    return TextEncoder(Qwen2Model(config), like.tokenizer, EncoderSpec(pooling="mean"))


def make_batch(seed: int) -> list[list[int]]:
    """Token ids of random texts."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(10, 60, NUM_TEXTS)
    return [
        [101, *generator.integers(1000, 20000, int(length)).tolist(), 102] for length in lengths
    ]


def pad_all(encoder: TextEncoder, batch: list[list[int]]) -> torch.Tensor:
    """The batch as one padded matrix, as most trainers run it."""
    return encoder.project(encoder._pool_padded(batch))


def train_step(run: Callable[[], torch.Tensor], encoder: TextEncoder) -> None:
    """Forward and backward under autocast, without the optimiser."""
    with torch.autocast("cpu", torch.bfloat16):
        vectors = run()
    vectors.square().sum().backward()
    for parameter in encoder.parameters():
        parameter.grad = None


def fused_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    is_causal: bool,
    *,
    bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """torch's own kernel."""
    return functional.scaled_dot_product_attention(
        query, key, value, attn_mask=bias, is_causal=is_causal
    )


def compare(encoder: TextEncoder, turns: int) -> dict[str, float]:
    """Median tokens per second of each way, taking turns."""
    batch = make_batch(0)
    encoder.disable_dropout()
    explicit = attention.explicit_attention

    def fused() -> torch.Tensor:
        attention.explicit_attention = fused_attention
        try:
            return encoder(batch)
        finally:
            attention.explicit_attention = explicit

    def grouped() -> torch.Tensor:
        encoder_module.can_pack = lambda backbone: False
        try:
            return encoder(batch)
        finally:
            encoder_module.can_pack = can_pack

    ways = {
        "packed, explicit attention (leafkit)": lambda: encoder(batch),
        "packed, fused attention": fused,
        "groups of similar length, padded": grouped,
        "one padded matrix": lambda: pad_all(encoder, batch),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(turns + 1):
        for name, run in ways.items():
            started_s = time.perf_counter()
            train_step(run, encoder)
            if repeat:
                seconds[name].append(time.perf_counter() - started_s)
    num_tokens = sum(map(len, batch))
    return {name: num_tokens / statistics.median(values) for name, values in seconds.items()}


def main() -> None:
    """Measure all shapes and write the report."""
    options = make_parser(__doc__, turns=5).parse_args()
    small = load_encoder("builtin:minilm")
    shapes = {
        "MiniLM, 23M": small,
        "teacher, 59M": grow(small, 768, 2304, seed=0),
        "4 layers of Qwen2-0.5B": make_qwen2(small),
    }
    rows = []
    for name, encoder in shapes.items():
        rates = compare(encoder, options.turns)
        best = next(iter(rates.values()))
        rows += [[name, way, f"{rate:,.0f}", f"{rate / best:.2f}"] for way, rate in rates.items()]
    lines = [
        *title("Packed execution"),
        f"{command()}, {describe('torch', num_threads=torch.get_num_threads())}, bf16 autocast.",
        f"Forward and backward of {NUM_TEXTS} texts of 10 to 60 tokens, median of "
        f"{options.turns} alternating repetitions.",
        "",
        *table(["model", "way", "tokens/s", "share of leafkit's"], rows),
    ]
    print(save(lines, "packed"))


if __name__ == "__main__":
    main()
