"""Encoders without padding: the tokens of all texts in one matrix, attention by groups of equal length.

Linear layers see (N, H) with N the real tokens of the batch, so nothing is computed for padding and each weight is read
once. Attention runs per length on contiguous views, without a mask. Uses transformers' own modules and weights.

Shapes: N tokens, H hidden width, R texts of a group.
"""

from __future__ import annotations

import numpy as np
import torch
from transformers import BertModel, PreTrainedModel, Qwen2Model

from leafkit.models.packed_bert import run_bert
from leafkit.models.packed_qwen2 import run_qwen2
from leafkit.models.packing import Packed


def can_pack(backbone: PreTrainedModel) -> bool:
    """Whether ``run_packed`` computes this backbone: a plain BERT, or a Qwen2 without sliding windows or dropout."""
    if isinstance(backbone, Qwen2Model):
        return not backbone.has_sliding_layers and backbone.config.attention_dropout == 0
    return is_plain_bert(backbone)


def is_plain_bert(backbone: PreTrainedModel) -> bool:
    """Whether it is a bidirectional BERT."""
    return isinstance(backbone, BertModel) and not backbone.config.is_decoder


def run_packed(backbone: PreTrainedModel, batch: Packed) -> torch.Tensor:
    """Last hidden states, (N, H): what a backbone that ``can_pack`` gives for each text alone.

    A layer whose gradient checkpointing is on keeps only its input in training mode, as in transformers' own forward.
    """
    return run_qwen2(backbone, batch) if isinstance(backbone, Qwen2Model) else run_bert(backbone, batch)


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
