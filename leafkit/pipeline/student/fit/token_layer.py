"""The layer over tokens that a student begins with: units that answer to single kinds of token, and
as many that hand the hidden state on as it is.

A unit's weights are the mean hidden state of a token in the student's texts, less the mean of all,
and its bias is such that one token in a hundred reaches it: a frequent token itself, and of a rare
one its near kin in meaning or place too. Nothing of it is the teacher's, so W_out alone is fitted
to it, in closed form.

Shapes: N tokens of a batch, H hidden width, K kinds of token, U units.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import nn

from leafkit.core.console import log
from leafkit.core.errors import UsageError
from leafkit.embedders.transformer import TransformerEmbedder
from leafkit.models.heads.token_layer import TokenLayer
from leafkit.models.text_encoder import TextEncoder
from leafkit.pipeline.student.head import make_head
from leafkit.pipeline.student.targets import Distillation, list_rows
from leafkit.pipeline.student.validation import TokenIds
from leafkit.train.world import agree, read_world

FEWEST_TOKENS = 2  # of a kind that gets a unit, in the texts that are read
_MOST_TEXTS = 16_384  # read, drawn at random
_REACH = 0.99  # of all tokens leave a unit at 0
_NUM_SAMPLED = 8192  # tokens, on which that is measured


def add_token_layer(student: TextEncoder, task: Distillation, token_ids: TokenIds) -> None:
    """Give a student the layer, and a W_out of its width with random weights.

    Args:
        student: whose backbone reads the texts, as it is.
        task: texts, and ``token_units``: kinds of token that get a unit, at most.
        token_ids: of the student, by target.

    Raises:
        UsageError: the student pools one token, and units keep apart what a mean would mix.
    """
    if student.spec.pooling != "mean":
        raise UsageError(
            f"student.token_units={task.config.token_units}: the student pools the "
            f"{student.spec.pooling} token alone, and the units are for a mean over all",
            "student.pooling=mean, or student.token_units=0",
        )
    rows = list_rows(task.targets)
    chosen = np.random.default_rng(task.seed).permutation(len(rows))[:_MOST_TEXTS]
    texts = [token_ids[g][i] for g, i in (rows[place] for place in np.sort(chosen).tolist())]
    kinds = _most_frequent(texts, task.config.token_units)
    embedder = TransformerEmbedder(student, task.device, task.precision)
    is_first = read_world().rank == 0
    made = agree(_answer_to(kinds, texts, embedder, task.seed) if is_first else None)
    assert made is not None
    weight, bias = made
    linear = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(weight))
        linear.bias.copy_(torch.from_numpy(bias))
    student.token_layer = TokenLayer(linear)
    student.projection = make_head(task.config, student.hidden_size, student.dim)
    beside = linear.weight.numel() + linear.bias.numel()
    asked = task.config.token_units
    fewer = f" ({asked:,} were asked for, and no more kinds come twice)"
    log(
        f"  layer over tokens: {len(kinds):,} units for kinds of token"
        f"{fewer if len(kinds) < asked else ''}, {2 * weight.shape[1]:,} "
        f"for the hidden state, {beside:,} parameters"
    )


def _most_frequent(texts: Sequence[np.ndarray], most: int) -> np.ndarray:
    """(K,) token ids, the most frequent first."""
    ids, counts = np.unique(np.concatenate(texts), return_counts=True)
    order = np.argsort(-counts, kind="stable")[:most]
    kinds: np.ndarray = ids[order][counts[order] >= FEWEST_TOKENS].astype(np.int64)
    return kinds


def _answer_to(
    kinds: np.ndarray, texts: Sequence[np.ndarray], embedder: TransformerEmbedder, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """(U, H) weights and (U,) biases, float32, U = 2H + K: the hidden state's parts above and below
    its mean, then one for each kind of token.
    """
    sums, counts, sample = _sum_states(
        kinds, embedder.token_states(texts), seed, sum(map(len, texts))
    )
    mean = sums.sum(0) / counts.sum()
    around = sample - mean
    scale = 1.0 / max(float(np.linalg.norm(around, axis=1).mean()), 1e-12)
    means = sums[:-1] / np.maximum(counts[:-1, None], 1) - mean
    lengths = np.linalg.norm(means, axis=1, keepdims=True)
    to_kinds = means / np.maximum(lengths, 1e-12) * scale
    reach = np.zeros(len(kinds))
    for first in range(0, len(kinds), 1024):  # the sample has as many numbers for each kind
        part = slice(first, first + 1024)
        reach[part] = np.quantile(around @ to_kinds[part].T, _REACH, axis=0)
    same = np.eye(len(mean))
    weight = np.concatenate([same, -same, to_kinds])
    bias = np.concatenate([-mean, mean, -(to_kinds @ mean) - reach])
    return weight.astype(np.float32), bias.astype(np.float32)


def _sum_states(
    kinds: np.ndarray,
    batches: Iterable[tuple[np.ndarray, np.ndarray]],
    seed: int,
    num_tokens: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(K + 1, H) sums of the hidden states of each kind of token, of all others last, (K + 1,) how
    many they are, and (n, H) states drawn from all batches alike.
    """
    chooser = np.random.default_rng(seed)
    places = np.full(int(kinds.max(initial=0)) + 1, len(kinds))
    places[kinds] = np.arange(len(kinds))
    sample = []
    sums = counts = None
    for ids, states in batches:
        if sums is None or counts is None:
            sums, counts = np.zeros((len(kinds) + 1, states.shape[1])), np.zeros(len(kinds) + 1)
        # a token above the largest kind is among the others
        where = np.where(ids < len(places), places[np.minimum(ids, len(places) - 1)], len(kinds))
        order = np.argsort(where, kind="stable")
        firsts = np.flatnonzero(np.diff(where[order], prepend=-1))
        sums[where[order][firsts]] += np.add.reduceat(states[order], firsts, dtype=np.float64)
        counts += np.bincount(where, minlength=len(kinds) + 1)
        drawn = chooser.permutation(len(ids))[: -(-_NUM_SAMPLED * len(ids) // num_tokens)]
        sample.append(states[drawn])
    assert sums is not None
    assert counts is not None
    return sums, counts, np.concatenate(sample).astype(np.float64)
