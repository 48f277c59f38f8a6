"""ModernBERT over a packed batch, with transformers' own modules and weights: rotary positions,
layers that see all of a text and layers that see a window of it, each with angles of its own.

Shapes: N tokens, H hidden width, A heads, D width of a head.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from leafkit.models.packed.architecture import (
    Architecture,
    Layer,
    Model,
    decoder_obstacle,
    dropout_obstacle,
    rotation_obstacle,
    run_layer,
)
from leafkit.models.packed.attention import attend
from leafkit.models.packed.grouping import Packed
from leafkit.models.packed.rotary import Sight, angles_by_kind, rotate


def _obstacle(model: Model) -> str:
    attentions = [layer.attn for layer in model.layers]
    return (
        decoder_obstacle(model)
        or rotation_obstacle(model)
        or dropout_obstacle(model, attentions, "attention_dropout")
    )


def _states(model: Model, batch: Packed) -> Iterator[torch.Tensor]:
    hidden_NH = model.embeddings(batch.ids_N)
    yield hidden_NH
    angles = angles_by_kind(model, hidden_NH, batch)
    for i, layer in enumerate(model.layers):
        kind = layer.attention_type
        window = model.config.sliding_window if kind == "sliding_attention" else None
        sight = Sight(angles[kind], False, window)
        hidden_NH = run_layer(_run_layer, layer, hidden_NH, batch, sight)
        yield hidden_NH if i + 1 < len(model.layers) else model.final_norm(hidden_NH)


def _run_layer(layer: Layer, hidden_NH: torch.Tensor, batch: Packed, sight: Sight) -> torch.Tensor:
    attention = layer.attn
    joint_N3AD = attention.Wqkv(layer.attn_norm(hidden_NH)).unflatten(
        1, (3, -1, attention.head_dim)
    )
    query_NAD, key_NAD, value_NAD = joint_N3AD.unbind(dim=1)
    # in float32, rounded once
    query_NAD, key_NAD = (
        x.to(value_NAD.dtype) for x in rotate(query_NAD.float(), key_NAD.float(), sight.angles_ND)
    )
    context_NH = attend(query_NAD, key_NAD, value_NAD, batch, window=sight.window)
    hidden_NH = hidden_NH + attention.out_drop(attention.Wo(context_NH))
    return hidden_NH + layer.mlp(layer.mlp_norm(hidden_NH))


# half of what Wi computes goes through the activation, half around it
MODERNBERT = Architecture(_obstacle, _states, lambda model: model.layers, None)
