"""BERT written for a server of single texts: one product for query, key and value, and a mask that
is a sum.

transformers' own forward reaches ONNX as three products per layer, a mask that is gathered index by
index and a test for NaN in every softmax, which a short query pays dearly for. ONNX Runtime's own
attention operator saves more still, in a graph that only ONNX Runtime can run.

Shapes: B texts, T tokens, H hidden width, A heads, D width of a head.
"""

from __future__ import annotations

import torch
from torch import nn
from transformers import BertModel
from transformers.models.bert.modeling_bert import BertLayer

_NEVER = -1e9  # added to the score of a padded token: its weight is exactly 0 in float32


class PlainBert(nn.Module):
    """What a plain BERT gives for ids (B, T) and mask (B, T): the hidden states of the embeddings
    and after each layer, (B, T, H) each.

    Args:
        bert: in evaluation; its modules are used, not copied, but for the fused products.
        for_onnxruntime: attention is one operator of ONNX Runtime's, which torch can export but not
            compute.
    """

    places_TH: torch.Tensor

    def __init__(self, bert: BertModel, for_onnxruntime: bool = False) -> None:
        super().__init__()
        self.for_onnxruntime = for_onnxruntime
        embeddings = bert.embeddings
        self.words, self.norm = embeddings.word_embeddings, embeddings.LayerNorm
        places_TH = (
            embeddings.position_embeddings.weight + embeddings.token_type_embeddings.weight[0]
        )
        self.register_buffer("places_TH", places_TH.detach().clone())
        self.layers = nn.ModuleList(
            (_OperatorLayer if for_onnxruntime else _PlainLayer)(layer)
            for layer in bert.encoder.layer
        )

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> list[torch.Tensor]:
        """Hidden states, the embeddings' first."""
        hidden_BTH = self.norm(self.words(input_ids) + self.places_TH[: input_ids.shape[1]])
        if self.for_onnxruntime:
            seen = attention_mask.to(torch.int32)
        else:
            seen = ((1 - attention_mask) * _NEVER).to(hidden_BTH.dtype)[:, None, None, :]
        states = [hidden_BTH]
        for layer in self.layers:
            hidden_BTH = layer(hidden_BTH, seen)
            states.append(hidden_BTH)
        return states


class _PlainLayer(nn.Module):
    """Attention in operations of the ONNX standard."""

    def __init__(self, layer: BertLayer) -> None:
        super().__init__()
        attention = layer.attention.self
        self.num_heads = attention.num_attention_heads
        scale = attention.attention_head_size**-0.5
        parts = [(attention.query, scale), (attention.key, 1.0), (attention.value, 1.0)]
        self.fused = nn.Linear(attention.query.in_features, 3 * attention.query.out_features)
        with torch.no_grad():
            self.fused.weight.copy_(torch.cat([part.weight * factor for part, factor in parts]))
            self.fused.bias.copy_(torch.cat([part.bias * factor for part, factor in parts]))
        self.attended, self.intermediate, self.output = (
            layer.attention.output,
            layer.intermediate,
            layer.output,
        )

    def forward(self, hidden_BTH: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        attended_BTH = self.attended(self.attend(hidden_BTH, seen), hidden_BTH)
        return self.output(self.intermediate(attended_BTH), attended_BTH)

    def attend(self, hidden_BTH: torch.Tensor, bias_B11T: torch.Tensor) -> torch.Tensor:
        num_texts, length, _ = hidden_BTH.shape
        query_BATD, key_BATD, value_BATD = (
            part.view(num_texts, length, self.num_heads, -1).transpose(1, 2)
            for part in self.fused(hidden_BTH).chunk(3, dim=-1)
        )
        weights_BATT = (query_BATD @ key_BATD.transpose(2, 3) + bias_B11T).softmax(dim=-1)
        return (weights_BATT @ value_BATD).transpose(1, 2).reshape(num_texts, length, -1)


class _OperatorLayer(_PlainLayer):
    """Attention in com.microsoft::Attention: product, heads, mask and softmax in one kernel, which
    has an int8 form.

    Queries are scaled by the product already.
    """

    def __init__(self, layer: BertLayer) -> None:
        super().__init__(layer)
        self.weight_HF = nn.Parameter(self.fused.weight.detach().T.contiguous())

    def attend(self, hidden_BTH: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
        inputs = [hidden_BTH, self.weight_HF, self.fused.bias, mask_BT]
        attributes = {"num_heads": self.num_heads, "scale": 1.0}
        result: torch.Tensor = torch.onnx.ops.symbolic(
            "com.microsoft::Attention",
            inputs,
            attributes,
            dtype=hidden_BTH.dtype,
            shape=hidden_BTH.shape,
            version=1,
        )
        return result
