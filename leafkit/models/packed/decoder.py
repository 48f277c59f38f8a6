"""Decoders of Llama's kind over a packed batch, causal or bidirectional as their config says, with
transformers' own modules and weights: Qwen2, Qwen3 and Mistral.

Shapes: N tokens, H hidden width, A heads, K heads of keys and values, D width of a head.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from leafkit.models.attention import attention_mode
from leafkit.models.packed.architecture import (
    Architecture,
    FeedForward,
    Layer,
    Model,
    dropout_obstacle,
    rotation_obstacle,
    run_layer,
)
from leafkit.models.packed.attention import attend
from leafkit.models.packed.grouping import Packed
from leafkit.models.packed.rotary import Sight, angles_of, rotate

FEED_FORWARD = FeedForward("mlp.gate_proj", "mlp.act_fn")


def layers_of(model: Model) -> Sequence[Layer]:
    """The layers that the config says there are."""
    return model.layers[: model.config.num_hidden_layers]


def decoder_like_obstacle(model: Model) -> str:
    """Why a decoder of this kind cannot be packed."""
    attentions = [layer.self_attn for layer in model.layers]
    return rotation_obstacle(model) or dropout_obstacle(model, attentions, "attention_dropout")


def tokens_in_sight(model: Model) -> int | None:
    """Tokens that a layer with a sliding window sees to the left of each, and without a causal mask
    to its right, as transformers builds its masks; None without windows.

    The window counts the token itself where the mask was made causal, and where the causal mask is
    opened again (``use_bidirectional_attention``); it does not where ``is_causal`` is false.
    """
    window: int | None = model.config.sliding_window
    if window is None:
        return None
    return window - 1 if getattr(model.config, "is_causal", True) else window


def _states(model: Model, batch: Packed) -> Iterator[torch.Tensor]:
    hidden_NH = model.embed_tokens(batch.ids_N)
    yield hidden_NH
    angles_ND = angles_of(model, hidden_NH, batch)
    is_causal, layers = attention_mode(model) == "causal", layers_of(model)
    for i, layer in enumerate(layers):
        # of Qwen's layers some may have a window; Mistral's all have one, or none has
        sees_all = getattr(layer.self_attn, "sliding_window", model.config.sliding_window) is None
        sight = Sight(angles_ND, is_causal, None if sees_all else tokens_in_sight(model))
        hidden_NH = run_layer(_run_layer, layer, hidden_NH, batch, sight)
        yield hidden_NH if i + 1 < len(layers) else model.norm(hidden_NH)


def _run_layer(layer: Layer, hidden_NH: torch.Tensor, batch: Packed, sight: Sight) -> torch.Tensor:
    normed_NH = layer.input_layernorm(hidden_NH)
    hidden_NH = hidden_NH + attend_rotated(layer.self_attn, normed_NH, batch, sight)
    return hidden_NH + layer.mlp(layer.post_attention_layernorm(hidden_NH))


def attend_rotated(
    attention: Layer, normed_NH: torch.Tensor, batch: Packed, sight: Sight
) -> torch.Tensor:
    """Attention of a decoder's layer, (N, H); heads of queries and keys are normed where the layer
    has norms for them.
    """
    parts = (attention.q_proj(normed_NH), attention.k_proj(normed_NH), attention.v_proj(normed_NH))
    query_NAD, key_NKD, value_NKD = (x.unflatten(1, (-1, attention.head_dim)) for x in parts)
    if hasattr(attention, "q_norm"):
        query_NAD, key_NKD = attention.q_norm(query_NAD), attention.k_norm(key_NKD)
    query_NAD, key_NKD = rotate(query_NAD, key_NKD, sight.angles_ND)
    # under autocast the rotation is in float32 and the values are not
    context_NH = attend(
        query_NAD.to(value_NKD.dtype),
        key_NKD.to(value_NKD.dtype),
        value_NKD,
        batch,
        is_causal=sight.is_causal,
        window=sight.window,
        scale=attention.scaling,
    )
    attended_NH: torch.Tensor = attention.o_proj(context_NH)
    return attended_NH


DECODER = Architecture(decoder_like_obstacle, _states, layers_of, FEED_FORWARD)
