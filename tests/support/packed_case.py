"""Small models of every architecture that runs packed, and texts of many lengths."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from tiny import make_encoder
from transformers import AutoConfig, AutoModel, Qwen2Config, Qwen2Model

from leafkit.models import text_encoder
from leafkit.models.attention import set_attention
from leafkit.models.text_encoder import EncoderSpec, TextEncoder

LENGTHS = (5, 3, 9, 3, 1, 12, 9, 5)
NUM_LAYERS = 3
# windows are narrower than the longer texts
KINDS = {
    "bert": {},
    "roberta": {"pad_token_id": 1},
    "xlm-roberta": {"pad_token_id": 1},
    "mpnet": {"pad_token_id": 1},
    "distilbert": {},
    "modernbert": {"local_attention": 6, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0},
    "qwen2 bidirectional": {},
    "qwen2 causal": {},
    "qwen2 windowed": {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
    "qwen3 bidirectional": {},
    "qwen3 causal": {},
    "mistral bidirectional": {"sliding_window": None},
    "mistral causal": {"sliding_window": None},
    "mistral windowed": {"sliding_window": 3},
    "mistral bidirectional windowed": {"sliding_window": 3},
    "gemma3_text bidirectional": {"sliding_window": 4},
    "gemma3_text causal": {"sliding_window": 4},
    "gemma3_text built": {"sliding_window": 6, "use_bidirectional_attention": True},
}


def token_ids(lengths=LENGTHS) -> list[list[int]]:
    generator = np.random.default_rng(0)
    return [generator.integers(5, 30, length).tolist() for length in lengths]


def packed_then_padded(monkeypatch) -> Iterator[bool]:
    """True, as models run, then False, as if none could be packed."""
    yield True
    monkeypatch.setattr(text_encoder, "can_pack", lambda _: False)
    yield False


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


def make_backbone(kind: str, *, positions: int = 64, **changes):
    """Random weights, those of norms and biases too: zeros and ones would hide a mistake."""
    architecture = kind.split()[0]
    sizes = {
        "vocab_size": 64,
        "hidden_size": 32,
        "num_hidden_layers": NUM_LAYERS,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 48,
        "hidden_dim": 48,
        "head_dim": 8,
        "max_position_embeddings": positions,
        "initializer_range": 0.2,
        # of one layer each, where it is a question
        "layer_types": ["full_attention", *["sliding_attention"] * (NUM_LAYERS - 1)],
        "query_pre_attn_scalar": 5,
    }
    default = AutoConfig.for_model(architecture)
    known = default.to_dict().keys() | type(default).attribute_map.keys()
    sizes = {name: value for name, value in sizes.items() if name in known}
    if architecture.startswith("qwen"):
        del sizes["layer_types"]
    torch.manual_seed(0)
    config = AutoConfig.for_model(architecture, **sizes | KINDS[kind] | changes)
    has_pooler = architecture in ("bert", "roberta", "xlm-roberta", "mpnet")
    backbone = AutoModel.from_config(
        config, **({"add_pooling_layer": False} if has_pooler else {})
    ).eval()
    for name, weight in backbone.named_parameters():
        if weight.ndim == 1:
            is_scale = "orm.weight" in name or "norm.weight" in name
            mean = 1.0 if is_scale and architecture != "gemma3_text" else 0.0
            torch.nn.init.normal_(weight, mean=mean, std=0.3)
    for mode in ("bidirectional", "causal"):
        if mode in kind:
            set_attention(backbone, mode)
    return backbone


def make(kind: str, **changes) -> TextEncoder:
    """An encoder of one of ``KINDS`` without dropout, mean pooling."""
    encoder = TextEncoder(
        make_backbone(kind, **changes), make_encoder().tokenizer, EncoderSpec(pooling="mean")
    )
    encoder.disable_dropout()
    return encoder.eval()
