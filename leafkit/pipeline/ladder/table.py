"""A table of token vectors in closed form: what a static student is without a training step.

A text's vector is the mean of its tokens' rows, which is linear in the rows: they are the solution
of a ridge regression of the teacher's stored vectors on the texts' tokens. It does not shrink to
zero but to the student's own vectors of the tokens, weighed down where they are frequent, so that
a token that no text shows keeps what the student knows of it.

Shapes: n texts, V tokens, H width of the table, D dimension.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import nn

from leafkit.core.console import log
from leafkit.data.stored.flat_tokens import FlatTokens
from leafkit.embedders.protocol import Embedder
from leafkit.embedders.token_reader import bare_reader
from leafkit.evaluation.agreement import cosines
from leafkit.models.static_encoder import StaticEncoder, bare_tokenizer, check_size
from leafkit.models.static_init import SIF, count_tokens
from leafkit.models.text_encoder import TextEncoder
from leafkit.pipeline.student.static import token_vectors
from leafkit.pipeline.student.targets import Distillation, list_rows, of_origin, read_targets

WIDTH = 256  # of a table; the teacher's first principal axes that it keeps
_RIDGES = (0.03, 0.3, 3.0)  # times the mean energy of a token
_HELD_OUT = 20  # one text in so many chooses the ridge
_NUM_STEPS = 20  # of conjugate gradients; the error falls by a third in each and more
_SMALLEST = 1e-12


def fit_table(start: TextEncoder, task: Distillation, student: Embedder) -> StaticEncoder:
    """The table whose means of rows come nearest to the teacher's vectors.

    Args:
        start: whose tokenizer the table takes.
        task: texts with the teacher's vectors, ``num_ridge_texts`` of each origin at most.
        student: embeds single tokens in the teacher's space.

    Raises:
        UsageError: the table would be too large, or the tokenizer is not a fast one.
    """
    tokenizer = bare_tokenizer(start.tokenizer)
    num_tokens, dim = tokenizer.get_vocab_size(), task.teacher.model.dim
    width = min(WIDTH, dim)
    check_size(num_tokens, width, dim)
    rows = _sample(task)
    token_ids = [
        task.tokenize(
            bare_reader(tokenizer, task.limits.of(t.role) or task.teacher.model.max_tokens),
            t.texts,
        )
        for t in task.targets
    ]
    texts = [token_ids[g][i] for g, i in rows]
    is_full = np.array([len(ids) > 0 for ids in texts])
    texts = [ids for ids in texts if len(ids)]
    wanted = read_targets(task.targets, rows)[is_full]
    mean, axes = principal_axes(wanted, width)
    aims = torch.from_numpy((wanted - mean) @ axes)
    own = _own_vectors(task, tokenizer, student)
    prior = torch.from_numpy(
        _prior(token_ids=token_ids, num_tokens=num_tokens, vectors=own, axes=axes)
    )
    table, ridge, cosine = _solve_best(texts, aims, prior, task.seed)
    log(
        f"  table of {num_tokens:,} tokens x {width}: ridge {ridge:g} on {len(texts):,} texts, "
        f"cosine {cosine:.4f} of texts held out"
    )
    projection = nn.Linear(width, dim)
    with torch.no_grad():
        projection.weight.copy_(torch.from_numpy(np.ascontiguousarray(axes)))
        projection.bias.copy_(torch.from_numpy(mean))
    return StaticEncoder(tokenizer, table, projection, task.teacher.model.mrl_dims).eval()


def principal_axes(vectors: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The mean, (D,), and the first principal axes, (D, H), of (n, D) vectors; float32."""
    mean = vectors.mean(axis=0, dtype=np.float64)
    centered = vectors - mean.astype(np.float32)
    _, axes = np.linalg.eigh((centered.T @ centered).astype(np.float64))
    return mean.astype(np.float32), np.ascontiguousarray(axes[:, ::-1][:, :width], np.float32)


def _sample(task: Distillation) -> list[tuple[int, int]]:
    """Texts to fit, by number of target and of text."""
    chooser, chosen = np.random.default_rng(task.seed), []
    for origin in dict.fromkeys(target.origin for target in task.targets):
        rows = list_rows(task.targets, of_origin(origin))
        order = chooser.permutation(len(rows))[: task.config.num_ridge_texts]
        chosen += [rows[i] for i in np.sort(order).tolist()]
    return chosen


def _own_vectors(task: Distillation, tokenizer: Tokenizer, student: Embedder) -> np.ndarray:
    """(V, D) the student's vectors of single tokens; NaN of special ones."""
    asked = replace(
        task, embed=lambda texts, role, max_tokens, what: student.embed(texts, role, max_tokens)
    )
    return token_vectors(asked, tokenizer)


def _prior(
    *,
    token_ids: Sequence[FlatTokens],
    num_tokens: int,
    vectors: np.ndarray,
    axes: np.ndarray,
) -> np.ndarray:
    """(V, H) float32 the tokens' own vectors around their mean, by smooth inverse frequency."""
    counts = count_tokens((ids for group in token_ids for ids in group.chunks()), num_tokens)
    share = (counts + 1) / (counts + 1).sum()
    is_known = np.isfinite(vectors).all(axis=1)
    weights = share * is_known
    mean = weights @ np.where(is_known[:, None], vectors, 0) / max(weights.sum(), _SMALLEST)
    centered = np.where(is_known[:, None], vectors - mean, 0)
    found: np.ndarray = (centered @ axes) * (SIF / (SIF + share))[:, None]
    return found.astype(np.float32)


@dataclass(frozen=True, slots=True)
class _Bags:
    """Texts as means of tokens.

    Attributes:
        means: (n, V) sparse, a text's tokens add up to one.
        turned: (V, n) the same.
        energies: (V,) squares of the means, summed over texts.
    """

    means: torch.Tensor
    turned: torch.Tensor
    energies: torch.Tensor

    @classmethod
    def of(cls, texts: Sequence[np.ndarray], num_tokens: int) -> _Bags:
        owners = np.repeat(np.arange(len(texts)), [len(ids) for ids in texts])
        tokens = np.concatenate(texts).astype(np.int64)
        weights = np.concatenate([np.full(len(ids), 1 / len(ids), np.float32) for ids in texts])
        places = torch.from_numpy(np.stack([owners, tokens]))
        means = torch.sparse_coo_tensor(
            places, torch.from_numpy(weights), (len(texts), num_tokens), check_invariants=True
        ).coalesce()
        energies = torch.zeros(num_tokens).index_add_(0, means.indices()[1], means.values() ** 2)
        with warnings.catch_warnings():  # the format is called a beta, and is MKL's own
            warnings.filterwarnings("ignore", message="Sparse CSR")
            return cls(means.to_sparse_csr(), means.t().coalesce().to_sparse_csr(), energies)


def _solve_best(
    texts: Sequence[np.ndarray], aims: torch.Tensor, prior: torch.Tensor, seed: int
) -> tuple[torch.Tensor, float, float]:
    """The table of the ridge under which held-out texts come nearest, fitted to all of them.

    Returns:
        (V, H), the ridge, and the mean cosine of the texts held out.
    """
    order = np.random.default_rng(seed).permutation(len(texts))
    held, fitted = order[: len(texts) // _HELD_OUT], order[len(texts) // _HELD_OUT :]
    if not len(held):  # so few texts choose nothing
        return solve_table(_Bags.of(texts, len(prior)), aims, prior, _RIDGES[1]), _RIDGES[1], 1.0
    bags = _Bags.of([texts[i] for i in fitted], len(prior))
    asked = _Bags.of([texts[i] for i in held], len(prior))
    found = {}
    for ridge in _RIDGES:
        table = solve_table(bags, aims[fitted], prior, ridge)
        told = torch.sparse.mm(asked.means, table)
        found[ridge] = float(cosines(aims[held].numpy(), told.numpy()).mean())
    best = max(found, key=lambda ridge: found[ridge])
    return solve_table(_Bags.of(texts, len(prior)), aims, prior, best), best, found[best]


def solve_table(bags: _Bags, aims: torch.Tensor, prior: torch.Tensor, ridge: float) -> torch.Tensor:
    """(V, H) the table T with the least |X T - Y|^2 + r |T - a P|^2, by conjugate gradients on all
    columns at once, each token scaled by its energy.

    Args:
        bags: X, (n, V).
        aims: Y, (n, H).
        prior: P, (V, H); a is the factor under which X P comes nearest to Y.
        ridge: r as a share of the mean energy of the tokens that occur.
    """
    told = torch.sparse.mm(bags.means, prior)
    factor = float((told * aims).sum() / (told * told).sum().clamp_min(_SMALLEST))
    start = prior * max(0.0, factor)
    strength = ridge * float(bags.energies[bags.energies > 0].mean())
    scale = (bags.energies + strength)[:, None]

    def apply(table: torch.Tensor) -> torch.Tensor:
        return torch.sparse.mm(bags.turned, torch.sparse.mm(bags.means, table)) + strength * table

    residual = torch.sparse.mm(bags.turned, aims - torch.sparse.mm(bags.means, start))
    step = torch.zeros_like(start)
    towards = residual / scale
    direction, height = towards.clone(), (residual * towards).sum(dim=0)
    for _ in range(_NUM_STEPS):
        applied = apply(direction)
        length = height / (direction * applied).sum(dim=0).clamp_min(_SMALLEST)
        step += length * direction
        residual -= length * applied
        towards = residual / scale
        lower = (residual * towards).sum(dim=0)
        direction = towards + lower / height.clamp_min(_SMALLEST) * direction
        height = lower
    return start + step
