"""A pair as two Haystack components: a text embedder for queries, a document embedder."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from leafkit.adapters.source import PairSource
from leafkit.core.errors import MissingExtra, UsageError
from leafkit.pipeline.pair import Pair

try:
    from haystack import Document, component, default_to_dict
except ImportError as err:
    raise MissingExtra("haystack-ai", "haystack", "the adapter for Haystack") from err


def _from_dict(cls: type, data: dict[str, Any]) -> Any:
    parameters = dict(data["init_parameters"])
    return cls(PairSource.from_settings(parameters.pop("pair")), **parameters)


def _source(pair: Pair | PairSource, dim: int | None) -> PairSource:
    if isinstance(pair, PairSource):
        return pair
    return PairSource(pair, dim=dim)


@component
class PairTextEmbedder:
    """Embeds a query with the student, the query prompt included.

    ``to_dict`` names the pair's folder; ``Pipeline.loads`` opens it again, with
    ``allowed_modules=["leafkit.*"]`` as Haystack asks for other people's components.

    Args:
        pair: of ``leafkit.load_pair`` or ``leafkit.distill``.
        dim: vectors are cut to this dimension; None keeps them whole.
    """

    def __init__(self, pair: Pair | PairSource, dim: int | None = None) -> None:
        self._source = _source(pair, dim)
        component.set_output_types(self, embedding=list[float])

    def to_dict(self) -> Mapping[str, Any]:
        """What ``from_dict`` makes it of again.

        Raises:
            UsageError: the pair came out of no folder.
        """
        written: Mapping[str, Any] = default_to_dict(self, pair=self._source.settings())
        return written

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> PairTextEmbedder:
        """What ``to_dict`` wrote; the pair is opened when it is first needed."""
        made: PairTextEmbedder = _from_dict(cls, data)
        return made

    def warm_up(self) -> None:
        """Open the pair; without it the first query does."""
        _ = self._source.pair

    def run(self, text: str) -> dict[str, list[float]]:
        """``embedding``: D numbers, equal to ``Pair.encode_query``.

        Raises:
            UsageError: it is not text.
        """
        return {"embedding": self._source.query(text)}

    async def run_async(self, text: str) -> dict[str, list[float]]:
        """``run`` in a thread."""
        return await asyncio.to_thread(self.run, text)


@component
class PairDocumentEmbedder:
    """Embeds documents with the teacher, the document prompt included.

    Args:
        pair: of ``leafkit.load_pair`` or ``leafkit.distill``.
        dim: vectors are cut to this dimension; None keeps them whole.
        meta_fields_to_embed: of a document's ``meta``, put before its content with a space between,
            as a title stands before its text in leafkit's collections.

    Raises:
        UsageError: ``meta_fields_to_embed`` is one text.
    """

    def __init__(
        self,
        pair: Pair | PairSource,
        dim: int | None = None,
        meta_fields_to_embed: Sequence[str] = (),
    ) -> None:
        if isinstance(meta_fields_to_embed, str):
            raise UsageError(
                f"meta_fields_to_embed={meta_fields_to_embed[:40]!r} is one text",
                'give a list of names, ["title"] say',
            )
        self._source = _source(pair, dim)
        self.meta_fields_to_embed = list(meta_fields_to_embed)
        component.set_output_types(self, documents=list[Document])

    def to_dict(self) -> Mapping[str, Any]:
        """See ``PairTextEmbedder.to_dict``."""
        written: Mapping[str, Any] = default_to_dict(
            self,
            pair=self._source.settings(),
            meta_fields_to_embed=self.meta_fields_to_embed,
        )
        return written

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> PairDocumentEmbedder:
        """What ``to_dict`` wrote; the pair is opened when it is first needed."""
        made: PairDocumentEmbedder = _from_dict(cls, data)
        return made

    def warm_up(self) -> None:
        """Open the pair; without it the first documents do."""
        _ = self._source.pair

    def run(self, documents: list[Document]) -> dict[str, list[Document]]:
        """``documents``: copies of those given, each with its ``embedding``, equal to
        ``Pair.encode_document``.

        Raises:
            UsageError: something is no document, or a document has no text.
        """
        texts = [self._text(document) for document in documents]
        vectors = self._source.documents(texts)
        return {
            "documents": [
                replace(document, embedding=vector)
                for document, vector in zip(documents, vectors, strict=True)
            ]
        }

    async def run_async(self, documents: list[Document]) -> dict[str, list[Document]]:
        """``run`` in a thread."""
        return await asyncio.to_thread(self.run, documents)

    def _text(self, document: Document) -> str:
        if not isinstance(document, Document):
            raise UsageError(
                f"a document is a {type(document).__name__}", "give a list of haystack.Document"
            )
        if document.content is None:
            raise UsageError(
                f"document {document.id[:80]} has no text", "leave it out: the teacher reads text"
            )
        fields = [document.meta.get(name) for name in self.meta_fields_to_embed]
        parts = [*(str(field) for field in fields if field), document.content]
        return " ".join(parts).strip()
