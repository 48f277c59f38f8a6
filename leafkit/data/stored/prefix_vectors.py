"""The first dimensions of vectors that are stored whole: the store of a Matryoshka teacher serves
students of every dimension, and nothing is embedded again.

Shapes: n vectors of D dimensions, N of them kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from leafkit.core.truncate import truncate_then_normalize
from leafkit.data.vector_store import Space


class StoredVectors(Protocol):
    """Vectors of texts in their order, read where they are asked for, and the space they are in."""

    @property
    def space(self) -> Space:
        """That the vectors are in."""

    def __len__(self) -> int: ...
    def __getitem__(self, rows: slice | np.ndarray, /) -> np.ndarray: ...


class PrefixVectors:
    """The first ``dim`` dimensions of stored vectors, cut first and then of length one again, where
    they were of length one.

    Args:
        whole: (n, D).
        dim: N.
    """

    def __init__(self, whole: StoredVectors, dim: int) -> None:
        self._whole, self._dim = whole, dim

    @property
    def space(self) -> Space:
        """Of the whole vectors, with N dimensions."""
        return replace(self._whole.space, dim=self._dim)

    def __len__(self) -> int:
        return len(self._whole)

    def __getitem__(self, rows: slice | np.ndarray | Sequence[int]) -> np.ndarray:
        """(number of rows, N) float32."""
        return first_dims(self._whole[rows], self._dim, is_unit=self.space.normalized)  # type: ignore[index]


def first_dims(vectors: np.ndarray, dim: int, *, is_unit: bool) -> np.ndarray:
    """(n, dim) float32 of (n, D).

    Args:
        vectors: any floating point.
        dim: components kept.
        is_unit: vectors are of length one, and so is what is kept of them.
    """
    head = np.asarray(vectors[:, :dim], dtype=np.float32)
    return truncate_then_normalize(head) if is_unit else np.ascontiguousarray(head)
