"""Rotary positions (arXiv 2104.09864) of a packed batch, with transformers' own tables.

Shapes: N tokens, H hidden width, A heads, K heads of keys, D width of a head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import torch
from transformers.models.qwen2.modeling_qwen2 import apply_rotary_pos_emb

from leafkit.models.packed.architecture import Model
from leafkit.models.packed.grouping import Packed

Angles: TypeAlias = tuple[torch.Tensor, torch.Tensor]  # cosines and sines, (N, D)


@dataclass(frozen=True, slots=True)
class Sight:
    """What a layer's tokens see, and from where.

    Attributes:
        angles_ND: cosines and sines of the rotary positions.
        is_causal: no later tokens.
        window: none further away than this; None for no such limit.
    """

    angles_ND: Angles
    is_causal: bool
    window: int | None


def rotate(
    query_NAD: torch.Tensor, key_NKD: torch.Tensor, angles_ND: Angles
) -> tuple[torch.Tensor, torch.Tensor]:
    """Queries and keys, turned by the angles of their positions."""
    query_NAD, key_NKD = apply_rotary_pos_emb(query_NAD, key_NKD, *angles_ND)
    return query_NAD, key_NKD


def angles_of(model: Model, hidden_NH: torch.Tensor, batch: Packed) -> Angles:
    """Angles of a model whose layers share them; hidden states give the type alone."""
    cos_1ND, sin_1ND = model.rotary_emb(hidden_NH, batch.positions_N[None])
    return cos_1ND[0], sin_1ND[0]


def angles_by_kind(model: Model, hidden_NH: torch.Tensor, batch: Packed) -> dict[str, Angles]:
    """Angles of each kind of layer (full_attention, sliding_attention) that the model has."""
    found = {}
    for kind in sorted(set(model.config.layer_types)):
        cos_1ND, sin_1ND = model.rotary_emb(hidden_NH, batch.positions_N[None], kind)
        found[kind] = (cos_1ND[0], sin_1ND[0])
    return found
