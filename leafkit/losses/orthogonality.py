"""Spread of vectors over the sphere: what makes them robust to binary quantisation."""

from __future__ import annotations

import torch

from leafkit.losses.contrastive import at_least_float32, inner_products


def spread_loss(vectors: torch.Tensor) -> torch.Tensor:
    """Mean squared inner product of different rows (global orthogonal regulariser, arXiv
    1708.06320, second moment).

    Uniform vectors on the sphere of D dimensions have 1 / D.

    >>> float(spread_loss(torch.eye(3)))
    0.0
    >>> float(spread_loss(torch.ones(2, 1)))
    1.0

    Args:
        vectors: (B, D) unit vectors of different texts; fewer than two have no spread and give 0.
    """
    vectors = at_least_float32(vectors)
    count = len(vectors)
    if count < 2:
        return vectors.sum() * 0.0
    squared = inner_products(vectors, vectors).square()
    return (squared.sum() - squared.diagonal().sum()) / (count * (count - 1))
