"""Global orthogonal regulariser (GOR): vectors of different texts are made orthogonal.

Vectors that are spread over the sphere lose less when they are quantized to one bit.
"""

from __future__ import annotations

import torch

from leafkit.losses.contrastive import at_least_float32, inner_products


def orthogonality_loss(vectors: torch.Tensor) -> torch.Tensor:
    """Mean squared inner product of different rows: the second moment of GOR (arXiv
    1708.06320).

    Uniform vectors on the sphere of D dimensions have 1 / D.

    >>> float(orthogonality_loss(torch.eye(3)))
    0.0
    >>> float(orthogonality_loss(torch.ones(2, 1)))
    1.0

    Args:
        vectors: (B, D) unit vectors of different texts; of fewer than two it is 0.
    """
    vectors = at_least_float32(vectors)
    count = len(vectors)
    if count < 2:
        return vectors.sum() * 0.0
    squared = inner_products(vectors, vectors).square()
    return (squared.sum() - squared.diagonal().sum()) / (count * (count - 1))
