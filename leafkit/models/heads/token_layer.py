"""A layer over the hidden state of each token, before the mean: relu(W h + b).

A mean of hidden states says little of which tokens were there: all share the same few hundred
directions. Units that only a few kinds of token reach keep them apart through the mean, and what
W_out reads of them is linear again. sentence-transformers has a module for it: Dense on
token_embeddings.

Shapes: N tokens of all texts, H hidden width, U units, D dimensions.
"""

from __future__ import annotations

from typing import TypedDict

import torch
from torch import nn

from leafkit.models.heads.token_table import TokenTable


class TokenLayer(nn.Module):
    """(..., H) hidden states to (..., U) of the same type, none below 0.

    Args:
        linear: W and b; H -> U, with a bias.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear

    @property
    def in_features(self) -> int:
        """H."""
        return self.linear.in_features

    @property
    def out_features(self) -> int:
        """U."""
        return self.linear.out_features

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Computed in the type of the hidden states: most of a text's work is here."""
        weight = self.linear.weight.to(hidden.dtype)
        return torch.relu(nn.functional.linear(hidden, weight, self.linear.bias.to(hidden.dtype)))


def through_layer(hidden: torch.Tensor, layer: TokenLayer | None) -> torch.Tensor:
    """(..., U) of hidden states (..., H), which alone are read where there is no layer."""
    return hidden if layer is None else layer(hidden)


class Beside(TypedDict):
    """What an encoder may have beside backbone and projection."""

    token_table: TokenTable | None
    token_layer: TokenLayer | None
