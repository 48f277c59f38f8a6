"""What everything that gives vectors has in common, and how it is asked: always in a role.

Shapes: n texts, D dimensions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np

from leafkit.core.console import Bar, warn
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.core.truncate import truncate_then_normalize
from leafkit.data.records import clean_text
from leafkit.data.vector_store import Space
from leafkit.models.encoder_protocol import Encoder

NO_LIMIT = 2**30  # tokens, where a text is not cut here


class RefusedText(LeafkitError):
    """A text that gets no usable vector; ``number`` counts the texts of the call from 0."""

    def __init__(self, number: int, text: str, what: str, hint: str) -> None:
        super().__init__(
            f"text {number} ({text[:60] + ('...' if len(text) > 60 else '')!r}): {what}", hint
        )
        self.number, self.text, self.what = number, text, what


class Embedder(Protocol):
    """Whatever gives texts vectors of one space: a local encoder, an endpoint, vectors that were
    computed elsewhere.
    """

    @property
    def fingerprint(self) -> str:
        """What decides about the vectors; two embedders of one fingerprint give the same ones."""

    @property
    def space_id(self) -> str:
        """Names the space that the vectors are in; a student of this teacher carries it."""

    @property
    def dim(self) -> int:
        """D, the dimension of the vectors."""

    @property
    def mrl_dims(self) -> tuple[int, ...]:
        """Matryoshka dimensions, largest first; empty where none are known."""

    @property
    def max_tokens(self) -> int:
        """Longest input, prompt included; ``NO_LIMIT`` where nothing is cut here."""

    @property
    def encoder(self) -> Encoder | None:
        """The model itself, where it is loaded here."""

    @property
    def precision(self) -> str:
        """Of the arithmetic, where it can be chosen and moves the vectors; else ""."""

    def prompt(self, role: str) -> str:
        """Text put before an input of this role."""

    def space(self, role: str, max_tokens: int) -> Space:
        """The space that vectors of this role are in."""

    def require(self, texts: Sequence[str], role: str) -> None:
        """Raise a LeafkitError where it is known beforehand that a text has no vector."""

    def embed(
        self, texts: Sequence[str], role: str, max_tokens: int, bar: Bar | None = None
    ) -> np.ndarray:
        """(n, D) float32 vectors of texts in a role ("query" or "document"); ``bar`` is advanced by
        the texts done.
        """

    def count_tokens(
        self, texts: Sequence[str], role: str, max_tokens: int | None = None
    ) -> int | None:
        """Tokens that the model reads of some texts, prompts and special tokens included; None
        where that is not known.
        """

    def embed_one(
        self, text: str, role: str = "query", max_tokens: int | None = None
    ) -> np.ndarray:
        """(D,) float32 vector of one text by the fastest way there is for a single one."""

    def encode_query(self, texts: str | Sequence[str], dim: int | None = None) -> np.ndarray:
        """Vectors of queries, see ``EmbedderBase``."""

    def encode_document(self, texts: str | Sequence[str], dim: int | None = None) -> np.ndarray:
        """Vectors of documents, see ``EmbedderBase``."""


class LocalEmbedder(Embedder, Protocol):
    """An embedder whose encoder is loaded here."""

    @property
    def encoder(self) -> Encoder:
        """The model itself."""


class EmbedderBase:
    """What embedders share; a class that embeds inherits it."""

    @property
    def space_id(self: Embedder) -> str:
        """The space is the model's own unless a class says otherwise."""
        return self.fingerprint

    @property
    def encoder(self) -> Encoder | None:
        """No model is loaded here."""
        return None

    @property
    def precision(self) -> str:
        """The arithmetic cannot be chosen."""
        return ""

    def require(self, texts: Sequence[str], role: str) -> None:
        """Any text has a vector."""

    def count_tokens(
        self: Embedder, texts: Sequence[str], role: str, max_tokens: int | None = None
    ) -> int | None:
        """Counted by the encoder, where there is one."""
        if self.encoder is None:
            return None
        return sum(map(len, self.encoder.tokenize(texts, role, max_tokens)))

    def embed_one(
        self: Embedder, text: str, role: str = "query", max_tokens: int | None = None
    ) -> np.ndarray:
        """(D,) float32 vector of one text: the way of many, with one."""
        found: np.ndarray = self.embed([text], role, max_tokens or self.max_tokens)[0]
        return found

    def encode_query(
        self: Embedder, texts: str | Sequence[str], dim: int | None = None
    ) -> np.ndarray:
        """Vectors of queries, with the query's prompt.

        Args:
            texts: one text, or several.
            dim: components kept (Matryoshka): cut first, then normalized; None keeps all.

        Returns:
            (D,) float32 for a text, (n, D) for several.

        Raises:
            UsageError: ``texts`` is not text, or ``dim`` is not between 1 and D.
        """
        return encode_in_role(self, texts, "query", dim)

    def encode_document(
        self: Embedder, texts: str | Sequence[str], dim: int | None = None
    ) -> np.ndarray:
        """Vectors of documents, with the document's prompt; see ``encode_query``."""
        return encode_in_role(self, texts, "document", dim)


def encode_in_role(
    model: Embedder,
    texts: str | Sequence[str],
    role: str,
    dim: int | None = None,
    *,
    max_tokens: int | None = None,
) -> np.ndarray:
    """Vectors of a text, or of several, in a role: the one way behind every ``encode_query`` and
    ``encode_document``.

    White space around a text is dropped, as it is in collections; what no tokenizer takes (lone
    surrogates, NUL) is replaced, with a warning.

    Args:
        model: whatever gives the vectors.
        texts: one text, or several.
        role: "query" or "document".
        dim: components kept; vectors of a model that normalizes have length one after the cut.
        max_tokens: cut of the texts; None takes the model's own limit.

    Returns:
        (D,) float32 for a text, (n, D) for several.

    Raises:
        UsageError: ``texts`` is not text, or ``dim`` is not between 1 and D.
        LeafkitError: a text has no vector.
    """
    is_one = isinstance(texts, str)
    several: list[str] = []
    for text in [texts] if is_one or not isinstance(texts, Iterable) else texts:
        if isinstance(text, str):
            several.append(text)
        else:
            raise UsageError(
                f"a {role} is a {type(text).__name__}, not text", "give a str or a list of str"
            )
    if dim is not None and (type(dim) is not int or not 1 <= dim <= model.dim):
        raise UsageError(
            f"dim={dim!r} is not a number of dimensions between 1 and {model.dim}",
            f"its Matryoshka dimensions are {', '.join(map(str, model.mrl_dims))}"
            if model.mrl_dims
            else "leave dim out: this model was trained for no shorter vectors",
        )
    counts: Counter[str] = Counter()
    cleaned = [clean_text(text, counts) for text in several]
    for repair, count in counts.items():
        warn(f"{repair}: {count:,} of {len(several):,}")
    limit = max_tokens or model.max_tokens
    vectors = model.embed(cleaned, role, limit)
    if dim is not None and dim < model.dim:
        is_unit = model.space(role, limit).normalized
        vectors = truncate_then_normalize(vectors, dim) if is_unit else vectors[:, :dim]
    return vectors[0] if is_one else vectors
