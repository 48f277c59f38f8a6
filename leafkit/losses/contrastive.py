"""InfoNCE over in-batch candidates, in float32, with false negatives masked."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional

from leafkit.vectors import truncate_then_normalize


def info_nce(
    queries: torch.Tensor, candidates: torch.Tensor, positives: torch.Tensor, temperature: float,
    margin: float | None = None, same_text: torch.Tensor | None = None,
) -> torch.Tensor:  # fmt: skip
    """Mean over queries of -log softmax(s(q, c) / tau) at the positive (InfoNCE, as KaLM-Embedding uses it, arXiv 2501.01028).

    >>> q = c = torch.eye(2)
    >>> round(float(info_nce(q, c, torch.tensor([0, 1]), 1.0)), 4)  # log(1 + e^-1)
    0.3133

    Args:
        queries: (B, D) unit vectors.
        candidates: (C, D) unit vectors; every one but the positive is a negative.
        positives: (B,) index of each query's positive among the candidates.
        temperature: tau.
        margin: candidates with s > s(positive) + margin are taken for false negatives and masked with -inf
            (Qwen3-Embedding, arXiv 2506.05176); None masks nothing.
        same_text: (B, C) true where a candidate's text is relevant to the query beside its positive; masked too.
    """
    scores_BC = queries.float() @ candidates.float().T
    own_B1 = scores_BC.gather(1, positives[:, None])
    masked_BC = torch.zeros_like(scores_BC, dtype=torch.bool)
    if margin is not None:
        masked_BC |= scores_BC.detach() > own_B1.detach() + margin
    if same_text is not None:
        masked_BC |= same_text
    masked_BC = masked_BC.scatter(1, positives[:, None], False)
    return functional.cross_entropy((scores_BC / temperature).masked_fill(masked_BC, -torch.inf), positives)


def matryoshka_info_nce(
    queries: torch.Tensor, candidates: torch.Tensor, positives: torch.Tensor, temperature: float, margin: float | None,
    same_text: torch.Tensor | None, dims: Sequence[int], weights: Sequence[float],
) -> torch.Tensor:  # fmt: skip
    """sum_d w_d InfoNCE(normalise(v[:d])) (Matryoshka, arXiv 2205.13147): cut the raw vectors first, then normalise.

    Args:
        queries: (B, D) raw vectors.
        candidates: (C, D) raw vectors.
        positives: see ``info_nce``; so are temperature, margin and same_text.
        dims: dimensions the loss is taken at.
        weights: weight of each.
    """
    terms = [
        weight
        * info_nce(
            truncate_then_normalize(queries.float(), dim), truncate_then_normalize(candidates.float(), dim), positives,
            temperature, margin, same_text,
        )
        for dim, weight in zip(dims, weights, strict=True)
    ]  # fmt: skip
    return torch.stack(terms).sum()
