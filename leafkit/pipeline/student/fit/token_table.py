"""The table of token vectors beside a student's transformer: fitted together with W_out, and kept
where held-out texts find more with it.

Shapes: n texts, H hidden width, D dimensions, V texts that choose.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from leafkit.core.console import log
from leafkit.core.truncate import truncate_then_normalize
from leafkit.models.heads.token_table import TokenTable
from leafkit.models.text_encoder import TextEncoder
from leafkit.pipeline.student.fit.solve_table import TableSums, cut_rank
from leafkit.pipeline.student.validation import Agreed, Validation
from leafkit.train.world import agree

FEWEST_TEXTS = 2  # that a token is in, of those that get a row: a single one would learn its text
# from the strongest, until held-out texts find no more
_RIDGES = (1.0, 1e-1, 1e-2, 1e-3)
Chosen = tuple[Agreed, float] | None


@dataclass(frozen=True, slots=True)
class Fitted:
    """Texts with what the student reads of them.

    Attributes:
        states: (n, H) of the backbone.
        token_ids: n of them.
        aims: (n, D) what the head is to give.
        chosen: (n,) bool, those that are fitted.
        is_asked: (n,) bool, those among them that are held out: no trial is fitted to them.
    """

    states: np.ndarray
    token_ids: Sequence[np.ndarray]
    aims: np.ndarray
    chosen: np.ndarray
    is_asked: np.ndarray


@dataclass(frozen=True, slots=True)
class _Beside:
    """A table and the W_out that reads it beside the hidden states."""

    table: TokenTable
    head: nn.Linear

    @property
    def is_finite(self) -> bool:
        """Whether every number is."""
        weights = (self.table.rows, *self.head.parameters())
        return all(bool(torch.isfinite(weight).all()) for weight in weights)

    @torch.no_grad()
    def vectors(self, states: np.ndarray, token_ids: Sequence[np.ndarray]) -> np.ndarray:
        """(n, D) raw vectors of texts."""
        read = torch.cat([torch.from_numpy(states), self.table(token_ids)], dim=1)
        found: np.ndarray = self.head(read).numpy()
        return found


def fit_token_table(
    student: TextEncoder,
    rank: int,
    ridge: float,
    texts: Fitted,
    *,
    asked_states: np.ndarray | None,
    validation: Validation | None,
    without: Agreed | None,
) -> Agreed | None:
    """Give a student a table of token vectors where held-out texts find more with it than with
    W_out alone, beyond noise; else a line says why it has none.

    Args:
        student: with the closed form of W_out; gets the table, and a W_out that reads it too.
        rank: dimensions of the table.
        ridge: of W_out, as it was chosen.
        texts: that W_out is fitted to.
        asked_states: (V, H) of the texts that choose.
        validation: these; None where nothing was held out.
        without: what they find by W_out alone.

    Returns:
        What they find with the table; None where there is none.
    """
    if validation is None or asked_states is None or without is None:
        _say_left_out("no held-out texts choose it")
        return None
    assert isinstance(student.projection, nn.Linear)
    rank = min(rank, student.dim)
    # a student with a table has other parameters than one without: one process decides
    chosen = agree(
        _choose_strength(
            student,
            ridge,
            texts,
            validation,
            rank=rank,
            asked_states=asked_states,
        )
    )
    if chosen is None:
        _say_left_out(f"no token is in {FEWEST_TEXTS} of the texts, or nothing can be solved")
        return None
    agreed, strength = chosen
    if without.is_as_good(agreed):
        _say_left_out(f"{agreed} with it, {without} without, on {validation}")
        return None
    whole = _sum_over(student, texts, texts.chosen)
    kept = _solve(student, whole, (ridge, strength), rank) if whole is not None else None
    if kept is None or not kept.is_finite:
        _say_left_out("with the texts that chose it among the others it cannot be solved")
        return None
    student.token_table, student.projection = kept.table, kept.head
    num_rows = len(kept.table.rows)
    log(
        f"  token table: {num_rows:,} tokens, {rank} dimensions, "
        f"{num_rows * rank + rank * student.dim:,} parameters, ridge {strength:g}: {agreed} "
        f"with it, {without} without, on {validation}"
    )
    return agreed


def _choose_strength(
    student: TextEncoder,
    ridge: float,
    texts: Fitted,
    validation: Validation,
    *,
    rank: int,
    asked_states: np.ndarray,
) -> Chosen:
    """The strength that held-out texts find most with, and what they find; None where no token is
    in enough texts.
    """
    sums, best = _sum_over(student, texts, texts.chosen & ~texts.is_asked), None
    for strength in _RIDGES if sums is not None else ():
        assert sums is not None
        trial = _solve(student, sums, (ridge, strength), rank)
        if not trial.is_finite:
            break
        raw = trial.vectors(asked_states, validation.token_ids)
        served = truncate_then_normalize(raw) if student.spec.normalized else raw
        found = validation.measure(served)
        if best is not None and not found.is_better(best[0]):
            break
        best = (found, strength)
    return best


def _sum_over(student: TextEncoder, texts: Fitted, chosen: np.ndarray) -> TableSums | None:
    assert student.projection is not None
    try:
        return TableSums(
            texts.states,
            texts.aims,
            texts.token_ids,
            rows=np.flatnonzero(chosen),
            fewest=FEWEST_TEXTS,
            has_bias=student.projection.bias is not None,
        )
    except ValueError:
        return None


def _solve(
    student: TextEncoder, sums: TableSums, ridges: tuple[float, float], rank: int
) -> _Beside:
    """Under the ridges of W_out and of the table."""
    solution = sums.solve(*ridges)
    rows, onto = cut_rank(solution, sums.use, rank)
    num_tokens = int(student.backbone.get_input_embeddings().weight.shape[0])
    table = TokenTable(torch.from_numpy(sums.tokens), rows, num_tokens)
    has_bias = student.projection is not None and student.projection.bias is not None
    # the mean of what the cut leaves out is not lost
    bias = solution.bias + sums.share_mean @ (solution.rows - rows @ onto)
    weight = torch.cat([solution.weight, onto])
    head = nn.Linear(len(weight), student.dim, bias=has_bias)
    with torch.no_grad():
        head.weight.copy_(weight.T)
        if has_bias:
            head.bias.copy_(bias)
    return _Beside(table, head)


def _say_left_out(why: str) -> None:
    log(f"  token table: the student has none (student.token_table): {why}")
