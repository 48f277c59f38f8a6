"""What everything that gives vectors has in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from leafkit.core.console import Bar
from leafkit.core.errors import LeafkitError
from leafkit.data.vector_store import Space


class RefusedText(LeafkitError):
    """A text that gets no usable vector; ``number`` counts the texts of the call from 0."""

    def __init__(self, number: int, text: str, what: str, hint: str) -> None:
        super().__init__(
            f"text {number} ({text[:60] + ('...' if len(text) > 60 else '')!r}): {what}", hint
        )
        self.number, self.text, self.what = number, text, what


class Embedder(Protocol):
    """Whatever gives texts vectors of one space: an encoder at hand, an endpoint, vectors that were
    computed elsewhere.
    """

    @property
    def fingerprint(self) -> str:
        """What decides about the vectors; two models of one fingerprint give the same ones."""

    @property
    def dim(self) -> int:
        """D, the dimension of the vectors."""

    @property
    def mrl_dims(self) -> tuple[int, ...]:
        """Matryoshka dimensions, largest first; empty where none are known."""

    def prompt(self, role: str) -> str:
        """Text put before an input of this role."""

    def space(self, role: str, max_tokens: int) -> Space:
        """The space that vectors of this role are in."""

    def embed(
        self, texts: Sequence[str], role: str, max_tokens: int, bar: Bar | None = None
    ) -> np.ndarray:
        """(n, D) float32 vectors of texts in a role ("query" or "document"); ``bar`` is advanced by
        the texts done.
        """
