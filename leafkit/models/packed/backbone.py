"""Encoders without padding: the tokens of all texts in one matrix, attention by groups of equal
length.

Linear layers see (N, H) with N the real tokens of the batch, so nothing is computed for padding and
each weight is read once. Attention runs per length on contiguous views, without a mask. Uses
transformers' own modules and weights.

Shapes: N tokens, H hidden width.
"""

from __future__ import annotations

import torch
from transformers import BertModel, PreTrainedModel, Qwen2Model

from leafkit.models.packed.bert import run_bert
from leafkit.models.packed.grouping import Packed
from leafkit.models.packed.qwen2 import run_qwen2


def can_pack(backbone: PreTrainedModel) -> bool:
    """Whether ``run_packed`` computes this backbone: a plain BERT, or a Qwen2 without sliding
    windows or dropout.

    A subclass may compute something else in a forward of its own, and is not. Nor is a Qwen2 whose
    rotations depend on the longest text of the batch.
    """
    if type(backbone) is Qwen2Model:
        config = backbone.config
        of_longest = config.rope_parameters["rope_type"] in ("dynamic", "longrope")
        return not (backbone.has_sliding_layers or config.attention_dropout or of_longest)
    return is_plain_bert(backbone)


def is_plain_bert(backbone: PreTrainedModel) -> bool:
    """Whether it is transformers' own bidirectional BERT."""
    return type(backbone) is BertModel and not backbone.config.is_decoder


def run_packed(backbone: PreTrainedModel, batch: Packed) -> torch.Tensor:
    """Last hidden states, (N, H): what a backbone that ``can_pack`` gives for each text alone.

    A layer whose gradient checkpointing is on keeps only its input in training mode, as in
    transformers' own forward.
    """
    return run_qwen2(backbone, batch) if type(backbone) is Qwen2Model else run_bert(backbone, batch)
