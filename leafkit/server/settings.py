"""What the server asks of a pair, and the limits that it keeps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from leafkit.data.vector_store import Space
from leafkit.embedders.protocol import Embedder


class Hit(Protocol):
    """One document that was found."""

    @property
    def id(self) -> str:
        """Of the document."""

    @property
    def score(self) -> float:
        """The larger, the nearer."""

    @property
    def text(self) -> str:
        """Of the document."""


class ServedPair(Protocol):
    """What the server asks of a pair; ``leafkit.Pair`` has it."""

    @property
    def space(self) -> Space:
        """The space of the documents' vectors."""

    @property
    def embedder(self) -> Embedder:
        """Gives the student's vectors."""

    @property
    def teacher(self) -> Embedder:
        """Embeds documents; raises a LeafkitError where it is not available."""

    def encode_query(self, texts: list[str], dim: int | None = None) -> np.ndarray:
        """(n, D) vectors of queries."""

    def encode_document(self, texts: list[str], dim: int | None = None) -> np.ndarray:
        """(n, D) vectors of documents."""

    def search(self, questions: str, k: int = 5, dim: int | None = None) -> Iterable[Hit]:
        """The documents nearest to a question."""


@dataclass(frozen=True)
class ServerSettings:
    """How a server presents itself and what it takes.

    Attributes:
        name: of the model, in requests and answers.
        api_key: that requests carry as a bearer token; "" asks for none.
        max_inputs: texts per request.
        max_body_bytes: size of a request's body.
        max_hits: documents per search.
    """

    name: str = "leafkit"
    api_key: str = ""
    max_inputs: int = 2048  # OpenAI's own limit
    max_body_bytes: int = 16_000_000
    max_hits: int = 1000
