"""BERT over a packed batch, with transformers' own modules and weights.

Shapes: N tokens, H hidden width, A heads.
"""

from __future__ import annotations

import torch
from torch.utils.checkpoint import checkpoint
from transformers import BertModel
from transformers.models.bert.modeling_bert import BertLayer

from leafkit.models.packed.attention import attend
from leafkit.models.packed.grouping import Packed


def run_bert(bert: BertModel, batch: Packed) -> torch.Tensor:
    """Last hidden states, (N, H): what ``bert`` gives for each text alone."""
    embeddings = bert.embeddings
    summed_NH = (
        embeddings.word_embeddings(batch.ids_N)
        + embeddings.token_type_embeddings.weight[0]
        + embeddings.position_embeddings(batch.positions_N)
    )
    hidden_NH = embeddings.dropout(embeddings.LayerNorm(summed_NH))
    for layer in bert.encoder.layer:
        if layer.gradient_checkpointing and layer.training:
            hidden_NH = checkpoint(_run_layer, layer, hidden_NH, batch, use_reentrant=False)
        else:
            hidden_NH = _run_layer(layer, hidden_NH, batch)
    return hidden_NH


def _run_layer(layer: BertLayer, hidden_NH: torch.Tensor, batch: Packed) -> torch.Tensor:
    attention = layer.attention.self
    parts = (attention.query(hidden_NH), attention.key(hidden_NH), attention.value(hidden_NH))
    query_NAD, key_NAD, value_NAD = (
        x.unflatten(1, (attention.num_attention_heads, -1)) for x in parts
    )
    context_NH = attend(query_NAD, key_NAD, value_NAD, batch)
    attended_NH = layer.attention.output(context_NH, hidden_NH)
    return layer.output(layer.intermediate(attended_NH), attended_NH)
