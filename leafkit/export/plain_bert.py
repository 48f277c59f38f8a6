"""BERT written for a server of single texts: one product for query, key and value, and a mask that is a sum.

transformers' own forward reaches ONNX as three products per layer, a mask that is gathered index by index and a test for NaN
in every softmax: a short query through the int8 graph took a fifth longer (benchmarks/reports, notes).

Shapes: B texts, T tokens, H hidden width, A heads, D width of a head.
"""

from __future__ import annotations

import torch
from torch import nn
from transformers import BertModel
from transformers.models.bert.modeling_bert import BertLayer

_NEVER = -1e9  # added to the score of a padded token: its weight is exactly 0 in float32


class PlainBert(nn.Module):
    """What a plain BERT gives for ids (B, T) and mask (B, T): last hidden states (B, T, H).

    Args:
        bert: in evaluation; its modules are used, not copied, but for the fused products.
    """

    places_TH: torch.Tensor

    def __init__(self, bert: BertModel) -> None:
        super().__init__()
        embeddings = bert.embeddings
        self.words, self.norm = embeddings.word_embeddings, embeddings.LayerNorm
        places_TH = embeddings.position_embeddings.weight + embeddings.token_type_embeddings.weight[0]
        self.register_buffer("places_TH", places_TH.detach().clone())
        self.layers = nn.ModuleList(_PlainLayer(layer) for layer in bert.encoder.layer)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Last hidden states, (B, T, H)."""
        hidden_BTH = self.norm(self.words(input_ids) + self.places_TH[: input_ids.shape[1]])
        bias_B11T = ((1 - attention_mask) * _NEVER).to(hidden_BTH.dtype)[:, None, None, :]
        for layer in self.layers:
            hidden_BTH = layer(hidden_BTH, bias_B11T)
        return hidden_BTH


class _PlainLayer(nn.Module):
    def __init__(self, layer: BertLayer) -> None:
        super().__init__()
        attention = layer.attention.self
        self.num_heads = attention.num_attention_heads
        parts = [attention.query, attention.key, attention.value]
        width = attention.query.out_features
        scale = (width // self.num_heads) ** -0.5
        self.fused = nn.Linear(attention.query.in_features, 3 * width)
        with torch.no_grad():
            for i, part in enumerate(parts):
                rows = slice(i * width, (i + 1) * width)
                self.fused.weight[rows] = part.weight * (scale if i == 0 else 1.0)
                self.fused.bias[rows] = part.bias * (scale if i == 0 else 1.0)
        self.attended, self.intermediate, self.output = layer.attention.output, layer.intermediate, layer.output

    def forward(self, hidden_BTH: torch.Tensor, bias_B11T: torch.Tensor) -> torch.Tensor:
        num_texts, length, _ = hidden_BTH.shape
        query_BATD, key_BATD, value_BATD = (
            part.view(num_texts, length, self.num_heads, -1).transpose(1, 2) for part in self.fused(hidden_BTH).chunk(3, dim=-1)
        )
        weights_BATT = (query_BATD @ key_BATD.transpose(2, 3) + bias_B11T).softmax(dim=-1)
        context_BTH = (weights_BATT @ value_BATD).transpose(1, 2).reshape(num_texts, length, -1)
        attended_BTH = self.attended(context_BTH, hidden_BTH)
        return self.output(self.intermediate(attended_BTH), attended_BTH)
