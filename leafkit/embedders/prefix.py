"""A Matryoshka model at its first dimensions, as a model of that dimension.

Its vectors are the model's own, cut first and then normalised where the model normalises
(Matryoshka, arXiv 2205.13147). The space has the model's name, and its dimension says which part of
it is meant.

Shapes: n texts, D dimensions of the model, N of them kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from leafkit.core.artifact import fingerprint
from leafkit.core.console import Bar
from leafkit.core.errors import UsageError
from leafkit.data.stored.prefix_vectors import first_dims
from leafkit.data.vector_store import Space
from leafkit.embedders.precomputed import PrecomputedVectors
from leafkit.embedders.protocol import Embedder, EmbedderBase
from leafkit.models.encoder_protocol import Encoder


class PrefixEmbedder(EmbedderBase):
    """The first ``dim`` dimensions of a model; an Embedder.

    Args:
        whole: the model.
        dim: N, fewer than it has.

    Attributes:
        whole: as given.
    """

    def __init__(self, whole: Embedder, dim: int) -> None:
        self.whole, self._dim = whole, dim

    @property
    def fingerprint(self) -> str:
        """Of the model and the dimension."""
        return fingerprint([self.whole.fingerprint, self._dim])

    @property
    def space_id(self) -> str:
        """The whole model's: the same vectors are in it, cut."""
        return self.whole.space_id

    @property
    def dim(self) -> int:
        """N, the dimension of the vectors."""
        return self._dim

    @property
    def mrl_dims(self) -> tuple[int, ...]:
        """The model's Matryoshka dimensions up to N, largest first."""
        return tuple(dim for dim in self.whole.mrl_dims if dim <= self._dim)

    @property
    def max_tokens(self) -> int:
        """The model's own limit."""
        return self.whole.max_tokens

    @property
    def encoder(self) -> Encoder | None:
        """The whole model, where it is loaded here: it reads the texts."""
        return self.whole.encoder

    @property
    def precision(self) -> str:
        """Of the model's arithmetic."""
        return self.whole.precision

    def prompt(self, role: str) -> str:
        """Text put before an input of this role."""
        return self.whole.prompt(role)

    def space(self, role: str, max_tokens: int) -> Space:
        """The model's space, with N dimensions."""
        return replace(self.whole.space(role, max_tokens), dim=self._dim)

    def require(self, texts: Sequence[str], role: str) -> None:
        """As the model says."""
        self.whole.require(texts, role)

    def count_tokens(
        self, texts: Sequence[str], role: str, max_tokens: int | None = None
    ) -> int | None:
        """As the model counts."""
        return self.whole.count_tokens(texts, role, max_tokens)

    def embed(
        self, texts: Sequence[str], role: str, max_tokens: int, bar: Bar | None = None
    ) -> np.ndarray:
        """(n, N) float32 vectors of texts in a role."""
        vectors = self.whole.embed(texts, role, max_tokens, bar)
        return first_dims(vectors, self._dim, is_unit=self._is_unit(role, max_tokens))

    def embed_one(
        self, text: str, role: str = "query", max_tokens: int | None = None
    ) -> np.ndarray:
        """(N,) vector of one text, by the model's fastest way."""
        vector = self.whole.embed_one(text, role, max_tokens)
        is_unit = self._is_unit(role, max_tokens or self.max_tokens)
        found: np.ndarray = first_dims(vector[None], self._dim, is_unit=is_unit)[0]
        return found

    def _is_unit(self, role: str, max_tokens: int) -> bool:
        return self.whole.space(role, max_tokens).normalized


def take_first_dims(model: Embedder, dim: int, reference: str) -> Embedder:
    """The teacher at the dimensions that ``student.dim`` asks for; the teacher itself where these
    are all.

    Args:
        model: the teacher.
        dim: N; 0 takes all.
        reference: names the teacher.

    Raises:
        UsageError: the teacher's vectors are no longer ones cut there.
    """
    if not dim or dim == model.dim:  # an endpoint is asked for its dimension, so not without need
        return model
    known = [other for other in model.mrl_dims if other < model.dim]
    if dim in known:
        return PrefixEmbedder(model, dim)
    has = f"{model.dim:,} dimensions and " + (
        f"Matryoshka at {', '.join(map(str, known))}" if known else "no Matryoshka dimensions"
    )
    raise UsageError(
        f"student.dim={dim}: the teacher {reference or 'that was given'} has {has}: its first "
        f"{dim} dimensions were not trained to be vectors of their own",
        f"student.dim={' or '.join(map(str, known))}, or 0 for all of them"
        if known
        else "student.dim=0 matches all of them; teacher.mrl_dims=[...] names those of vectors or "
        "of an endpoint",
    )


def whole_dim(model: Embedder) -> int:
    """D, of a model at its first dimensions; 0 of any other."""
    return model.whole.dim if isinstance(model, PrefixEmbedder) else 0


def precomputed_of(model: Embedder) -> PrecomputedVectors | None:
    """The vectors computed elsewhere that a model gives, whole or cut; None of any other model."""
    whole = model.whole if isinstance(model, PrefixEmbedder) else model
    return whole if isinstance(whole, PrecomputedVectors) else None
