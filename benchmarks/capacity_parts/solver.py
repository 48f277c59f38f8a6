"""Closed forms of a way (ways.py): one ridge solution of the states and of what is read
beside them, out of the texts' sums or, where there are more numbers than texts, of their products.

Shapes: n texts, H hidden width, K numbers beside the states, D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_matrix

from capacity_parts.ways import Texts, Way
from leafkit.core.truncate import truncate_then_normalize
from leafkit.evaluation.diagnosis.spectrum import RidgeSums, sum_for_ridge

RIDGES = (1e-3, 1e-2, 1e-1, 1.0)
RIDGES_BESIDE = (1e-2, 1e-1, 1.0)  # where more than the states is read
SHARES = (0.1, 1.0)  # variance of what is beside the states, of theirs
LOCAL_SHARES = (0.01, 0.1, 1.0)  # how much less a cluster is held back than the map of all texts


@dataclass(frozen=True, slots=True)
class Setting:
    """How strongly a way is held back.

    Attributes:
        ridge: relative to the mean eigenvalue of the states.
        share: variance of what is beside the states, of theirs; of clusters, how much less they are
            held to the map of all texts.
    """

    ridge: float
    share: float = 0.0


class Solver:
    """A way's closed forms on some texts; one pass over them serves all settings.

    Args:
        way: what is read.
        texts: fitted to.
        aims: (n, D) of them.
        seed: of what is random in the way.
    """

    def __init__(self, way: Way, texts: Texts, aims: np.ndarray, seed: int) -> None:
        self._way, self._states, self._aims = way, way.states(texts), aims
        self._numbers = way.make(texts, seed) if way.make else None
        beside = self._numbers(texts) if self._numbers else None
        self.width = self._states.shape[1]
        self.num_beside = 0 if beside is None else beside.shape[1]
        self._beside, self._unit_scale, inputs = beside, 1.0, self._states
        if beside is not None and not way.is_local:
            own = _variance(beside)
            # all columns together have the variance of the states, whatever their number
            self._unit_scale = float(np.sqrt(_variance(inputs) / max(own, 1e-12)))
            if way.is_sparse:
                self._mean_share, self._share_products = center_products(beside)
            else:
                inputs = np.concatenate([inputs, beside * np.float32(self._unit_scale)], axis=1)
        self._sums = sum_for_ridge(inputs, aims)
        self._mean_eigenvalue = float(self._sums.covariance.diagonal()[: self.width].mean())

    @property
    def num_parameters(self) -> int:
        """Of the head, all that is needed to use it."""
        dim, count = self._aims.shape[1], self.num_beside
        matrices = (1 + count) * (self.width + 1) * dim if self._way.is_local else 0
        matrices = matrices or (self.width + count + 1) * dim
        return matrices + self._way.num_inner(count, self.width)

    def settings(self) -> list[Setting]:
        """All that are tried."""
        shares = (SHARES, LOCAL_SHARES)[self._way.is_local] if self._numbers else (0.0,)
        ridges = RIDGES_BESIDE if self._numbers else RIDGES
        return [Setting(ridge, share) for share in shares for ridge in ridges]

    def solve(self, setting: Setting) -> Callable[[Texts], np.ndarray]:
        """(n, D) unit vectors of texts."""
        if self._way.is_local:
            raw = self._solve_local(setting)
        elif self._way.is_sparse:
            raw = self._solve_by_texts(setting)
        else:
            raw = self._solve_joint(setting)
        return lambda texts: truncate_then_normalize(raw(texts))

    def _solve_joint(self, setting: Setting) -> Callable[[Texts], np.ndarray]:
        factor = np.ones(len(self._sums.covariance))
        factor[self.width :] = setting.share**0.5
        sums = rescale(self._sums, factor)
        mean = np.trace(sums.covariance) / len(sums.covariance)
        solution = sums.solve(setting.ridge * self._mean_eigenvalue / mean)
        weight = (factor[:, None] * solution.weight).astype(np.float32)

        def apply(texts: Texts) -> np.ndarray:
            found = self._way.states(texts) @ weight[: self.width] + solution.bias
            if self._numbers is not None:
                found += self._unit_scale * (self._numbers(texts) @ weight[self.width :])
            return np.asarray(found)

        return apply

    def _solve_by_texts(self, setting: Setting) -> Callable[[Texts], np.ndarray]:
        """The same solution out of the texts' products with each other."""
        assert self._numbers is not None
        assert self._beside is not None
        center, aim = self._states.mean(axis=0), self._aims.mean(axis=0)
        known, weight = self._states - center, np.float32(setting.share * self._unit_scale**2)
        own = known @ known.T + weight * self._share_products
        own[np.diag_indices(len(own))] += setting.ridge * self._mean_eigenvalue
        duals = np.linalg.solve(own, self._aims - aim)
        table = self._beside.T @ duals - self._mean_share.T @ duals.sum(axis=0, keepdims=True)
        numbers, states_of, weights = self._numbers, self._way.states, known.T @ duals
        return lambda texts: (
            (states_of(texts) - center) @ weights
            + weight * (numbers(texts) @ table - self._mean_share @ table)
            + aim
        )

    def _solve_local(self, setting: Setting) -> Callable[[Texts], np.ndarray]:
        """The map of all texts, and in each cluster a ridge solution of what it leaves there."""
        assert self._beside is not None
        assert self._numbers is not None
        shared = self._sums.solve(setting.ridge)
        left = self._aims - (self._states @ shared.weight + shared.bias)
        center = self._states.mean(axis=0)
        spread = np.sqrt(self._states.var(axis=0).mean())

        def read(states: np.ndarray) -> np.ndarray:
            ones = np.full((len(states), 1), spread, dtype=np.float32)
            return np.concatenate([states - center, ones], axis=1)

        inputs, matrices = read(self._states), []
        # against the penalty of the map of all texts, whatever the cluster holds
        penalty = setting.ridge / setting.share * self._mean_eigenvalue
        for weight in self._beside.T:
            rows = np.flatnonzero(weight > 1e-3)
            root = np.sqrt(weight[rows, None])
            x = inputs[rows] * root
            y = left[rows] * root
            held = x.T @ x + np.float32(penalty) * np.eye(x.shape[1], dtype=np.float32)
            matrices.append(np.linalg.solve(held, x.T @ y).astype(np.float32))
        numbers, states_of = self._numbers, self._way.states

        def apply(texts: Texts) -> np.ndarray:
            found = states_of(texts) @ shared.weight + shared.bias
            weights, own = numbers(texts), read(states_of(texts))
            for weight, matrix in zip(weights.T, matrices, strict=True):
                rows = np.flatnonzero(weight > 1e-3)
                found[rows] += weight[rows, None] * (own[rows] @ matrix)
            return np.asarray(found)

        return apply


def center_products(numbers: csr_matrix) -> tuple[np.ndarray, np.ndarray]:
    """(1, K) the mean, and (n, n) products of the rows without it."""
    mean = np.asarray(numbers.mean(axis=0), dtype=np.float32).reshape(1, -1)
    products = (numbers @ numbers.T).toarray()
    to_mean = np.asarray(numbers @ mean.T)
    return mean, products - to_mean - to_mean.T + (mean**2).sum()


def _variance(numbers: np.ndarray | csr_matrix) -> float:
    """Of all columns together."""
    if isinstance(numbers, np.ndarray):
        return float(numbers.var(axis=0).sum())
    squares = numbers.power(2).mean(axis=0) - np.square(numbers.mean(axis=0))
    return float(squares.sum())


def rescale(sums: RidgeSums, factor: np.ndarray) -> RidgeSums:
    """The sums of inputs that are each multiplied by a factor."""
    return replace(
        sums,
        covariance=sums.covariance * np.outer(factor, factor),
        products=sums.products * factor[:, None],
        input_mean=sums.input_mean * factor,
    )
