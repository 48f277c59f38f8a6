"""BERT over a packed batch, and its layers, which RoBERTa has too; with transformers' own modules
and weights.

Shapes: N tokens, H hidden width, A heads.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from leafkit.models.packed.architecture import Architecture, FeedForward, Layer, Model, run_layer
from leafkit.models.packed.attention import attend
from leafkit.models.packed.grouping import Packed


def _obstacle(bert: Model) -> str:
    # dropout of attention weights is left out in training, dropout of hidden states is not
    return "it is set up as a decoder" if bert.config.is_decoder else ""


def _states(bert: Model, batch: Packed) -> Iterator[torch.Tensor]:
    return bert_states(bert, batch, batch.positions_N)


def bert_states(bert: Model, batch: Packed, positions_N: torch.Tensor) -> Iterator[torch.Tensor]:
    """Hidden states of the embeddings and after each layer, (N, H).

    Args:
        bert: any model with BERT's embeddings and layers.
        batch: the texts.
        positions_N: rows of the position table.
    """
    embeddings = bert.embeddings
    summed_NH = (
        embeddings.word_embeddings(batch.ids_N)
        + embeddings.token_type_embeddings.weight[0]
        + embeddings.position_embeddings(positions_N)
    )
    hidden_NH = embeddings.dropout(embeddings.LayerNorm(summed_NH))
    yield hidden_NH
    for layer in bert.encoder.layer:
        hidden_NH = run_layer(_run_layer, layer, hidden_NH, batch)
        yield hidden_NH


def _run_layer(layer: Layer, hidden_NH: torch.Tensor, batch: Packed) -> torch.Tensor:
    attention = layer.attention.self
    parts = (attention.query(hidden_NH), attention.key(hidden_NH), attention.value(hidden_NH))
    query_NAD, key_NAD, value_NAD = (
        x.unflatten(1, (attention.num_attention_heads, -1)) for x in parts
    )
    context_NH = attend(query_NAD, key_NAD, value_NAD, batch)
    attended_NH = layer.attention.output(context_NH, hidden_NH)
    output_NH: torch.Tensor = layer.output(layer.intermediate(attended_NH), attended_NH)
    return output_NH


FEED_FORWARD = FeedForward("intermediate.dense", "intermediate.intermediate_act_fn")
BERT = Architecture(_obstacle, _states, lambda bert: bert.encoder.layer, FEED_FORWARD)
