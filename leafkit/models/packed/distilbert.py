"""DistilBERT over a packed batch, with transformers' own modules and weights.

Shapes: N tokens, H hidden width, A heads.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from leafkit.models.packed.architecture import (
    Architecture,
    FeedForward,
    Layer,
    Model,
    decoder_obstacle,
    dropout_obstacle,
    run_layer,
)
from leafkit.models.packed.attention import attend
from leafkit.models.packed.grouping import Packed


def _obstacle(model: Model) -> str:
    attentions = [layer.attention for layer in model.transformer.layer]
    return decoder_obstacle(model) or dropout_obstacle(model, attentions, "dropout")


def _states(model: Model, batch: Packed) -> Iterator[torch.Tensor]:
    embeddings = model.embeddings
    summed_NH = embeddings.word_embeddings(batch.ids_N) + embeddings.position_embeddings(
        batch.positions_N
    )
    hidden_NH = embeddings.dropout(embeddings.LayerNorm(summed_NH))
    yield hidden_NH
    for layer in model.transformer.layer:
        hidden_NH = run_layer(_run_layer, layer, hidden_NH, batch)
        yield hidden_NH


def _run_layer(layer: Layer, hidden_NH: torch.Tensor, batch: Packed) -> torch.Tensor:
    attention = layer.attention
    parts = (attention.q_lin(hidden_NH), attention.k_lin(hidden_NH), attention.v_lin(hidden_NH))
    query_NAD, key_NAD, value_NAD = (x.unflatten(1, (attention.n_heads, -1)) for x in parts)
    context_NH = attend(query_NAD, key_NAD, value_NAD, batch)
    attended_NH = layer.sa_layer_norm(attention.out_lin(context_NH) + hidden_NH)
    output_NH: torch.Tensor = layer.output_layer_norm(layer.ffn(attended_NH) + attended_NH)
    return output_NH


DISTILBERT = Architecture(
    _obstacle,
    _states,
    lambda model: model.transformer.layer,
    FeedForward("ffn.lin1", "ffn.activation", "activation"),
)
