"""What a codec is: one way to write vectors down, together with its scale.

Shapes: n vectors of D dimensions, already cut to D and brought to length one. No codec ever sees a
query while it is fitted.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np


class Codec(Protocol):
    """One precision, fitted."""

    @property
    def bytes_per_vector(self) -> int:
        """Size of a stored vector."""

    @property
    def length(self) -> float:
        """Length that a restored vector has, about: scales the rounding of inner products."""

    @property
    def is_elementwise(self) -> bool:
        """Whether rows may be dealt to several threads; the others bring their own."""

    def encode(self, vectors: np.ndarray) -> np.ndarray:
        """(n, D) float32 -> (n, ...) what is stored."""

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """What is stored -> (n, D) float32."""

    def round_trip(self, vectors: np.ndarray) -> np.ndarray:
        """``decode(encode(vectors))`` without the codes in between, bit for bit."""

    def scale(self) -> dict[str, np.ndarray]:
        """What a database needs to write the same codes; empty where nothing was fitted."""
