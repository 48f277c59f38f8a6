"""Reading an answer of an OpenAI-compatible embeddings endpoint."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

import numpy as np

from leafkit.core.errors import LeafkitError


class BrokenAnswer(Exception):
    """An answer of which nothing can be read: worth another try."""


def order_rows(content: bytes, count: int, model: str) -> list[Any]:
    """The embeddings of an answer by their index, as they stand there."""
    try:
        found = [(row.get("index"), row["embedding"]) for row in json.loads(content)["data"]]
        if not found:
            raise ValueError("nothing in it")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise BrokenAnswer("no list of embeddings") from None
    indexes = [index for index, _ in found]
    # the texts' order, where the server does not number its answers
    is_ordered = all(index is None for index in indexes)
    if len(found) != count or (
        not is_ordered and sorted(map(repr, indexes)) != sorted(map(repr, range(count)))
    ):
        raise LeafkitError(
            f"{model} gives {len(found)} vectors (index {', '.join(map(repr, indexes[:5]))} ...) "
            f"for {count} texts: no telling"
            " which is whose",
            "check the endpoint; embeddings.texts_per_request=1 sends texts one by one",
        )
    return [
        value for _, value in (found if is_ordered else sorted(found, key=lambda pair: pair[0]))
    ]


def decode_vector(value: Any) -> np.ndarray | None:
    """(D,) float32 of a list of numbers or of base64, little endian; None where it is neither."""
    try:
        if isinstance(value, str):
            return np.frombuffer(base64.b64decode(value, validate=True), dtype="<f4").astype(
                np.float32
            )
        if not isinstance(value, list) or any(
            isinstance(x, bool) or not isinstance(x, int | float) for x in value
        ):
            return None
        with np.errstate(over="ignore"):
            return np.asarray(value, dtype=np.float32)
    except (ValueError, OverflowError, binascii.Error):
        return None
