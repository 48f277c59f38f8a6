"""Where a static student starts: the teacher's vectors of single tokens, weighed, in as few
dimensions as the table is wide.

The teacher is asked as anybody may ask it, text to vector. Starting there is worth far more than
training can make up for on a corpus that shows a quarter of the vocabulary: see the report on
static students.

Shapes: V vocabulary, D dimension of the teacher, H width of the table.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

# a of the weights a / (a + p), Arora et al. 2017 (openreview SyK00v5xx); theirs is 1e-3 too
SIF = 1e-3


@dataclass(frozen=True, slots=True)
class Start:
    """A table and the affine map behind it: text vector = mean of rows @ weight + bias."""

    table: np.ndarray  # (V, H) float32
    weight: np.ndarray  # (H, D) float32, orthonormal rows
    bias: np.ndarray  # (D,) float32


def count_tokens(parts: Iterable[np.ndarray], num_tokens: int) -> np.ndarray:
    """(V,) how often each token occurs in all texts, whose ids come in parts of any size."""
    counts = np.zeros(num_tokens, dtype=np.int64)
    for ids in parts:
        counts += np.bincount(ids, minlength=num_tokens)
    return counts


def start_table(vectors_VD: np.ndarray, counts_V: np.ndarray, width: int) -> Start:
    """The best table of rank H for token vectors, with frequent tokens weighed down.

    A text's vector is near the mean of its tokens' once words that say nothing are weighed down:
    smooth inverse frequency, a / (a + p), with p the token's share of the training texts (every
    token counted once more, so that those unseen count as rare). What all tokens share, their mean
    by frequency, is no token's own and goes into the bias, unweighted. The rest is projected onto
    its H first principal axes, which keeps most of it that rank H can (Eckart and Young 1936).

    Args:
        vectors_VD: teacher's vectors of the tokens' texts; a row of NaN stands for a token without
            one and starts at the mean.
        counts_V: how often each token occurs.
        width: H; above D or V the further columns are zero and W_out's further rows too.

    Returns:
        float32.
    """
    share_V = (counts_V + 1) / (counts_V + 1).sum()
    is_known = np.isfinite(vectors_VD).all(axis=1)
    known = share_V * is_known
    mean_D = known @ np.where(is_known[:, None], vectors_VD, 0) / max(known.sum(), 1e-12)
    centerd_VD = np.where(is_known[:, None], vectors_VD - mean_D, 0)
    _, axes = np.linalg.eigh(centerd_VD.T.astype(np.float64) @ centerd_VD)
    axes_DH = axes[:, ::-1][:, :width]
    weights_V = SIF / (SIF + share_V)
    table = np.zeros((len(vectors_VD), width), dtype=np.float32)
    weight = np.zeros((width, vectors_VD.shape[1]), dtype=np.float32)
    table[:, : axes_DH.shape[1]] = (centerd_VD @ axes_DH) * weights_V[:, None]
    weight[: axes_DH.shape[1]] = axes_DH.T
    return Start(table, weight, mean_D.astype(np.float32))


def context_vectors(
    parts: Iterable[tuple[Sequence[np.ndarray], np.ndarray]], num_tokens: int, dim: int
) -> np.ndarray:
    """(V, D) float32: for each token the mean vector of the texts it occurs in; NaN for tokens that
    occur in none.

    The start for teachers whose model is not available. One further text at the mean of all stands
    beside each token's own, so that what is known from one text alone is not taken at its word.

    Args:
        parts: (token ids of each text, (n, D) teacher's vectors of these texts), as many as there
            are.
        num_tokens: V.
        dim: D.
    """
    sums_VD = torch.zeros(num_tokens, dim)
    counts_V, total_D, num_texts = np.zeros(num_tokens), torch.zeros(dim), 0
    for token_ids, vectors in parts:
        once = [np.unique(ids) for ids in token_ids]
        owners = torch.from_numpy(np.repeat(np.arange(len(once)), [len(ids) for ids in once]))
        tokens = np.concatenate(once).astype(np.int64)
        vectors_BD = torch.from_numpy(vectors).float()
        sums_VD.index_add_(0, torch.from_numpy(tokens), vectors_BD[owners])
        counts_V += np.bincount(tokens, minlength=num_tokens)
        total_D += vectors_BD.sum(dim=0)
        num_texts += len(vectors)
    mean_D = total_D.numpy() / max(1, num_texts)
    found: np.ndarray = (sums_VD.numpy() + mean_D) / (counts_V[:, None] + 1)
    found[counts_V == 0] = np.nan
    return found.astype(np.float32)
