"""InfoNCE over in-batch candidates, in float32, with false negatives masked, focal weights and
row-own extra negatives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch.nn import functional

from leafkit.core.truncate import truncate_then_normalize


def at_least_float32(values: torch.Tensor) -> torch.Tensor:
    """float16 and bfloat16 as float32; float32 and float64 as they are (float64 is what gradient
    checks use).
    """
    return values.float() if values.dtype in {torch.float16, torch.bfloat16} else values


def inner_products(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """(..., M, N) inner products of (..., M, D) and (..., N, D), in float32 under autocast too.

    Autocast would round them to bfloat16: up to .002 for a cosine near 1, which is a logit wrong by
    .2 at tau = .01.
    """
    with torch.autocast(left.device.type, enabled=False):
        return at_least_float32(left) @ at_least_float32(right).mT


def info_nce(
    queries: torch.Tensor,
    candidates: torch.Tensor,
    positives: torch.Tensor,
    temperature: float,
    *,
    margin: float | None = None,
    masked: torch.Tensor | None = None,
    gamma: float = 0.0,
    extra: torch.Tensor | None = None,
    extra_masked: torch.Tensor | None = None,
) -> torch.Tensor:
    """Mean over queries of -log softmax(s(q, c) / tau) at the positive (InfoNCE, as KaLM-Embedding
    uses it, arXiv 2501.01028).

    >>> q = c = torch.eye(2)
    >>> round(float(info_nce(q, c, torch.tensor([0, 1]), 1.0)), 4)  # log(1 + e^-1)
    0.3133

    Args:
        queries: (B, D) unit vectors.
        candidates: (C, D) unit vectors; every one but the positive is a negative.
        positives: (B,) index of each query's positive among the candidates.
        temperature: tau.
        margin: candidates with s > s(positive) + margin are taken for false negatives and masked
            with -inf (Qwen3-Embedding, arXiv 2506.05176); None masks nothing.
        masked: (B, C) true where a candidate is no negative of the query: the same text, another
            positive of it, or another row's where the task takes no in-batch negatives. The
            positive is never masked.
        gamma: focal weight (1 - p)^gamma of each row, p the softmax probability of its positive
            (KaLM-Embedding V2, arXiv 2506.20923); 0 is plain InfoNCE, bit for bit.
        extra: (B, E, D) unit vectors that are negatives of their own row alone: mixed ones.
        extra_masked: (B, E) true where a row has no such negative.
    """
    scores_BC = inner_products(queries, candidates)
    own_B1 = scores_BC.gather(1, positives[:, None])
    masked_BC = torch.zeros_like(scores_BC, dtype=torch.bool) if masked is None else masked
    if extra is not None:
        extra_BE = inner_products(queries[:, None], extra)[:, 0]
        scores_BC = torch.cat([scores_BC, extra_BE], dim=1)
        none_BE = (
            torch.zeros_like(extra_BE, dtype=torch.bool) if extra_masked is None else extra_masked
        )
        masked_BC = torch.cat([masked_BC, none_BE], dim=1)
    if margin is not None:
        masked_BC = masked_BC | (scores_BC.detach() > own_B1.detach() + margin)
    masked_BC = masked_BC.scatter(1, positives[:, None], False)
    logits_BC = (scores_BC / temperature).masked_fill(masked_BC, -torch.inf)
    if gamma == 0:
        return functional.cross_entropy(logits_BC, positives)
    return (
        focal_weights(logits_BC, positives, gamma)
        * functional.cross_entropy(logits_BC, positives, reduction="none")
    ).mean()


def focal_weights(logits: torch.Tensor, positives: torch.Tensor, gamma: float) -> torch.Tensor:
    """(B,) weights (1 - p)^gamma (focal loss, arXiv 1708.02002), differentiable and finite for
    gamma < 1.

    1 - p rounds to 0 where p is near 1, and its power below 1 then has an infinite slope; log(1 -
    p), as the log-sum-exp over the negatives minus that over all, stays exact.

    >>> logits = torch.tensor([[0.0, 0.0], [100.0, 0.0]])
    >>> [round(float(w), 4) for w in focal_weights(logits, torch.tensor([0, 0]), 0.5)]
    [0.7071, 0.0]

    Args:
        logits: (B, C), -inf where masked.
        positives: (B,) column of each row's positive.
        gamma: exponent, at least 0.
    """
    negatives_BC = logits.scatter(1, positives[:, None], -torch.inf)
    has_none_B = negatives_BC.isneginf().all(dim=1)
    # A row without negatives has p = 1 and weight 0; zeros keep its -inf out of the gradient.
    negatives_B = negatives_BC.masked_fill(has_none_B[:, None], 0.0).logsumexp(dim=1)
    weights_B = (gamma * (negatives_B - logits.logsumexp(dim=1))).exp()
    return weights_B.masked_fill(has_none_B, 0.0)


def at_each_dimension(
    loss: Callable[[int], torch.Tensor], dims: Sequence[int], weights: Sequence[float]
) -> torch.Tensor:
    """sum_d w_d loss(d) (Matryoshka, arXiv 2205.13147); the loss cuts raw vectors first, then
    normalises.
    """
    return torch.stack(
        [weight * loss(dim) for dim, weight in zip(dims, weights, strict=True)]
    ).sum()


def matryoshka_info_nce(
    queries: torch.Tensor,
    candidates: torch.Tensor,
    positives: torch.Tensor,
    temperature: float,
    *,
    margin: float | None,
    masked: torch.Tensor | None,
    dims: Sequence[int],
    weights: Sequence[float],
    gamma: float = 0.0,
    extra: torch.Tensor | None = None,
    extra_masked: torch.Tensor | None = None,
) -> torch.Tensor:
    """sum_d w_d InfoNCE(normalise(v[:d])): cut the raw vectors first, then normalise.

    Args:
        queries: (B, D) raw vectors.
        candidates: (C, D) raw vectors.
        positives: see ``info_nce``; so are temperature, margin, masked, gamma and extra_masked.
        dims: dimensions the loss is taken at.
        weights: weight of each.
        extra: (B, E, D) mixed vectors of the full dimension.
    """

    def loss(dim: int) -> torch.Tensor:
        q, c, e = (
            None if v is None else truncate_then_normalize(at_least_float32(v), dim)
            for v in (queries, candidates, extra)
        )
        assert q is not None
        assert c is not None
        return info_nce(
            q,
            c,
            positives,
            temperature,
            margin=margin,
            masked=masked,
            gamma=gamma,
            extra=e,
            extra_masked=extra_masked,
        )

    return at_each_dimension(loss, dims, weights)
