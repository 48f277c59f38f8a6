"""Vectors in the numbers they are kept in: nothing is lost on the way without an error."""

from __future__ import annotations

import numpy as np

from leafkit.core.errors import LeafkitError

# of a vector's length that rounding may move it by: float16 moves ordinary vectors by .0003, those
# with numbers below 6e-5 by more, and those with numbers below 3e-8 become zero
MAX_LOSS = 0.01
_LARGEST = float(np.finfo(np.float16).max)
_SCALE = (
    "scale the vectors to length one, which changes no cosine: a vectors: folder says "
    '"normalized": true in about.json, a model folder gets a Normalize module; vectors that are '
    "ranked by their inner product can all be multiplied by one number"
)


def to_storable(vectors: np.ndarray, dtype: np.dtype, first_row: int = 0) -> np.ndarray:
    """(n, D) vectors as ``dtype``, C order.

    Args:
        vectors: (n, D), of any float type.
        dtype: of the result.
        first_row: number of the first vector, for messages.

    Raises:
        LeafkitError: a number is not finite, or is too large for ``dtype``, or a vector is so short
            that ``dtype`` would move it by more than ``MAX_LOSS`` of its length; the row is named.
    """
    _refuse_rows(
        ~np.isfinite(vectors).all(axis=1),
        first_row,
        "is not finite",
        "compute in float32 with precision=float32; if it stays, look at that row's text",
    )
    with np.errstate(over="ignore"):
        stored = np.ascontiguousarray(vectors, dtype=dtype)
    _refuse_rows(
        ~np.isfinite(stored).all(axis=1),
        first_row,
        f"holds a number above {_LARGEST:,.0f}, the largest that {dtype.name} has",
        _SCALE,
    )
    if dtype.itemsize < 4:
        exact = vectors.astype(np.float64)
        lost = np.linalg.norm(stored.astype(np.float64) - exact, axis=1)
        _refuse_rows(
            lost > MAX_LOSS * np.linalg.norm(exact, axis=1),
            first_row,
            f"is too short for {dtype.name}, which has no numbers between 0 and .00000006",
            _SCALE,
        )
    return stored


def _refuse_rows(is_wrong: np.ndarray, first_row: int, what: str, hint: str) -> None:
    if is_wrong.any():
        row = first_row + int(np.flatnonzero(is_wrong)[0])
        count = int(is_wrong.sum())
        raise LeafkitError(
            f"the vector of row {row} {what} ({count} such rows among {len(is_wrong)})", hint
        )
