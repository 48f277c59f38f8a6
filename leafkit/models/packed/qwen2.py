"""Qwen2 over a packed batch, causal or bidirectional as its config says, with transformers' own
modules and weights.

Shapes: N tokens, H hidden width, A heads, K heads of keys and values, D width of a head.
"""

from __future__ import annotations

import torch
from torch.utils.checkpoint import checkpoint
from transformers import Qwen2Model
from transformers.models.qwen2.modeling_qwen2 import Qwen2DecoderLayer, apply_rotary_pos_emb

from leafkit.models.attention import attention_mode
from leafkit.models.packed.attention import attend
from leafkit.models.packed.grouping import Packed


def run_qwen2(model: Qwen2Model, batch: Packed) -> torch.Tensor:
    """Last hidden states, (N, H): what ``model`` gives for each text alone."""
    hidden_NH = model.embed_tokens(batch.ids_N)
    cos_1ND, sin_1ND = model.rotary_emb(hidden_NH, batch.positions_N[None])
    is_causal = attention_mode(model) == "causal"
    for layer in model.layers:
        inputs = (layer, hidden_NH, (cos_1ND[0], sin_1ND[0]), batch)
        if layer.gradient_checkpointing and layer.training:
            hidden_NH = checkpoint(_run_layer, *inputs, is_causal=is_causal, use_reentrant=False)
        else:
            hidden_NH = _run_layer(*inputs, is_causal=is_causal)
    return model.norm(hidden_NH)


def _run_layer(
    layer: Qwen2DecoderLayer,
    hidden_NH: torch.Tensor,
    angles_ND: tuple[torch.Tensor, torch.Tensor],
    batch: Packed,
    *,
    is_causal: bool,
) -> torch.Tensor:
    """One layer on all tokens; ``angles_ND`` are cosines and sines of the rotary positions."""
    attention = layer.self_attn
    normed_NH = layer.input_layernorm(hidden_NH)
    parts = (attention.q_proj(normed_NH), attention.k_proj(normed_NH), attention.v_proj(normed_NH))
    query_NAD, key_NKD, value_NKD = (x.unflatten(1, (-1, attention.head_dim)) for x in parts)
    query_NAD, key_NKD = apply_rotary_pos_emb(query_NAD, key_NKD, *angles_ND)
    # under autocast the rotation is in float32 and the values are not
    context_NH = attend(
        query_NAD.to(value_NKD.dtype),
        key_NKD.to(value_NKD.dtype),
        value_NKD,
        batch,
        is_causal=is_causal,
    )
    hidden_NH = hidden_NH + attention.o_proj(context_NH)
    return hidden_NH + layer.mlp(layer.post_attention_layernorm(hidden_NH))
