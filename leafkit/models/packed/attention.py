"""Attention inside each text of a packed batch, without padding: a CUDA device takes all texts in
one variable-length kernel, others go by groups of equally long texts, on contiguous views.

Shapes: N tokens, R texts of a group, T their length, A heads, K heads of keys and values, D width
    of a head.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from typing import Any, TypeAlias

import torch
from torch.nn import functional
from torch.nn.attention import varlen

from leafkit.models.packed.grouping import Packed

# scores of a few texts are weighed while they are in the cache: 4 MiB in bf16
_SCORES_AT_ONCE = 2**21
# of one text: beyond it (2,300 tokens, 12 heads) the fused kernel, which never writes them out
_LARGEST_SCORES = 2**26
# rows that do not fill their last 32 lanes: the CPU's bf16 softmax is slow on them
_SHORT_ROWS, _LANES = (
    range(16, 64),
    32,
)
varlen_attn: Callable[..., Any] = varlen.varlen_attn
# torch 2.10 has is_causal instead
_HAS_WINDOWS = "window_size" in signature(varlen_attn).parameters
_CAUSAL: dict[str, Any] = {"window_size": (-1, 0)} if _HAS_WINDOWS else {"is_causal": True}
_Inputs: TypeAlias = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def attend(
    query_NAD: torch.Tensor,
    key_NKD: torch.Tensor,
    value_NKD: torch.Tensor,
    batch: Packed,
    *,
    is_causal: bool = False,
) -> torch.Tensor:
    """Softmax attention inside each text, (N, A x D); scaled by 1 / sqrt(D); heads of keys and
    values are shared where K < A.

    Args:
        query_NAD: queries.
        key_NKD: keys.
        value_NKD: values.
        batch: which rows are one text.
        is_causal: tokens see no later ones.
    """
    num_shared = query_NAD.shape[1] // key_NKD.shape[1]
    key_NAD, value_NAD = key_NKD, value_NKD
    if num_shared > 1:
        key_NAD, value_NAD = (x.repeat_interleave(num_shared, dim=1) for x in (key_NKD, value_NKD))
    if _takes_any_lengths(query_NAD):
        starts, longest, causal = batch.starts, batch.groups[0][1], _CAUSAL if is_causal else {}
        context_NAD: torch.Tensor = varlen_attn(
            query_NAD, key_NAD, value_NAD, starts, starts, longest, longest, **causal
        )
        return context_NAD.flatten(1)
    sizes = [num_texts * length for num_texts, length in batch.groups]
    parts = []
    rows = (torch.split(x, sizes) for x in (query_NAD, key_NAD, value_NAD))
    for (num_texts, length), q, k, v in zip(batch.groups, *rows, strict=True):
        q_RATD, k_RATD, v_RATD = (
            x.unflatten(0, (num_texts, length)).transpose(1, 2) for x in (q, k, v)
        )
        for chunk in _chunks(q_RATD, k_RATD, v_RATD):
            context_RATD = _attend_to_all(*chunk, is_causal)
            parts.append(context_RATD.transpose(1, 2).flatten(0, 1).flatten(1))
    return torch.cat(parts)


def _takes_any_lengths(query_NAD: torch.Tensor) -> bool:
    """Whether torch's flash attention for texts of any lengths computes this: half precision,
    NVIDIA devices from Ampere on.

    Group by group every length costs launches of its own. Tested by its fake form and against a
    written-out equivalent on the CPU; not run on such a device so far.
    """
    if query_NAD.device.type != "cuda" or torch.version.hip is not None:
        return False
    is_half = query_NAD.dtype in (torch.bfloat16, torch.float16)
    width = query_NAD.shape[-1]
    return (
        is_half
        and width % 8 == 0
        and width <= 256
        and torch.cuda.get_device_capability(query_NAD.device) >= (8, 0)
    )


def _chunks(q_RATD: torch.Tensor, k_RATD: torch.Tensor, v_RATD: torch.Tensor) -> list[_Inputs]:
    """A group's texts, on a CPU a few at a time unless all is kept for a backward pass."""
    num_texts, num_heads, length, _ = q_RATD.shape
    at_once = max(1, _SCORES_AT_ONCE // (num_heads * length * length))
    if q_RATD.requires_grad or q_RATD.device.type != "cpu" or at_once >= num_texts:
        return [(q_RATD, k_RATD, v_RATD)]
    return list(zip(*(torch.split(x, at_once) for x in (q_RATD, k_RATD, v_RATD)), strict=True))


def _attend_to_all(
    q_RATD: torch.Tensor, k_RATD: torch.Tensor, v_RATD: torch.Tensor, is_causal: bool
) -> torch.Tensor:
    _, num_heads, length, _ = q_RATD.shape
    is_bf16_and_fits = (
        q_RATD.dtype == torch.bfloat16 and num_heads * length * length <= _LARGEST_SCORES
    )
    if q_RATD.device.type == "cpu" and (q_RATD.requires_grad or is_bf16_and_fits):
        return explicit_attention(q_RATD, k_RATD, v_RATD, is_causal)
    return functional.scaled_dot_product_attention(q_RATD, k_RATD, v_RATD, is_causal=is_causal)


def explicit_attention(
    query_RATD: torch.Tensor,
    key_RATD: torch.Tensor,
    value_RATD: torch.Tensor,
    is_causal: bool = False,
) -> torch.Tensor:
    """softmax(q k^T / sqrt(D)) v in three steps, all in the inputs' type; the CPU's softmax adds up
    in float32 all the same.

    The CPU's fused kernel has a slow backward, and in bf16 a slow forward too. Autocast would write
    the scores in float32 and read them back. Short rows do pass through float32: on them torch's
    bf16 softmax takes longer than both conversions and the float32 one.
    """
    with torch.autocast(query_RATD.device.type, enabled=False):
        scores_RATT = (query_RATD * query_RATD.shape[-1] ** -0.5) @ key_RATD.transpose(2, 3)
        length = scores_RATT.shape[-1]
        if is_causal:
            is_later_TT = torch.ones(
                length, length, dtype=torch.bool, device=scores_RATT.device
            ).triu(1)
            scores_RATT = scores_RATT.masked_fill(is_later_TT, float("-inf"))
        through = torch.float32 if length in _SHORT_ROWS and length % _LANES else scores_RATT.dtype
        return scores_RATT.softmax(dim=-1, dtype=through).to(scores_RATT.dtype) @ value_RATD
