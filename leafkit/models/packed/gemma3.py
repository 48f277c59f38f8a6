"""Gemma 3's text model over a packed batch, with transformers' own modules and weights: scaled
embeddings, normed queries and keys, windowed and full layers with angles of their own, norms on
both sides of attention and feed-forward.

Shapes: N tokens, H hidden width.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from leafkit.models.attention import attention_mode
from leafkit.models.packed.architecture import Architecture, FeedForward, Layer, Model, run_layer
from leafkit.models.packed.decoder import (
    attend_rotated,
    decoder_like_obstacle,
    layers_of,
    tokens_in_sight,
)
from leafkit.models.packed.grouping import Packed
from leafkit.models.packed.rotary import Sight, angles_by_kind


def _obstacle(model: Model) -> str:
    if model.config.attn_logit_softcapping is not None:
        return "it caps attention scores"
    return decoder_like_obstacle(model)


def _states(model: Model, batch: Packed) -> Iterator[torch.Tensor]:
    hidden_NH = model.embed_tokens(batch.ids_N)
    yield hidden_NH
    angles = angles_by_kind(model, hidden_NH, batch)
    is_causal, layers = attention_mode(model) == "causal", layers_of(model)
    for i, layer in enumerate(layers):
        kind = model.config.layer_types[i]
        window = tokens_in_sight(model) if kind == "sliding_attention" else None
        sight = Sight(angles[kind], is_causal, window)
        hidden_NH = run_layer(_run_layer, layer, hidden_NH, batch, sight)
        yield hidden_NH if i + 1 < len(layers) else model.norm(hidden_NH)


def _run_layer(layer: Layer, hidden_NH: torch.Tensor, batch: Packed, sight: Sight) -> torch.Tensor:
    normed_NH = layer.input_layernorm(hidden_NH)
    attended_NH = attend_rotated(layer.self_attn, normed_NH, batch, sight)
    hidden_NH = hidden_NH + layer.post_attention_layernorm(attended_NH)
    output_NH = layer.mlp(layer.pre_feedforward_layernorm(hidden_NH))
    return hidden_NH + layer.post_feedforward_layernorm(output_NH)


GEMMA3 = Architecture(
    _obstacle,
    _states,
    layers_of,
    FeedForward("mlp.gate_proj", "mlp.act_fn", "hidden_activation"),
)
