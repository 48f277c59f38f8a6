"""What a linear map of low rank can keep of a teacher, before any training."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from leafkit.core.errors import LeafkitError

_ROWS_AT_ONCE = 8192  # in float64


@dataclass(frozen=True, slots=True)
class Spectrum:
    """Mean and principal components of N vectors.

    Attributes:
        count: N.
        mean: (D,) float64.
        energies: (D,) float64, variance of each dimension.
        eigenvalues: (D,) float64 of the centred covariance (divided by N), largest first, never
            negative.
        directions: (D, D) float64, column i belongs to eigenvalue i.
    """

    count: int
    mean: np.ndarray
    energies: np.ndarray
    eigenvalues: np.ndarray
    directions: np.ndarray

    @property
    def total(self) -> float:
        """Variance: the mean squared distance to the mean."""
        return float(self.eigenvalues.sum())

    def variance_kept(self, rank: int) -> float:
        """Share of the variance in the best affine subspace of dimension ``rank`` (Eckart and Young
        1936).
        """
        return (
            1.0 if self.total == 0 else min(1.0, float(self.eigenvalues[:rank].sum()) / self.total)
        )

    def effective_rank(self) -> float:
        """exp of the entropy of the eigenvalues' shares (Roy and Vetterli 2007): D where all are
        equal; 0 without variance.
        """
        shares = self.eigenvalues[self.eigenvalues > 0] / (self.total or 1.0)
        return float(np.exp(-(shares * np.log(shares)).sum())) if len(shares) else 0.0

    def head_variance(self, dim: int) -> float:
        """Share of the variance in the first ``dim`` dimensions, which is what Matryoshka
        truncation keeps.
        """
        return (
            1.0
            if self.total == 0
            else min(1.0, float(self.energies[:dim].sum() / self.energies.sum()))
        )

    def head_spread(self, dim: int) -> float:
        """Standard deviation of ``head_variance(dim)`` if the space were turned at random; its mean
        is then dim / D.

        For a projector P onto a random subspace of dimension d and a covariance C, Var tr(PC) =
        2 d (D - d) / (D (D - 1) (D + 2)) * (tr C^2 - (tr C)^2 / D): the only form invariant to
        turning that is quadratic in C and 0 for C = I, with the factor from one axis, whose squared
        projection is Beta(d / 2, (D - d) / 2).
        """
        full = len(self.eigenvalues)
        if self.total == 0 or full == 1:
            return 0.0
        uneven = float((self.eigenvalues**2).sum()) - self.total**2 / full
        return (
            float(
                np.sqrt(
                    2 * dim * (full - dim) / (full * (full - 1) * (full + 2)) * max(0.0, uneven)
                )
            )
            / self.total
        )

    def project(
        self, vectors: np.ndarray, rank: int, center: np.ndarray | None = None
    ) -> np.ndarray:
        """centre + P (x - centre), P onto the first ``rank`` directions; (n, D) -> (n, D) float32.

        Args:
            vectors: (n, D).
            rank: of P.
            centre: (D,); None takes the mean.
        """
        center = self.mean if center is None else center.astype(np.float64)
        basis = self.directions[:, :rank]
        return (center + ((vectors - center) @ basis) @ basis.T).astype(np.float32)


def measure_spectrum(chunks: Iterable[np.ndarray]) -> Spectrum:
    """Principal components of all rows of ``chunks``, (n_i, D) each, in one pass; memory is that of
    one chunk and of (D, D).

    Rows are counted from the first one, so that a mean far from zero costs no digits and equal rows
    have no variance at all.

    Raises:
        LeafkitError: no row, or a number that is not finite; the row is named.
    """
    count, first, total, products = 0, np.zeros(0), np.zeros(0), np.zeros((0, 0))
    for chunk in chunks:
        if not len(chunk):
            continue
        finite = np.isfinite(chunk).all(axis=1)
        if not finite.all():
            row = count + int(np.flatnonzero(~finite)[0])
            raise LeafkitError(
                f"the vector of row {row} is not finite",
                "look at that row's text, or compute the vectors again",
            )
        rows = chunk.astype(np.float64)
        if not count:
            first, total = rows[0].copy(), np.zeros(rows.shape[1])
            products = np.zeros((rows.shape[1], rows.shape[1]))
        rows -= first
        count += len(rows)
        total += rows.sum(axis=0)
        products += rows.T @ rows
    if not count:
        raise LeafkitError("there are no vectors: a spectrum needs at least one")
    offset = total / count
    covariance = products / count - np.outer(offset, offset)
    eigenvalues, directions = np.linalg.eigh(covariance)
    return Spectrum(
        count,
        first + offset,
        covariance.diagonal().clip(min=0),
        eigenvalues[::-1].clip(min=0),
        directions[:, ::-1],
    )


def variance_kept(vectors: np.ndarray, rank: int) -> float:
    """Share of the vectors' variance in their best affine subspace of dimension ``rank`` (principal
    components).

    W_out of a student with hidden width H has rank H at most, so no student reaches more than this
    of the teacher.

    Args:
        vectors: (n, D) float.
        rank: dimension of the subspace; D or more keeps everything.

    Raises:
        LeafkitError: no row, or a number that is not finite.
    """
    starts = range(0, max(1, len(vectors)), _ROWS_AT_ONCE)
    return measure_spectrum(vectors[i : i + _ROWS_AT_ONCE] for i in starts).variance_kept(rank)


@dataclass(frozen=True, slots=True)
class AffineMap:
    """y = x @ weight + bias."""

    weight: np.ndarray  # (H, D)
    bias: np.ndarray  # (D,)


@dataclass(frozen=True, slots=True)
class RidgeSums:
    """What a least-squares problem needs of its rows; one pass serves every strength.

    Attributes:
        covariance: (H, H) float64 sums of products of the inputs.
        products: (H, D) float64 likewise of inputs and targets.
        input_mean: (H,) float64 that the inputs were centred by; zeros for a map without bias.
        target_mean: (D,) float64 likewise.
        bias_leverage: what a row weighs in its own prediction by the bias alone: 1/n, or 0.
    """

    covariance: np.ndarray
    products: np.ndarray
    input_mean: np.ndarray
    target_mean: np.ndarray
    bias_leverage: float

    def solve(self, ridge: float) -> AffineMap:
        """The map with the least squared error plus an L2 penalty on its weight, the bias free.

        Args:
            ridge: penalty relative to the mean eigenvalue of the inputs' covariance.
        """
        weight = np.linalg.solve(self._penalized(ridge), self.products)
        bias = self.target_mean - self.input_mean @ weight
        return AffineMap(weight.astype(np.float32), bias.astype(np.float32))

    def predict_left_out(self, inputs: np.ndarray, targets: np.ndarray, ridge: float) -> np.ndarray:
        """What some of the rows would be predicted as by the map that is fitted, with the same
        penalty, to all others: the residual over 1 minus the row's leverage (Allen 1974, PRESS).

        Args:
            inputs: (m, H) of the rows.
            targets: (m, D) likewise.
            ridge: as of ``solve``.

        Returns:
            (m, D) float64.
        """
        x, y = inputs - self.input_mean, targets - self.target_mean
        inverse = np.linalg.solve(self._penalized(ridge), np.concatenate([self.products, x.T], 1))
        weight, solved = np.split(inverse, [self.products.shape[1]], axis=1)
        leverage = np.einsum("mh,hm->m", x, solved) + self.bias_leverage
        # a row that alone decides about its prediction leaves nothing to predict it by
        residual = (y - x @ weight) / np.maximum(1 - leverage, 1e-9)[:, None]
        predicted: np.ndarray = targets - residual
        return predicted

    def _penalized(self, ridge: float) -> np.ndarray:
        # inputs that never vary: any penalty gives weight 0
        penalty = ridge * np.trace(self.covariance) / len(self.covariance) or 1.0
        penalized: np.ndarray = self.covariance + penalty * np.eye(len(self.covariance))
        return penalized


def sum_for_ridge(
    inputs: np.ndarray,
    targets: np.ndarray,
    *,
    rows: np.ndarray | None = None,
    has_bias: bool = True,
) -> RidgeSums:
    """Sums over rows for closed-form least squares.

    Args:
        inputs: (n, H).
        targets: (n, D).
        rows: numbers of those that count, of which never many are copied; None for all.
        has_bias: the map may add a bias, so that both sides are centred first; without one they
            stay as they are, and the bias comes out as zeros.
    """
    chosen = np.arange(len(inputs)) if rows is None else rows
    parts = [
        chosen[start : start + _ROWS_AT_ONCE] for start in range(0, len(chosen), _ROWS_AT_ONCE)
    ]
    x_mean, y_mean = np.zeros(inputs.shape[1]), np.zeros(targets.shape[1])
    for part in parts if has_bias else []:
        x_mean += inputs[part].sum(axis=0, dtype=np.float64) / len(chosen)
        y_mean += targets[part].sum(axis=0, dtype=np.float64) / len(chosen)
    covariance = np.zeros((inputs.shape[1], inputs.shape[1]))
    products = np.zeros((inputs.shape[1], targets.shape[1]))
    for part in parts:
        x, y = inputs[part] - x_mean, targets[part] - y_mean
        covariance += x.T @ x
        products += x.T @ y
    return RidgeSums(covariance, products, x_mean, y_mean, 1 / len(chosen) if has_bias else 0.0)
