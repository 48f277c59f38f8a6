"""W_out and a table of token vectors as one ridge solution: of a text's hidden states, and of the
share that each token has of the text.

A table has as many inputs as the vocabulary has tokens, and texts share most of them with few
others, so nothing is factored: conjugate gradients (Hestenes & Stiefel 1952) on the table, with the
hidden states eliminated exactly, all outputs at once.

Shapes: n texts, H hidden width, K tokens with a row, D dimensions, R rank of the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

_MOST_STEPS = 60
_TOLERANCE = 1e-2  # of the right side's length: far below what the texts themselves leave open
_OUTPUTS_AT_ONCE = 256
_ROWS_AT_ONCE = 8192


@dataclass(frozen=True, slots=True)
class TableSolution:
    """y = states @ weight + shares @ rows + bias.

    Attributes:
        weight: (H, D).
        rows: (K, D) of the tokens in ``TableSums.tokens``.
        bias: (D,).
    """

    weight: torch.Tensor
    rows: torch.Tensor
    bias: torch.Tensor


@dataclass(frozen=True, slots=True)
class _Bags:
    """A sparse matrix by rows: the places and numbers that are not zero."""

    places: torch.Tensor
    starts: torch.Tensor
    numbers: torch.Tensor

    def times(self, matrix: torch.Tensor) -> torch.Tensor:
        """(rows, m) of (columns, m) float32."""
        return torch.nn.functional.embedding_bag(
            self.places, matrix, self.starts, mode="sum", per_sample_weights=self.numbers
        )


class TableSums:
    """What the solutions of some texts have in common; one serves every strength.

    Args:
        states: (n, H) float32 of the backbone.
        aims: (n, D) float32.
        token_ids: n of them.
        rows: numbers of the texts that count; nothing of the others is read, and nothing copied.
        fewest: texts that a token is in, of those that get a row.
        has_bias: the map has one, and the inputs are centered.

    Raises:
        ValueError: no token is in that many texts.
    """

    def __init__(
        self,
        states: np.ndarray,
        aims: np.ndarray,
        token_ids: Sequence[np.ndarray],
        *,
        rows: np.ndarray,
        fewest: int,
        has_bias: bool = True,
    ) -> None:
        self._count, center = len(rows), 1.0 if has_bias else 0.0
        x, y = torch.from_numpy(states), torch.from_numpy(aims)
        parts = [
            torch.from_numpy(rows[i : i + _ROWS_AT_ONCE])
            for i in range(0, len(rows), _ROWS_AT_ONCE)
        ]
        self._state_mean, self._aim_mean = (
            center
            * torch.stack([z[part].double().sum(0) for part in parts]).sum(0).float()
            / self._count
            for z in (x, y)
        )
        owners, tokens, shares = _shares([token_ids[row] for row in rows.tolist()])
        in_texts = np.bincount(tokens)
        self.tokens = np.flatnonzero(in_texts >= fewest)
        if not len(self.tokens):
            raise ValueError(f"no token is in {fewest} texts")
        places = np.full(len(in_texts), -1)
        places[self.tokens] = np.arange(len(self.tokens))
        kept = places[tokens] >= 0
        owners, columns, shares = owners[kept], places[tokens[kept]], shares[kept]
        self._by_text = _bags(owners, columns, shares, self._count)
        order = np.lexsort((owners, columns))
        columns, owners, shares = columns[order], owners[order], shares[order]
        self._by_token = _bags(columns, owners, shares, len(self.tokens))
        sums = torch.from_numpy(np.bincount(columns, shares, len(self.tokens))).float()
        self.share_mean = center * sums / self._count
        self.use = torch.from_numpy(np.bincount(columns, shares**2, len(self.tokens))).float()
        self._own, self._to_aims = self._sum_states(x, y, parts)
        self._eliminated: tuple[float, torch.Tensor, torch.Tensor, torch.Tensor] | None = None
        # of the shares as they are with what is centered: no copy of it
        of_all = _bags(columns, rows[owners], shares, len(self.tokens))
        self._across = of_all.times(x) - torch.outer(sums, self._state_mean)
        self._shares_to_aims = of_all.times(y) - torch.outer(sums, self._aim_mean)
        self._state_variance = float(self._own.trace()) / self._count
        spread = self.use / self._count - self.share_mean**2
        self._share_variance = max(float(spread.sum()), 1e-12)

    def _sum_states(
        self, x: torch.Tensor, y: torch.Tensor, parts: Sequence[torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(H, H) float64 products of the centered states, and (H, D) with the aims."""
        own = torch.zeros(x.shape[1], x.shape[1], dtype=torch.float64)
        to_aims = torch.zeros(x.shape[1], y.shape[1], dtype=torch.float64)
        for part in parts:
            centered = (x[part] - self._state_mean).double()
            own += centered.T @ centered
            to_aims += centered.T @ (y[part] - self._aim_mean).double()
        return own, to_aims

    def solve(self, ridge: float, table_ridge: float) -> TableSolution:
        """The least squared error plus an L2 penalty on both matrices.

        Args:
            ridge: penalty of the states' weight, relative to their mean eigenvalue.
            table_ridge: of the rows, likewise, if all tokens together varied as much as the states.
        """
        root, turned, aims = self._eliminate(ridge)
        # inputs times f under one penalty are inputs alone under that penalty over f squared
        of_rows = table_ridge * self._mean_eigenvalue
        of_rows *= self._share_variance / max(self._state_variance, 1e-12)
        diagonal = (
            self.use - self._count * self.share_mean**2 + of_rows - turned.square().sum(0)
        ).clamp_min(of_rows)[:, None]
        rows = torch.empty(len(self.tokens), aims.shape[1])
        for start in range(0, aims.shape[1], _OUTPUTS_AT_ONCE):
            at = slice(start, start + _OUTPUTS_AT_ONCE)
            right = self._shares_to_aims[:, at] - turned.T @ aims[:, at]
            rows[:, at] = self._descend(right, turned, diagonal, of_rows)
        left = (aims - turned @ rows).double()
        weight = torch.linalg.solve_triangular(root.T, left, upper=True).float()
        bias = self._aim_mean - self._state_mean @ weight - self.share_mean @ rows
        return TableSolution(weight, rows, bias)

    @property
    def _mean_eigenvalue(self) -> float:
        return float(self._own.trace()) / len(self._own)

    def _eliminate(self, ridge: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The root R of what the states' weight is solved with, R^-1 of what they have in common
        with the tokens, (H, K), and with the aims, (H, D); kept for the next strength.
        """
        if self._eliminated is None or self._eliminated[0] != ridge:
            penalty = max(ridge * self._mean_eigenvalue, 1e-9)
            root = torch.linalg.cholesky(
                self._own + penalty * torch.eye(len(self._own), dtype=torch.float64)
            )
            turned, aims = (
                torch.linalg.solve_triangular(root, right.double(), upper=False).float()
                for right in (self._across.T, self._to_aims)
            )
            self._eliminated = (ridge, root, turned, aims)
        return self._eliminated[1:]

    def _descend(
        self, right: torch.Tensor, turned: torch.Tensor, diagonal: torch.Tensor, penalty: float
    ) -> torch.Tensor:
        """Rows that solve for some outputs, (K, m): each output has a descent of its own."""
        rows = torch.zeros_like(right)
        left = right.clone()
        toward = along = left / diagonal
        size = (left * along).sum(0)
        enough = _TOLERANCE**2 * float(size.sum())
        for _ in range(_MOST_STEPS):
            if float(size.sum()) <= enough:
                break
            image = self._by_token.times(self._by_text.times(toward))
            image -= self._count * torch.outer(self.share_mean, self.share_mean @ toward)
            image += penalty * toward
            image -= turned.T @ (turned @ toward)
            curvature = (toward * image).sum(0)
            # rounding may leave none: such an output stays where it is
            step = torch.where(curvature > 0, size / curvature, 0.0)
            rows += step * toward
            left -= step * image
            along = left / diagonal
            before, size = size, (left * along).sum(0)
            toward = along + (size / before.clamp_min(1e-30)) * toward
        return rows


def cut_rank(solution: TableSolution, use: torch.Tensor, rank: int) -> tuple[torch.Tensor, ...]:
    """The table as rows of ``rank`` dimensions and a map of these, nearest to it over texts: each
    token weighs as often as it is used (Eckart & Young 1936).

    Args:
        solution: of all dimensions.
        use: (K,) sums of squared shares.
        rank: R, at most D.

    Returns:
        (K, R) rows and (R, D) their map, whose entries are as large as those of the states' weight.
    """
    weighed = solution.rows * use.sqrt()[:, None]
    _, directions = torch.linalg.eigh((weighed.T @ weighed).double())
    basis = directions.flip(1)[:, :rank].float()
    scale = solution.weight.square().mean().sqrt() / basis.square().mean().sqrt().clamp_min(1e-12)
    scale = scale if float(scale) > 0 else torch.ones(())
    return solution.rows @ basis / scale, scale * basis.T


def _shares(token_ids: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Text, token and share of each pair that occurs, texts in order."""
    lengths = np.array([len(ids) for ids in token_ids])
    flat = np.concatenate([np.asarray(ids, dtype=np.int64) for ids in token_ids])
    width = int(flat.max()) + 1
    keys = np.repeat(np.arange(len(lengths), dtype=np.int64), lengths) * width + flat
    pairs, counts = np.unique(keys, return_counts=True)
    owners = pairs // width
    return owners, pairs % width, (counts / lengths[owners]).astype(np.float32)


def _bags(rows: np.ndarray, columns: np.ndarray, numbers: np.ndarray, count: int) -> _Bags:
    """Of entries in the order of their rows."""
    starts = np.searchsorted(rows, np.arange(count))
    return _Bags(*(torch.from_numpy(part) for part in (columns, starts, numbers)))
