"""What packed execution knows of one architecture, and what all of them share.

Shapes: N tokens, H hidden width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from leafkit.models.attention import attention_mode
from leafkit.models.packed.grouping import Packed

# transformers' models and layers: its classes are not imported, which would load them all
Model: TypeAlias = Any
Layer: TypeAlias = Any
SHARDED_RUN = "run_sharded"  # the method of a sharded layer that stands for its forward


@dataclass(frozen=True, slots=True)
class FeedForward:
    """Where a layer's activation is, for those that fuse it with the linear layer before it.

    Attributes:
        linear: path of that linear layer inside the layer.
        activation: path of the activation.
        config_key: field of the config that names the activation.
    """

    linear: str
    activation: str
    config_key: str = "hidden_act"


@dataclass(frozen=True, slots=True)
class Architecture:
    """How one of transformers' models is computed over a packed batch.

    Attributes:
        obstacle: why a model cannot be packed; "" where it can.
        states: hidden states, (N, H) each: of the embeddings, then after each layer, the last ones
            after the final norm, as transformers' ``output_hidden_states`` counts them. A
            generator, so that who wants the last alone keeps no other.
        layers: the layers of a model, first to last.
        feed_forward: None where no linear layer feeds its whole output to an activation.
    """

    obstacle: Callable[[Model], str]
    states: Callable[[Model, Packed], Iterator[torch.Tensor]]
    layers: Callable[[Model], Sequence[Layer]]
    feed_forward: FeedForward | None


def run_layer(
    compute: Callable[..., torch.Tensor], layer: Layer, hidden_NH: torch.Tensor, *inputs: Any
) -> torch.Tensor:
    """``compute(layer, hidden_NH, *inputs)``; a layer whose gradient checkpointing is on keeps only
    its input in training mode, and one that is sharded gathers its weights meanwhile.
    """
    run_sharded = getattr(layer, SHARDED_RUN, None)
    if run_sharded is not None:
        gathered: torch.Tensor = run_sharded(compute, hidden_NH, *inputs)
        return gathered
    return run_whole(layer, compute, hidden_NH, *inputs)


def run_whole(
    layer: Layer, compute: Callable[..., torch.Tensor], hidden_NH: torch.Tensor, *inputs: Any
) -> torch.Tensor:
    """The same of a layer whose weights are all there."""
    if getattr(layer, "gradient_checkpointing", False) and layer.training:
        recomputed: torch.Tensor = checkpoint(
            compute, layer, hidden_NH, *inputs, use_reentrant=False
        )
        return recomputed
    return compute(layer, hidden_NH, *inputs)


def decoder_obstacle(model: Model) -> str:
    """Why an encoder's attention is not the bidirectional one; "" where it is."""
    is_encoder = attention_mode(model) == "" and not getattr(model.config, "is_causal", False)
    return "" if is_encoder else "it is set up as a decoder"


def dropout_obstacle(model: Model, attentions: Sequence[nn.Module], name: str) -> str:
    """Whether attention weights are dropped now; packed attention drops none.

    Args:
        model: in training or evaluation mode.
        attentions: its attention modules.
        name: of the probability, or of the Dropout module, in each of them.
    """
    if not model.training:
        return ""
    dropouts = (getattr(attention, name) for attention in attentions)
    is_active = any(d.p if isinstance(d, nn.Dropout) else d for d in dropouts)
    return "it drops attention weights in training" if is_active else ""


def rotation_obstacle(model: Model) -> str:
    """Whether a text's rotations depend on the longest text of the batch."""
    given = model.config.rope_parameters
    per_kind = [given] if "rope_type" in given else [kind for kind in given.values() if kind]
    of_longest = any(kind["rope_type"] in ("dynamic", "longrope") for kind in per_kind)
    return "its rotations depend on the longest text of a batch" if of_longest else ""
