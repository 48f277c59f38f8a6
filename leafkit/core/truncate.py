"""The one way to shorten an embedding: cut first, then bring the length back to one."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch

Vectors = TypeVar("Vectors", np.ndarray, torch.Tensor)
SMALLEST_NORM = 1e-12


def truncate_then_normalize(vectors: Vectors, dim: int | None = None) -> Vectors:
    """First ``dim`` components of each vector, scaled to length one (Matryoshka, arXiv 2205.13147).

    Cutting after normalisation leaves vectors shorter than one, and inner products that are no
    cosines.

    Args:
        vectors: (..., full_dim), floating point, numpy or torch; gradients pass through.
        dim: components kept; None keeps all of them.

    Returns:
        (..., dim) of the same kind. A zero vector stays zero.

    Raises:
        ValueError: ``dim`` is not between 1 and the full dimension.
    """
    full_dim = vectors.shape[-1]
    if dim is not None and not 1 <= dim <= full_dim:
        raise ValueError(f"dim={dim} is not between 1 and the vectors' {full_dim}")
    head = vectors[..., :dim]
    if isinstance(head, torch.Tensor):
        return torch.nn.functional.normalize(head, dim=-1, eps=SMALLEST_NORM)
    wide = np.promote_types(head.dtype, np.float32)  # squares of float16 overflow
    norms = np.sqrt(np.einsum("...d,...d->...", head, head, dtype=wide))[..., None]
    return (head / np.maximum(norms, SMALLEST_NORM)).astype(head.dtype, copy=False)
