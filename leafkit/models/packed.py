"""BERT without padding: the tokens of all texts in one matrix, attention by groups of equal length.

Linear layers see (N, H) with N the real tokens of the batch, so nothing is computed for padding and each weight is read
once. Attention runs per length on contiguous views, without a mask. Uses transformers' own modules and weights.

Shapes: N tokens, H hidden width, R texts of a group, T their length, A heads, D width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from transformers import BertModel, PreTrainedModel
from transformers.models.bert.modeling_bert import BertLayer


@dataclass(frozen=True, slots=True)
class Packed:
    """A batch as one row of tokens, texts sorted by length.

    Attributes:
        ids_N: token ids.
        positions_N: position of each token in its text.
        groups: ``(number of texts, length)`` of each run of equally long texts, in order.
        order: row i of the packed batch is text ``order[i]``.
    """

    ids_N: torch.Tensor
    positions_N: torch.Tensor
    groups: list[tuple[int, int]]
    order: np.ndarray


def pack(token_ids: Sequence[Sequence[int]], device: torch.device) -> Packed:
    """Concatenate texts, longest first."""
    lengths = np.array([len(ids) for ids in token_ids])
    order = np.argsort(-lengths, kind="stable")
    sizes, counts = np.unique(lengths, return_counts=True)
    ids = np.concatenate([np.asarray(token_ids[i], dtype=np.int64) for i in order])
    positions = np.concatenate([np.arange(lengths[i]) for i in order])
    groups = [(int(r), int(t)) for t, r in zip(sizes[::-1], counts[::-1], strict=True)]
    return Packed(torch.from_numpy(ids).to(device), torch.from_numpy(positions).to(device), groups, order)


def can_pack(backbone: PreTrainedModel) -> bool:
    """Whether ``run_packed`` computes this backbone: a plain bidirectional BERT."""
    return isinstance(backbone, BertModel) and not backbone.config.is_decoder


def run_packed(bert: BertModel, batch: Packed) -> torch.Tensor:
    """Last hidden states, (N, H): what ``bert`` gives for each text alone.

    A layer whose gradient checkpointing is on keeps only its input in training mode, as in transformers' own forward.
    """
    embeddings = bert.embeddings
    summed_NH = (
        embeddings.word_embeddings(batch.ids_N)
        + embeddings.token_type_embeddings.weight[0]
        + embeddings.position_embeddings(batch.positions_N)
    )
    hidden_NH = embeddings.dropout(embeddings.LayerNorm(summed_NH))
    for layer in bert.encoder.layer:
        if layer.gradient_checkpointing and layer.training:
            hidden_NH = checkpoint(_run_layer, layer, hidden_NH, batch.groups, use_reentrant=False)
        else:
            hidden_NH = _run_layer(layer, hidden_NH, batch.groups)
    return hidden_NH


def _run_layer(layer: BertLayer, hidden_NH: torch.Tensor, groups: list[tuple[int, int]]) -> torch.Tensor:
    attention = layer.attention.self
    query_NH, key_NH, value_NH = attention.query(hidden_NH), attention.key(hidden_NH), attention.value(hidden_NH)
    context_NH = _attend(query_NH, key_NH, value_NH, groups, attention.num_attention_heads)
    attended_NH = layer.attention.output(context_NH, hidden_NH)
    return layer.output(layer.intermediate(attended_NH), attended_NH)


def _attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, groups: list[tuple[int, int]], num_heads: int
) -> torch.Tensor:
    """Softmax attention inside each text, (N, H); scaled by 1 / sqrt(D)."""
    sizes = [num_texts * length for num_texts, length in groups]
    parts = []
    for (num_texts, length), q, k, v in zip(groups, *(torch.split(x, sizes) for x in (query, key, value)), strict=True):
        q_RATD, k_RATD, v_RATD = (x.view(num_texts, length, num_heads, -1).transpose(1, 2) for x in (q, k, v))
        is_training_on_cpu = q.requires_grad and q.device.type == "cpu"
        attend = _explicit_attention if is_training_on_cpu else functional.scaled_dot_product_attention
        context_RATD = attend(q_RATD, k_RATD, v_RATD)
        parts.append(context_RATD.transpose(1, 2).reshape(num_texts * length, -1))
    return torch.cat(parts)


def _explicit_attention(query_RATD: torch.Tensor, key_RATD: torch.Tensor, value_RATD: torch.Tensor) -> torch.Tensor:
    """softmax(q k^T / sqrt(D)) v in three steps, all in the inputs' type; the CPU's softmax adds up in float32 all the same.

    The CPU's fused kernel has a slow backward: with it a training step on texts of 10 to 60 tokens took 1.3 times as long.
    Autocast would write bf16 scores out in float32 and read them back: attention of 30 texts of 128 tokens took 2.4 times as
    long, a contrastive step 1.3 times (benchmarks/reports).
    """
    with torch.autocast(query_RATD.device.type, enabled=False):
        scores_RATT = (query_RATD * query_RATD.shape[-1] ** -0.5) @ key_RATD.transpose(2, 3)
        return scores_RATT.softmax(dim=-1) @ value_RATD


def pool_packed(hidden_NH: torch.Tensor, batch: Packed, pooling: str) -> torch.Tensor:
    """(B, H) float32 pooled vectors in the order the texts were given: mean, cls or last."""
    parts = []
    for (num_texts, length), hidden in zip(batch.groups, torch.split(hidden_NH, [r * t for r, t in batch.groups]), strict=True):
        hidden_RTH = hidden.view(num_texts, length, -1)
        if pooling == "mean":
            parts.append(hidden_RTH.sum(dim=1, dtype=torch.float32) / length)
        else:
            parts.append(hidden_RTH[:, 0 if pooling == "cls" else -1].float())
    back = torch.from_numpy(np.argsort(batch.order)).to(hidden_NH.device)
    return torch.cat(parts)[back]
