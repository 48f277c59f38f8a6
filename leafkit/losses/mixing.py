"""Online hard-negative mixing (KaLM-Embedding V2, arXiv 2506.20923): synthetic negatives out of a
row's own hard ones.

Mixed vectors are as long as one again. The full vectors are mixed; a Matryoshka loss cuts the
result.
"""

from __future__ import annotations

import torch

from leafkit.core.truncate import truncate_then_normalize
from leafkit.losses.contrastive import at_least_float32, inner_products


def mix_pairwise(first: torch.Tensor, second: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """normalise(lambda n_1 + (1 - lambda) n_2), lambda ~ Beta(2, 2) in the paper; lambda of 1 and 0
    give n_1 and n_2.

    >>> n = torch.eye(2)[None]
    >>> mixed = mix_pairwise(n[:, :1], n[:, 1:], torch.tensor([[0.5]]))
    >>> [round(x, 4) for x in mixed.flatten().tolist()]
    [0.7071, 0.7071]

    Args:
        first: (B, E, D) unit vectors n_1.
        second: (B, E, D) unit vectors n_2.
        share: (B, E) lambda.

    Returns:
        (B, E, D) unit vectors.
    """
    share_BE1 = share[..., None].to(at_least_float32(first).dtype)
    return truncate_then_normalize(
        share_BE1 * at_least_float32(first) + (1 - share_BE1) * at_least_float32(second)
    )


def mix_listwise(
    queries: torch.Tensor, negatives: torch.Tensor, present: torch.Tensor, temperature: float
) -> torch.Tensor:
    """normalise(sum_m lambda_m n_m), lambda the softmax of s(q, n_m) / T over the negatives
    present.

    The weights are constants to the gradient: it moves the negatives, it does not choose among
    them.

    Args:
        queries: (B, D) unit vectors.
        negatives: (B, E, M, D) unit vectors, E lists for each query.
        present: (B, E, M) which of them take part; a list without any gives a zero vector, which
            the caller masks.
        temperature: T; the paper gives none.

    Returns:
        (B, E, D) unit vectors.
    """
    negatives = at_least_float32(negatives)
    scores_BEM = inner_products(queries[:, None, None], negatives)[:, :, 0].detach() / temperature
    weights_BEM = scores_BEM.masked_fill(~present, -torch.inf).softmax(dim=-1).nan_to_num(0.0)
    return truncate_then_normalize((weights_BEM[..., None] * negatives).sum(dim=-2))
