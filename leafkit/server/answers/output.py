"""Vectors as a request wants them written: numbers of which type, as a list or in base64.

Shapes: n vectors of D dimensions.
"""

from __future__ import annotations

import base64

import numpy as np

from leafkit.index.codecs.steps import Int8
from leafkit.index.quantization import quantize_binary

OUTPUT_TYPES = ("float", "int8", "uint8", "binary", "ubinary")
FORMATS = ("float", "base64")


def encode_output(vectors: np.ndarray, output_type: str, codec: Int8 | None) -> np.ndarray:
    """Vectors as numbers of a type.

    Args:
        vectors: (n, D) float32.
        output_type: of ``OUTPUT_TYPES``. int8 holds the codes -128 ... 127 of the documents' scale,
            uint8 the same plus 128; ubinary packs one bit per dimension, the first dimension the
            highest bit, and binary is ubinary minus 128 as int8, as sentence-transformers and
            Cohere have it.
        codec: of the documents, for int8 and uint8.

    Returns:
        (n, D), or (n, ceil(D / 8)) where bits are packed.
    """
    if output_type == "float":
        return vectors.astype("<f4", copy=False)
    if output_type in ("binary", "ubinary"):
        bits = quantize_binary(vectors)
        return bits if output_type == "ubinary" else (bits.astype(np.int16) - 128).astype(np.int8)
    assert codec is not None
    codes = codec.encode(vectors)
    return codes if output_type == "int8" else (codes.astype(np.int16) + 128).astype(np.uint8)


def write_vector(vector: np.ndarray, is_base64: bool) -> str | np.ndarray:
    """A vector as a JSON value: the array itself, for ``vectors_response``, or base64 of the
    numbers in memory order, little-endian.
    """
    if is_base64:
        return base64.b64encode(vector.tobytes()).decode("ascii")
    return np.ascontiguousarray(vector)
