"""Small models of every architecture that runs packed, and texts of many lengths."""

from __future__ import annotations

import numpy as np
import torch
from tiny import make_encoder
from transformers import Qwen2Config, Qwen2Model

from leafkit.models.attention import set_attention
from leafkit.models.text_encoder import EncoderSpec, TextEncoder

LENGTHS = (5, 3, 9, 3, 1, 12, 9, 5)
KINDS = ("bert", "qwen2 bidirectional", "qwen2 causal")


def token_ids() -> list[list[int]]:
    generator = np.random.default_rng(0)
    return [generator.integers(5, 30, length).tolist() for length in LENGTHS]


def make_qwen2(**changes):
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=64,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=48,
        max_position_embeddings=64,
        initializer_range=0.2,
        **changes,
    )
    return Qwen2Model(config).eval()


def make(kind):
    if kind == "bert":
        encoder = make_encoder()
        encoder.disable_dropout()
        return encoder
    backbone = make_qwen2()
    for name, weight in backbone.named_parameters():
        if name.endswith(("bias", "norm.weight")):
            torch.nn.init.normal_(
                weight, mean=1.0 if name.endswith("norm.weight") else 0.0, std=0.3
            )
    set_attention(backbone, kind.split()[1])
    return TextEncoder(backbone, make_encoder().tokenizer, EncoderSpec(pooling="mean"))
