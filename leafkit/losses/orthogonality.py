"""Global orthogonal regulariser (GOR): vectors of different texts are made orthogonal.

Vectors that are spread over the sphere lose less when they are quantized to one bit.
"""

from __future__ import annotations

import torch

from leafkit.losses.contrastive import at_least_float32, inner_products


def orthogonality_loss(vectors: torch.Tensor, texts: torch.Tensor | None = None) -> torch.Tensor:
    """Mean squared inner product of different rows: the second moment of GOR (arXiv
    1708.06320).

    Uniform vectors on the sphere of D dimensions have 1 / D.

    >>> float(orthogonality_loss(torch.eye(3)))
    0.0
    >>> float(orthogonality_loss(torch.ones(2, 1)))
    1.0
    >>> float(orthogonality_loss(torch.tensor([[1.0], [1.0], [0.5]]), torch.tensor([0, 0, 1])))
    0.25

    Args:
        vectors: (B, D) unit vectors; of fewer than two texts it is 0.
        texts: (B,) number of the text of each row, which is not to be unlike itself; None where
            all are different.
    """
    vectors = at_least_float32(vectors)
    if texts is None:
        texts = torch.arange(len(vectors), device=vectors.device)
    is_other = texts[:, None] != texts
    squared = inner_products(vectors, vectors).square().masked_fill(~is_other, 0.0)
    return squared.sum() / is_other.sum().clamp_min(1)
