"""What a linear map of low rank can keep of a teacher, before any training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


def variance_kept(vectors: np.ndarray, rank: int) -> float:
    """Share of the vectors' variance in their best affine subspace of dimension ``rank`` (principal components).

    W_out of a student with hidden width H has rank H at most, so no student reaches more than this of the teacher.

    Args:
        vectors: (n, D) float.
        rank: dimension of the subspace; D or more keeps everything.
    """
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    eigenvalues = np.linalg.eigvalsh(centred.T @ centred)[::-1].clip(min=0)
    total = float(eigenvalues.sum())
    return 1.0 if total == 0 else float(eigenvalues[:rank].sum()) / total


@dataclass(frozen=True, slots=True)
class AffineMap:
    """y = x @ weight + bias."""

    weight: np.ndarray  # (H, D)
    bias: np.ndarray  # (D,)


def fit_ridge(inputs: np.ndarray, targets: np.ndarray, ridge: float) -> AffineMap:
    """Closed-form least squares with an L2 penalty on the weight, the bias free.

    Args:
        inputs: (n, H).
        targets: (n, D).
        ridge: penalty relative to the mean eigenvalue of the inputs' covariance.
    """
    x, y = inputs.astype(np.float64), targets.astype(np.float64)
    x_mean, y_mean = x.mean(axis=0), y.mean(axis=0)
    covariance = (x - x_mean).T @ (x - x_mean)
    penalty = ridge * np.trace(covariance) / len(covariance) or 1.0  # inputs that never vary: any penalty gives weight 0
    weight = np.linalg.solve(covariance + penalty * np.eye(len(covariance)), (x - x_mean).T @ (y - y_mean))
    return AffineMap(weight.astype(np.float32), (y_mean - x_mean @ weight).astype(np.float32))
