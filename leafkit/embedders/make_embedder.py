"""From an encoder to what embeds many texts with it."""

from __future__ import annotations

import functools

import torch

from leafkit.core.console import log
from leafkit.core.errors import LeafkitError
from leafkit.embedders.lookup_table import LookupTableEmbedder
from leafkit.embedders.protocol import LocalEmbedder
from leafkit.embedders.transformer import TransformerEmbedder
from leafkit.models.encoder_protocol import Encoder
from leafkit.models.packed.backbone import why_padded
from leafkit.models.static_encoder import StaticEncoder
from leafkit.models.text_encoder import TextEncoder


def make_embedder(
    encoder: Encoder,
    device: torch.device | str = "cpu",
    precision: torch.dtype = torch.float32,
) -> LocalEmbedder:
    """An embedder of an encoder.

    Args:
        encoder: a transformer, or a static encoder, whose table answers on the CPU in float32
            wherever the device is.
        device: where a transformer computes.
        precision: of a transformer's backbone: torch.float32 or torch.bfloat16.

    Raises:
        LeafkitError: there is no embedder for encoders of this kind.
    """
    if isinstance(encoder, StaticEncoder):
        return LookupTableEmbedder(encoder)
    if isinstance(encoder, TextEncoder):
        reason = why_padded(encoder.backbone)
        if reason:
            _say_padded(type(encoder.backbone).__name__, reason)
        return TransformerEmbedder(encoder, torch.device(device), precision)
    raise LeafkitError(
        f"there is no embedder for a {type(encoder).__name__}",
        "a TextEncoder and a StaticEncoder have one",
    )


@functools.cache
def _say_padded(name: str, reason: str) -> None:
    """Once for each reason: a run opens its models many times."""
    log(f"  {name} runs in padded batches, which is slower: {reason}", style="dim")
