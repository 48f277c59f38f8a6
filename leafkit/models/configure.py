"""An encoder as a training stage wants it: attention, pooling, prompts, memory; and refused where
it is not what was meant.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from transformers.modeling_layers import GradientCheckpointingLayer

from leafkit.core.errors import LeafkitError, UsageError
from leafkit.models.attention import MODES, set_attention
from leafkit.models.packed.backbone import packed_layers
from leafkit.models.pooling import POOLINGS
from leafkit.models.text_encoder import TextEncoder
from leafkit.models.tokenization import with_eos


def configure(
    encoder: TextEncoder,
    attention: str = "",
    pooling: str = "",
    *,
    gradient_checkpointing: bool = False,
    prompts: Mapping[str, str] | None = None,
    templates: Mapping[str, str] | None = None,
) -> TextEncoder:
    """The encoder with another attention, pooling or prompts; it takes the given one's weights
    over.

    The backbone is shared and changed in place: go on with the result, and copy first what must
    stay as it is.

    Args:
        encoder: any encoder.
        attention: bidirectional or causal; "" keeps what the checkpoint says.
        pooling: mean, cls or last; "" keeps. last makes a tokenizer that ends texts with no special
            token append its eos.
        gradient_checkpointing: see ``enable_gradient_checkpointing``.
        prompts: by role, in place of the checkpoint's; None keeps.
        templates: what the prompts were made of, by role; None keeps.

    Raises:
        UsageError: a value is not allowed, or not for this architecture.
        LeafkitError: the architecture or the tokenizer cannot do it.
    """
    if attention and attention not in MODES:
        raise UsageError(f"attention {attention!r} is not one of {', '.join(MODES)}")
    if pooling and pooling not in POOLINGS:
        raise UsageError(f"pooling {pooling!r} is not one of {', '.join(POOLINGS)}")
    spec, tokenizer = encoder.spec, encoder.tokenizer
    if pooling == "cls" and (attention or spec.attention) == "causal":
        raise UsageError(
            "pooling=cls with attention=causal: the first token sees no other, every text would "
            "have one vector",
            "pooling=last, or attention=bidirectional",
        )
    if pooling == "last":
        tokenizer = with_eos(tokenizer)
    if attention:
        set_attention(encoder.backbone, attention)
    spec = replace(
        spec,
        pooling=pooling or spec.pooling,
        attention="",  # the backbone's own
        prompts=spec.prompts if prompts is None else dict(prompts),
        templates=spec.templates if templates is None else dict(templates),
    )
    new = TextEncoder(encoder.backbone, tokenizer, spec, encoder.projection, **encoder.beside)
    new.train(encoder.training)
    if gradient_checkpointing:
        enable_gradient_checkpointing(new)
    return new


def enable_gradient_checkpointing(encoder: TextEncoder) -> None:
    """Keep only each layer's input in training mode and compute the layer again in the backward
    pass (arXiv 1604.06174).

    Raises:
        LeafkitError: neither transformers nor packed execution can recompute the layers of this
            architecture.
    """
    backbone = encoder.backbone
    # Renamed within transformers 5; where both names are there, the older one warns.
    enable = (
        getattr(backbone, "activation_checkpointing_enable", None)
        or backbone.gradient_checkpointing_enable
    )
    try:
        enable({"use_reentrant": False})
    except ValueError as err:
        # transformers' MPNet has no switch, packed execution does without it
        layers = [
            x for x in packed_layers(backbone) if not isinstance(x, GradientCheckpointingLayer)
        ]
        if not layers:
            raise LeafkitError(
                f"{type(backbone).__name__} does not support gradient checkpointing",
                "gradient_checkpointing=false, smaller batch",
            ) from err
        for layer in layers:
            layer.gradient_checkpointing = True


def check_architecture(encoder: TextEncoder, expected: str) -> None:
    """Refuse a model of another architecture than the recipe was written for; "" takes any.

    Raises:
        LeafkitError: its model_type is another.
    """
    found = encoder.backbone.config.model_type
    if expected and found != expected:
        raise LeafkitError(
            f"architecture={expected}, but the start model is a {found}",
            f"take a {expected} model as init, or set architecture={found} (or leave it empty)",
        )
