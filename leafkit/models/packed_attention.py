"""Attention inside each text of a packed batch: by groups of equally long texts, on contiguous views, without padding.

Shapes: N tokens, R texts of a group, T their length, A heads, K heads of keys and values, D width of a head.
"""

from __future__ import annotations

import torch
from torch.nn import functional


def attend(
    query_NAD: torch.Tensor,
    key_NKD: torch.Tensor,
    value_NKD: torch.Tensor,
    groups: list[tuple[int, int]],
    is_causal: bool = False,
) -> torch.Tensor:
    """Softmax attention inside each text, (N, A x D); scaled by 1 / sqrt(D); heads of keys and values are shared where K < A.

    Args:
        query_NAD: queries.
        key_NKD: keys.
        value_NKD: values.
        groups: ``(number of texts, length)`` of each run of equally long texts, in order.
        is_causal: tokens see no later ones.
    """
    sizes = [num_texts * length for num_texts, length in groups]
    num_shared = query_NAD.shape[1] // key_NKD.shape[1]
    parts = []
    rows = (torch.split(x, sizes) for x in (query_NAD, key_NKD, value_NKD))
    for (num_texts, length), q, k, v in zip(groups, *rows, strict=True):
        q_RATD, k_RKTD, v_RKTD = (x.unflatten(0, (num_texts, length)).transpose(1, 2) for x in (q, k, v))
        if num_shared > 1:
            k_RKTD, v_RKTD = (x.repeat_interleave(num_shared, dim=1) for x in (k_RKTD, v_RKTD))
        if q.requires_grad and q.device.type == "cpu":
            context_RATD = explicit_attention(q_RATD, k_RKTD, v_RKTD, is_causal)
        else:
            context_RATD = functional.scaled_dot_product_attention(q_RATD, k_RKTD, v_RKTD, is_causal=is_causal)
        parts.append(context_RATD.transpose(1, 2).reshape(num_texts * length, -1))
    return torch.cat(parts)


def explicit_attention(
    query_RATD: torch.Tensor, key_RATD: torch.Tensor, value_RATD: torch.Tensor, is_causal: bool = False
) -> torch.Tensor:
    """softmax(q k^T / sqrt(D)) v in three steps, all in the inputs' type; the CPU's softmax adds up in float32 all the same.

    The CPU's fused kernel has a slow backward: with it a training step on texts of 10 to 60 tokens took 1.3 times as long.
    Autocast would write bf16 scores out in float32 and read them back: attention of 30 texts of 128 tokens took 2.4 times as
    long, a contrastive step 1.3 times (benchmarks/reports).
    """
    with torch.autocast(query_RATD.device.type, enabled=False):
        scores_RATT = (query_RATD * query_RATD.shape[-1] ** -0.5) @ key_RATD.transpose(2, 3)
        if is_causal:
            is_later_TT = torch.ones(scores_RATT.shape[-2:], dtype=torch.bool, device=scores_RATT.device).triu(1)
            scores_RATT = scores_RATT.masked_fill(is_later_TT, float("-inf"))
        return scores_RATT.softmax(dim=-1) @ value_RATD
