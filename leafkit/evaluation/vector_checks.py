"""Vectors that do not fit what is measured are refused before anything is searched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from leafkit.core.errors import LeafkitError
from leafkit.evaluation.comparison import ENCODERS

_ROWS = 2**14  # looked at for what is not finite at a time


def check_vectors(
    name: str,
    vectors: Mapping[str, tuple[np.ndarray, np.ndarray]],
    query_ids: Sequence[str],
    document_ids: Sequence[str],
) -> None:
    """Refuse vectors that are too few, of two dimensions or not finite.

    Args:
        name: of the collection, for the message.
        vectors: per system (query vectors, document vectors).
        query_ids: of the queries.
        document_ids: of the documents.

    Raises:
        LeafkitError: naming whose vectors, and the text's id and row.
    """
    seen: set[int] = set()
    for system, pair in vectors.items():
        owners = ENCODERS.get(system, (system, system))
        for owner, what, array, ids in zip(
            owners, ("query", "document"), pair, (query_ids, document_ids), strict=True
        ):
            if array.ndim != 2 or len(array) != len(ids):
                raise LeafkitError(
                    f"{name}: the {owner}'s {what} vectors have the shape {array.shape} where "
                    f"there are {len(ids)} texts",
                    "compute the vectors of these texts, in their order",
                )
            if id(array) not in seen:  # several systems share an encoder's vectors
                seen.add(id(array))
                _check_finite(f"{name}: the {owner}'s vector of {what}", array, ids)
        if pair[0].shape[1] != pair[1].shape[1]:
            raise LeafkitError(
                f"{name}: the {owners[0]}'s query vectors have {pair[0].shape[1]} dimensions and "
                f"the {owners[1]}'s document vectors {pair[1].shape[1]}: they share no space",
                "measure models of one space",
            )


def _check_finite(whose: str, vectors: np.ndarray, ids: Sequence[str]) -> None:
    for start in range(0, len(vectors), _ROWS):
        is_bad = ~np.isfinite(vectors[start : start + _ROWS]).all(axis=1)
        if is_bad.any():
            row = start + int(np.flatnonzero(is_bad)[0])
            raise LeafkitError(
                f"{whose} {ids[row]!r} (row {row}) is not finite",
                "compute in float32 with precision=float32; where the vectors came from "
                "elsewhere, correct them there",
            )
