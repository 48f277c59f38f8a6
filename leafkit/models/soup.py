"""Weight averages."""

from __future__ import annotations

import torch

from leafkit.errors import LeafkitError
from leafkit.models.encoder import TextEncoder


def average_into(encoder: TextEncoder, start: TextEncoder, share: float) -> None:
    """Replace the weights by ``share`` of themselves plus the rest of the start's, in float32.

    A tuned model averaged with the one it came from keeps most of what it learnt and of what it knew (WiSE-FT, arXiv
    2109.01903; LM-Cocktail, arXiv 2311.13534).

    Raises:
        LeafkitError: the two have not the same weights by name and shape.
    """
    mine, theirs = encoder.state_dict(), start.state_dict()
    unlike = sorted(
        k for k in mine.keys() | theirs.keys() if k not in mine or k not in theirs or mine[k].shape != theirs[k].shape
    )
    if unlike:
        raise LeafkitError(f"models of different shape cannot be averaged: {', '.join(unlike[:3])}")
    with torch.no_grad():
        for name, value in mine.items():
            if value.is_floating_point():
                value.copy_(share * value.float() + (1 - share) * theirs[name].float().to(value.device))
