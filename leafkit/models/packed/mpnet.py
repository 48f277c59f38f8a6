"""MPNet over a packed batch, with transformers' own modules and weights: a bias by distance, the
same in all layers, on every attention score (arXiv 2004.09297, section 4.1).

Shapes: N tokens, H hidden width, A heads, T tokens of one text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from leafkit.core.devices import kind_of
from leafkit.models.packed.architecture import (
    Architecture,
    Layer,
    Model,
    decoder_obstacle,
    dropout_obstacle,
    run_layer,
)
from leafkit.models.packed.attention import attend
from leafkit.models.packed.bert import FEED_FORWARD
from leafkit.models.packed.grouping import Packed
from leafkit.models.packed.roberta import positions_after


def _obstacle(model: Model) -> str:
    attentions = [layer.attention.attn for layer in model.encoder.layer]
    return decoder_obstacle(model) or dropout_obstacle(model, attentions, "dropout")


def _states(model: Model, batch: Packed) -> Iterator[torch.Tensor]:
    embeddings, encoder = model.embeddings, model.encoder
    summed_NH = embeddings.word_embeddings(batch.ids_N) + embeddings.position_embeddings(
        positions_after(embeddings.padding_idx, batch)
    )
    hidden_NH = embeddings.dropout(embeddings.LayerNorm(summed_NH))
    yield hidden_NH
    biases_1ATT = _biases(encoder, hidden_NH, batch)
    for layer in encoder.layer:
        hidden_NH = run_layer(_run_layer, layer, hidden_NH, batch, biases_1ATT)
        yield hidden_NH


def _biases(encoder: Model, hidden_NH: torch.Tensor, batch: Packed) -> list[torch.Tensor]:
    """Of each group of equally long texts. A bias depends on the distance alone, so that those of
    shorter texts are parts of the longest one's; only where computing each would cost launches are
    they taken from there, for the gradient of a part is as large as the whole.
    """
    lengths = [length for _, length in batch.groups]
    if kind_of(hidden_NH.device).runs_ahead:
        whole = encoder.compute_position_bias(hidden_NH[None, : lengths[0]])
        return [whole[..., :length, :length] for length in lengths]
    # of the texts it takes only how many and how long they are
    return [encoder.compute_position_bias(hidden_NH[None, :length]) for length in lengths]


def _run_layer(
    layer: Layer, hidden_NH: torch.Tensor, batch: Packed, biases_1ATT: Sequence[torch.Tensor]
) -> torch.Tensor:
    """One layer on all tokens; ``biases_1ATT`` has one bias per group of equally long texts."""
    attention = layer.attention.attn
    parts = (attention.q(hidden_NH), attention.k(hidden_NH), attention.v(hidden_NH))
    query_NAD, key_NAD, value_NAD = (
        x.unflatten(1, (attention.num_attention_heads, -1)) for x in parts
    )
    context_NH = attend(query_NAD, key_NAD, value_NAD, batch, biases_1ATT=biases_1ATT)
    summed_NH = layer.attention.dropout(attention.o(context_NH)) + hidden_NH
    attended_NH = layer.attention.LayerNorm(summed_NH)
    output_NH: torch.Tensor = layer.output(layer.intermediate(attended_NH), attended_NH)
    return output_NH


MPNET = Architecture(_obstacle, _states, lambda model: model.encoder.layer, FEED_FORWARD)
