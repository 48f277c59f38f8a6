"""Pooling: the hidden states of a text's tokens to one vector, of padded and of packed batches.

Shapes: B texts, T tokens of the longest, N tokens of all texts, R texts of a group, H hidden width.
"""

from __future__ import annotations

import numpy as np
import torch

from leafkit.models.packed.grouping import Packed

POOLINGS = ("mean", "cls", "last")


def pool_padded(
    hidden_BTH: torch.Tensor, lengths_B: torch.Tensor, mask_BT: torch.Tensor | None, pooling: str
) -> torch.Tensor:
    """(B, H) float32 pooled vectors of texts that are padded on the right.

    Args:
        hidden_BTH: last hidden states.
        lengths_B: tokens of each text.
        mask_BT: True where a token is real; None where no text is padded.
        pooling: mean, cls (the first token) or last (the last real token).
    """
    if pooling == "cls":
        return hidden_BTH[:, 0].float()
    if pooling == "last":
        rows = torch.arange(len(lengths_B), device=hidden_BTH.device)
        return hidden_BTH[rows, lengths_B - 1].float()
    if mask_BT is not None:
        hidden_BTH = hidden_BTH.masked_fill(~mask_BT[..., None], 0)
    return hidden_BTH.sum(dim=1, dtype=torch.float32) / lengths_B[:, None].float()


def pool_packed(hidden_NH: torch.Tensor, batch: Packed, pooling: str) -> torch.Tensor:
    """(B, H) float32 pooled vectors in the order the texts were given: mean, cls or last."""
    parts = []
    for (num_texts, length), hidden in zip(
        batch.groups, torch.split(hidden_NH, [r * t for r, t in batch.groups]), strict=True
    ):
        hidden_RTH = hidden.view(num_texts, length, -1)
        if pooling == "mean":
            parts.append(hidden_RTH.sum(dim=1, dtype=torch.float32) / length)
        else:
            parts.append(hidden_RTH[:, 0 if pooling == "cls" else -1].float())
    back = torch.from_numpy(np.argsort(batch.order)).to(hidden_NH.device)
    return torch.cat(parts)[back]
