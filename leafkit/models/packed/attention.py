"""Attention inside each text of a packed batch: a CUDA device takes all texts in one
variable-length kernel, or where that cannot be (float32, a bias) runs of similar length, padded a
little; others go by groups of equally long texts, on contiguous views, without padding.

Shapes: N tokens, R texts of a group, T their length, S keys that some queries see, A heads, K heads
    of keys and values, D width of a head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from inspect import signature
from typing import Any, TypeAlias

import torch
from torch.nn import functional
from torch.nn.attention import varlen

from leafkit.core.devices import has_flash_attention, kind_of
from leafkit.models.packed.grouping import Packed, group_by_length

# scores of a few texts are weighed while they are in the cache: 4 MiB in bf16
_SCORES_AT_ONCE = 2**21
# of one text: beyond it (2,300 tokens, 12 heads) the fused kernel, which never writes them out
_LARGEST_SCORES = 2**26
# queries of a windowed text that share the keys around them, at least
_SMALLEST_BLOCK = 256
# where launches cost, texts are padded to runs: positions of padding in one, at most
_MOST_PADDING = 0.2
# torch's kernels read masks by as many numbers, and copy those of other widths
_MASK_STEP = 8
# rows that do not fill their last 32 lanes: the CPU's bf16 softmax is slow on them
_SHORT_ROWS, _LANES = (
    range(16, 64),
    32,
)
varlen_attn: Callable[..., Any] = varlen.varlen_attn
# torch 2.10 has is_causal instead
_HAS_WINDOWS = "window_size" in signature(varlen_attn).parameters
# torch 2.10 wants as many heads of keys as of queries
_SHARES_HEADS = "enable_gqa" in signature(varlen_attn).parameters
_CAUSAL: dict[str, Any] = {"window_size": (-1, 0)} if _HAS_WINDOWS else {"is_causal": True}
_Inputs: TypeAlias = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def attend(
    query_NAD: torch.Tensor,
    key_NKD: torch.Tensor,
    value_NKD: torch.Tensor,
    batch: Packed,
    *,
    is_causal: bool = False,
    window: int | None = None,
    biases_1ATT: Sequence[torch.Tensor] | None = None,
    scale: float | None = None,
) -> torch.Tensor:
    """Softmax attention inside each text, (N, A x D); heads of keys and values are shared where
    K < A.

    Args:
        query_NAD: queries.
        key_NKD: keys.
        value_NKD: values.
        batch: which rows are one text.
        is_causal: tokens see no later ones.
        window: tokens see none that is further away than this; None for no such limit.
        biases_1ATT: added to the scores of each group of equally long texts, (1, A, T, T).
        scale: of the scores; None for 1 / sqrt(D).

    Raises:
        ValueError: a window and biases together, which no architecture here has.
    """
    if window is not None and biases_1ATT is not None:
        raise ValueError("attention takes a window or biases, not both")
    width = query_NAD.shape[-1]
    if scale is not None and scale != width**-0.5:
        query_NAD = query_NAD * (scale * width**0.5)
    num_shared = query_NAD.shape[1] // key_NKD.shape[1]
    longest = batch.groups[0][1]
    if window is not None and window >= longest - 1:
        window = None
    has_kernel = biases_1ATT is None and (window is None or _HAS_WINDOWS)
    has_kernel = has_kernel and _takes_any_lengths(query_NAD)
    key_NAD, value_NAD = key_NKD, value_NKD
    if num_shared > 1 and not (has_kernel and _SHARES_HEADS):
        key_NAD, value_NAD = (x.repeat_interleave(num_shared, dim=1) for x in (key_NKD, value_NKD))
    if has_kernel:
        starts, causal = batch.starts, _CAUSAL if is_causal else {}
        if window is not None:
            causal = {"window_size": (window, 0 if is_causal else window)}
        if num_shared > 1 and _SHARES_HEADS:
            causal = causal | {"enable_gqa": True}
        context_NAD: torch.Tensor = varlen_attn(
            query_NAD, key_NAD, value_NAD, starts, starts, longest, longest, **causal
        )
        return context_NAD.flatten(1)
    if kind_of(query_NAD.device).runs_ahead:
        inputs = query_NAD, key_NAD, value_NAD
        return _attend_in_runs(inputs, batch, is_causal, window=window, biases_1ATT=biases_1ATT)
    sizes = [num_texts * length for num_texts, length in batch.groups]
    parts = []
    rows = (torch.split(x, sizes) for x in (query_NAD, key_NAD, value_NAD))
    biases = [None] * len(sizes) if biases_1ATT is None else biases_1ATT
    for (num_texts, length), bias, q, k, v in zip(batch.groups, biases, *rows, strict=True):
        q_RATD, k_RATD, v_RATD = (
            x.unflatten(0, (num_texts, length)).transpose(1, 2) for x in (q, k, v)
        )
        for chunk in _chunks(q_RATD, k_RATD, v_RATD):
            if window is not None and window < length - 1:
                context_RATD = _attend_near(*chunk, is_causal, window=window)
            else:
                context_RATD = _attend_to_all(*chunk, is_causal, bias=bias)
            parts.append(context_RATD.transpose(1, 2).flatten(0, 1).flatten(1))
    return torch.cat(parts)


def _takes_any_lengths(query_NAD: torch.Tensor) -> bool:
    """Whether torch's flash attention for texts of any lengths computes this: half precision,
    NVIDIA devices from Ampere on.

    Group by group every length costs launches of its own. Tested by its fake form and against a
    written-out equivalent on the CPU; not run on such a device so far.
    """
    is_half = query_NAD.dtype in (torch.bfloat16, torch.float16)
    width = query_NAD.shape[-1]
    is_fitting = is_half and width % 8 == 0 and width <= 256
    return is_fitting and has_flash_attention(query_NAD.device)


@lru_cache(maxsize=4)
def _runs(groups: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int, int], ...]:
    """Runs of texts of similar length, longest first: number of texts, of tokens, and the group
    whose texts are the longest of the run.
    """
    lengths = [length for num_texts, length in groups for _ in range(num_texts)]
    group_of = [number for number, (num_texts, _) in enumerate(groups) for _ in range(num_texts)]
    runs, first = [], 0
    for run in group_by_length(lengths, _MOST_PADDING):
        end = first + len(run)
        runs.append((len(run), sum(lengths[first:end]), group_of[first]))
        first = end
    return tuple(runs)


def _attend_in_runs(
    inputs: _Inputs,
    batch: Packed,
    is_causal: bool,
    *,
    window: int | None,
    biases_1ATT: Sequence[torch.Tensor] | None,
) -> torch.Tensor:
    """What ``attend`` gives, with texts of similar length padded to the longest of them: each
    length by itself costs launches that a GPU waits for.
    """
    parts, first_text, first_token = [], 0, 0
    for num_texts, num_tokens, group in _runs(tuple(batch.groups)):
        tokens = slice(first_token, first_token + num_tokens)
        starts = batch.starts[first_text : first_text + num_texts + 1]
        first_text, first_token = first_text + num_texts, first_token + num_tokens
        length = batch.groups[group][1]
        lengths_R = starts.diff()
        width = -(-length // _MASK_STEP) * _MASK_STEP
        texts_N = torch.repeat_interleave(
            torch.arange(num_texts, device=starts.device), lengths_R, output_size=num_tokens
        )
        places_N = texts_N * width + batch.positions_N[tokens]
        at_T = torch.arange(width, device=starts.device)
        is_hidden = (at_T >= lengths_R[:, None])[:, None, None]
        if is_causal or window is not None:
            ahead_TT = at_T - at_T[:, None]
            before = -width if window is None else -window
            after = 0 if is_causal else -before
            is_hidden = is_hidden | (ahead_TT < before) | (ahead_TT > after)
        dtype = inputs[0].dtype
        bias = torch.zeros((), dtype=dtype, device=starts.device)
        if biases_1ATT is not None:
            more = width - length
            bias = functional.pad(biases_1ATT[group].to(dtype), (0, more, 0, more))
        # not minus infinity: what pads may see nothing, and a softmax of nothing is no number
        mask = torch.where(is_hidden, torch.finfo(dtype).min, bias)
        q_RATD, k_RATD, v_RATD = (
            x.new_zeros(num_texts * width, *x.shape[1:])
            .index_copy(0, places_N, x[tokens])
            .view(num_texts, width, *x.shape[1:])
            .transpose(1, 2)
            for x in inputs
        )
        context_RATD = functional.scaled_dot_product_attention(
            q_RATD, k_RATD, v_RATD, attn_mask=mask
        )
        parts.append(context_RATD.transpose(1, 2).flatten(0, 1)[places_N].flatten(1))
    return torch.cat(parts)


def _chunks(q_RATD: torch.Tensor, k_RATD: torch.Tensor, v_RATD: torch.Tensor) -> list[_Inputs]:
    """A group's texts, on a CPU a few at a time unless all is kept for a backward pass."""
    num_texts, num_heads, length, _ = q_RATD.shape
    at_once = max(1, _SCORES_AT_ONCE // (num_heads * length * length))
    if q_RATD.requires_grad or not kind_of(q_RATD.device).is_host or at_once >= num_texts:
        return [(q_RATD, k_RATD, v_RATD)]
    return list(zip(*(torch.split(x, at_once) for x in (q_RATD, k_RATD, v_RATD)), strict=True))


def _attend_near(
    q_RATD: torch.Tensor,
    k_RATD: torch.Tensor,
    v_RATD: torch.Tensor,
    is_causal: bool,
    *,
    window: int,
) -> torch.Tensor:
    """Block by block of queries, each with the keys that some of them see: the cost of a long text
    grows with its length, not with the square of it.
    """
    length, device = q_RATD.shape[2], q_RATD.device
    step = max(window, _SMALLEST_BLOCK)
    parts = []
    for start in range(0, length, step):
        end = min(start + step, length)
        first, last = max(0, start - window), end if is_causal else min(length, end + window)
        ahead_TS = (
            torch.arange(first, last, device=device)
            - torch.arange(start, end, device=device)[:, None]
        )
        is_hidden_TS = (ahead_TS < -window) | (ahead_TS > (0 if is_causal else window))
        bias_11TS = torch.zeros(is_hidden_TS.shape, dtype=q_RATD.dtype, device=device)[None, None]
        bias_11TS.masked_fill_(is_hidden_TS, float("-inf"))
        k_RASD, v_RASD = k_RATD[:, :, first:last], v_RATD[:, :, first:last]
        parts.append(_attend_to_all(q_RATD[:, :, start:end], k_RASD, v_RASD, False, bias=bias_11TS))
    return torch.cat(parts, dim=2)


def _attend_to_all(
    q_RATD: torch.Tensor,
    k_RASD: torch.Tensor,
    v_RASD: torch.Tensor,
    is_causal: bool,
    *,
    bias: torch.Tensor | None,
) -> torch.Tensor:
    _, num_heads, length, _ = q_RATD.shape
    is_bf16_and_fits = (
        q_RATD.dtype == torch.bfloat16 and num_heads * length * k_RASD.shape[2] <= _LARGEST_SCORES
    )
    if kind_of(q_RATD.device).is_host and (q_RATD.requires_grad or is_bf16_and_fits):
        return explicit_attention(q_RATD, k_RASD, v_RASD, is_causal, bias=bias)
    bias = None if bias is None else bias.to(q_RATD.dtype)
    return functional.scaled_dot_product_attention(
        q_RATD, k_RASD, v_RASD, attn_mask=bias, is_causal=is_causal
    )


def explicit_attention(
    query_RATD: torch.Tensor,
    key_RASD: torch.Tensor,
    value_RASD: torch.Tensor,
    is_causal: bool = False,
    *,
    bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """softmax(q k^T / sqrt(D) + bias) v in steps, all in the inputs' type; the CPU's softmax adds
    up in float32 all the same.

    The CPU's fused kernel has a slow backward, and in bf16 a slow forward too. Autocast would write
    the scores in float32 and read them back. Short rows do pass through float32: on them torch's
    bf16 softmax takes longer than both conversions and the float32 one.
    """
    with torch.autocast(query_RATD.device.type, enabled=False):
        scores_RATS = (query_RATD * query_RATD.shape[-1] ** -0.5) @ key_RASD.transpose(2, 3)
        length = scores_RATS.shape[-1]
        if bias is not None:
            scores_RATS += bias.to(scores_RATS.dtype)
        if is_causal:
            is_later_TT = torch.ones(
                length, length, dtype=torch.bool, device=scores_RATS.device
            ).triu(1)
            scores_RATS = scores_RATS.masked_fill(is_later_TT, float("-inf"))
        through = torch.float32 if length in _SHORT_ROWS and length % _LANES else scores_RATS.dtype
        return scores_RATS.softmax(dim=-1, dtype=through).to(scores_RATS.dtype) @ value_RASD
