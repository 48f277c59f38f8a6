"""Attention inside each text of a packed batch: by groups of equally long texts, on contiguous views, without padding.

Shapes: N tokens, R texts of a group, T their length, A heads, K heads of keys and values, D width of a head.
"""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch.nn import functional

_SCORES_AT_ONCE = 2**21  # scores of a few texts are weighed while they are in the cache: 4 MiB in bf16
_LARGEST_SCORES = 2**26  # of one text: beyond it (2,300 tokens, 12 heads) the fused kernel, which never writes them out
_SHORT, _LANES = 64, 32  # the CPU's bf16 softmax of a short row that does not fill its last 32 lanes is slow
_Inputs: TypeAlias = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


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
        for chunk in _chunks(q_RATD, k_RKTD, v_RKTD):
            context_RATD = _attend_to_all(*chunk, is_causal)
            parts.append(context_RATD.transpose(1, 2).flatten(0, 1).flatten(1))
    return torch.cat(parts)


def _chunks(q_RATD: torch.Tensor, k_RATD: torch.Tensor, v_RATD: torch.Tensor) -> list[_Inputs]:
    """A group's texts, on a CPU a few at a time unless all is kept for a backward pass."""
    num_texts, num_heads, length, _ = q_RATD.shape
    at_once = max(1, _SCORES_AT_ONCE // (num_heads * length * length))
    if q_RATD.requires_grad or q_RATD.device.type != "cpu" or at_once >= num_texts:
        return [(q_RATD, k_RATD, v_RATD)]
    return list(zip(*(torch.split(x, at_once) for x in (q_RATD, k_RATD, v_RATD)), strict=True))


def _attend_to_all(q_RATD: torch.Tensor, k_RATD: torch.Tensor, v_RATD: torch.Tensor, is_causal: bool) -> torch.Tensor:
    _, num_heads, length, _ = q_RATD.shape
    is_bf16_and_fits = q_RATD.dtype == torch.bfloat16 and num_heads * length * length <= _LARGEST_SCORES
    if q_RATD.device.type == "cpu" and (q_RATD.requires_grad or is_bf16_and_fits):
        return explicit_attention(q_RATD, k_RATD, v_RATD, is_causal)
    return functional.scaled_dot_product_attention(q_RATD, k_RATD, v_RATD, is_causal=is_causal)


def explicit_attention(
    query_RATD: torch.Tensor, key_RATD: torch.Tensor, value_RATD: torch.Tensor, is_causal: bool = False
) -> torch.Tensor:
    """softmax(q k^T / sqrt(D)) v in three steps, all in the inputs' type; the CPU's softmax adds up in float32 all the same.

    The CPU's fused kernel has a slow backward: with it a training step on texts of 10 to 60 tokens took 1.3 times as long; in
    bf16 its forward takes 1.3 to 2.9 times as long as these steps at 16 to 2,048 tokens, in float32 .6 to .8 times. Autocast
    would write bf16 scores out in float32 and read them back: attention of 30 texts of 128 tokens took 2.4 times as long, a
    contrastive step 1.3 times. Rows of under 64 scores that are no multiple of 32 do pass through float32: the bf16 softmax
    takes 1.4 to 3.6 times as long on them (benchmarks/reports, notes).
    """
    with torch.autocast(query_RATD.device.type, enabled=False):
        scores_RATT = (query_RATD * query_RATD.shape[-1] ** -0.5) @ key_RATD.transpose(2, 3)
        length = scores_RATT.shape[-1]
        if is_causal:
            is_later_TT = torch.ones(length, length, dtype=torch.bool, device=scores_RATT.device).triu(1)
            scores_RATT = scores_RATT.masked_fill(is_later_TT, float("-inf"))
        through = torch.float32 if length < _SHORT and length % _LANES else scores_RATT.dtype
        return scores_RATT.softmax(dim=-1, dtype=through).to(scores_RATT.dtype) @ value_RATD
