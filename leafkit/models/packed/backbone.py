"""Encoders without padding: the tokens of all texts in one matrix, attention by groups of equal
length.

Linear layers see (N, H) with N the real tokens of the batch, so nothing is computed for padding and
each weight is read once. Attention runs per length on contiguous views. Uses transformers' own
modules and weights. ``ARCHITECTURES`` is where another architecture is added.

Shapes: N tokens, H hidden width, L layers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, Literal, overload

import torch
from transformers import BertModel, PreTrainedModel

from leafkit.models.packed.architecture import Architecture
from leafkit.models.packed.bert import BERT
from leafkit.models.packed.decoder import DECODER
from leafkit.models.packed.distilbert import DISTILBERT
from leafkit.models.packed.gemma3 import GEMMA3
from leafkit.models.packed.grouping import Packed
from leafkit.models.packed.modernbert import MODERNBERT
from leafkit.models.packed.mpnet import MPNET
from leafkit.models.packed.roberta import ROBERTA

# by module and class below transformers.models: importing all of them takes a second
ARCHITECTURES: dict[str, Architecture] = {
    "bert.modeling_bert.BertModel": BERT,
    "distilbert.modeling_distilbert.DistilBertModel": DISTILBERT,
    "gemma3.modeling_gemma3.Gemma3TextModel": GEMMA3,
    "mistral.modeling_mistral.MistralModel": DECODER,
    "modernbert.modeling_modernbert.ModernBertModel": MODERNBERT,
    "mpnet.modeling_mpnet.MPNetModel": MPNET,
    "qwen2.modeling_qwen2.Qwen2Model": DECODER,
    "qwen3.modeling_qwen3.Qwen3Model": DECODER,
    "roberta.modeling_roberta.RobertaModel": ROBERTA,
    "xlm_roberta.modeling_xlm_roberta.XLMRobertaModel": ROBERTA,
}


def architecture_of(model_class: type) -> Architecture | None:
    """What is known of exactly this class; None for any other, a subclass too."""
    name = f"{model_class.__module__}.{model_class.__qualname__}"
    return ARCHITECTURES.get(name.removeprefix("transformers.models."))


def why_padded(backbone: PreTrainedModel) -> str:
    """Why ``run_packed`` does not compute this backbone, in words that follow its name; "" where it
    does.

    A subclass may compute something else in a forward of its own. Nor are those packed whose
    rotations depend on the longest text of the batch, or that drop attention weights right now (a
    BERT's are kept, in training too).
    """
    architecture = architecture_of(type(backbone))
    if architecture is not None:
        return architecture.obstacle(backbone)
    for parent in type(backbone).__mro__[1:]:
        if architecture_of(parent) is not None:
            return f"it is no {parent.__name__}, but a subclass that may compute something else"
    return "leafkit knows no packed form of it"


def can_pack(backbone: PreTrainedModel) -> bool:
    """Whether ``run_packed`` computes this backbone; ``why_padded`` says why not."""
    return not why_padded(backbone)


def is_plain_bert(backbone: PreTrainedModel) -> bool:
    """Whether it is transformers' own bidirectional BERT."""
    return type(backbone) is BertModel and not backbone.config.is_decoder


@overload
def run_packed(backbone: PreTrainedModel, batch: Packed) -> torch.Tensor: ...


@overload
def run_packed(
    backbone: PreTrainedModel, batch: Packed, *, all_layers: Literal[True]
) -> list[torch.Tensor]: ...


def run_packed(
    backbone: PreTrainedModel, batch: Packed, *, all_layers: bool = False
) -> torch.Tensor | list[torch.Tensor]:
    """Hidden states of a backbone that ``can_pack``: what it gives for each text alone.

    A layer whose gradient checkpointing is on keeps only its input in training mode, as in
    transformers' own forward.

    Args:
        backbone: the model.
        batch: the texts.
        all_layers: give the states of the embeddings and of all layers, the last ones after the
            final norm: transformers' ``output_hidden_states``.

    Returns:
        (N, H) after the last layer; with ``all_layers`` L + 1 of them, the embeddings' first.

    Raises:
        ValueError: the backbone has no packed form.
    """
    architecture = architecture_of(type(backbone))
    if architecture is None:
        raise ValueError(f"{type(backbone).__name__} cannot be packed: {why_padded(backbone)}")
    states = architecture.states(backbone, batch)
    return list(states) if all_layers else deque(states, maxlen=1)[0]


def packed_layers(backbone: PreTrainedModel) -> Sequence[Any]:
    """The layers that packed execution runs, first to last; none of an architecture without a
    packed form.
    """
    architecture = architecture_of(type(backbone))
    return () if architecture is None else architecture.layers(backbone)
