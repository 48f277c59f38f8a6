"""What a pair offers other libraries. Their objects are made in ``leafkit.adapters``, a floor
above, which opens pairs again where such an object was written down: it is found by its name here,
for a pair cannot import what imports pairs.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings
    from llama_index.core.base.embeddings.base import BaseEmbedding


@dataclass(frozen=True, slots=True)
class OpenedFrom:
    """How a pair was opened, so that it can be opened again.

    Attributes:
        folder: of the pair; empty where it is in memory.
        index: see ``load_pair``.
        teacher: reference; None is the one that the student names.
        device: see ``load_pair``.
        query_threads: see ``load_pair``.
    """

    folder: str = ""
    index: str = "flat"
    teacher: str | None = None
    device: str = "auto"
    query_threads: int = 0


class Adapted:
    """A pair in the interfaces of other libraries: queries by its student, documents by its
    teacher, each with its prompt.

    Attributes:
        opened_from: what opens it again; None where nothing does.
    """

    opened_from: OpenedFrom | None = None

    def langchain(self, dim: int | None = None) -> Embeddings:
        """This pair as LangChain's ``Embeddings``; needs the extra ``langchain``.

        Args:
            dim: vectors are cut to this dimension.

        Raises:
            MissingExtra: langchain-core is not installed.
        """
        return _adapter("langchain", "PairEmbeddings")(self, dim)

    def llama_index(self, dim: int | None = None) -> BaseEmbedding:
        """This pair as LlamaIndex's ``BaseEmbedding``; needs the extra ``llama-index``.

        Args:
            dim: vectors are cut to this dimension.

        Raises:
            MissingExtra: llama-index-core is not installed.
        """
        return _adapter("llama_index", "PairEmbedding")(self, dim=dim)

    def haystack(
        self, dim: int | None = None, meta_fields_to_embed: Sequence[str] = ()
    ) -> tuple[Any, Any]:
        """This pair as two Haystack components, a text embedder and a document embedder; needs the
        extra ``haystack``.

        Args:
            dim: vectors are cut to this dimension.
            meta_fields_to_embed: of a document, put before its content.

        Raises:
            MissingExtra: haystack-ai is not installed.
        """
        return (
            _adapter("haystack", "PairTextEmbedder")(self, dim),
            _adapter("haystack", "PairDocumentEmbedder")(self, dim, meta_fields_to_embed),
        )


def _adapter(module: str, name: str) -> Any:
    return pkgutil.resolve_name(f"leafkit.adapters.{module}:{name}")
