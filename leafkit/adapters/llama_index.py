"""A pair as LlamaIndex's ``BaseEmbedding``: "query" embeddings are the student's, "text" embeddings
the teacher's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from leafkit.adapters.source import PairSource, identity_of
from leafkit.core.errors import MissingExtra, UsageError
from leafkit.pipeline.adapted import OpenedFrom
from leafkit.pipeline.pair import Pair

try:
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from pydantic import Field, PrivateAttr
except ImportError as err:
    raise MissingExtra("llama-index-core", "llama-index", "the adapter for LlamaIndex") from err

_BATCH = 1024  # texts handed over at a time; the teacher makes its own batches of them


class PairEmbedding(BaseEmbedding):
    """Queries by the student with the query prompt, texts by the teacher with the document prompt.

    ``to_dict`` holds the pair's folder and ``from_dict`` opens it again, and refuses it where it
    holds another pair by then. ``model_name`` names the space and the student, so that what
    LlamaIndex caches of one pair is not given for another.

    Args:
        pair: of ``leafkit.load_pair`` or ``leafkit.distill``; None opens ``place``.
        settings: of ``BaseEmbedding``, such as ``embed_batch_size``, and those of ``to_dict``.

    Raises:
        UsageError: ``embeddings_cache`` is set: LlamaIndex keeps vectors in it by their text alone,
            and would give a document's vector for the same text as a query.
    """

    model_name: str = Field(default="", frozen=True, description="Names the space and the student.")
    place: dict[str, Any] = Field(
        default_factory=dict, frozen=True, description="Where the pair is opened."
    )
    # set anew, or in a copy, it counts from then on: it is handed over at each call
    dim: int | None = Field(default=None, description="Vectors are cut to this dimension.")
    _source: PairSource = PrivateAttr()

    def __init__(self, pair: Pair | None = None, **settings: Any) -> None:
        settings.pop("class_name", None)
        if settings.get("embeddings_cache") is not None:
            raise UsageError(
                "embeddings_cache keeps vectors by their text, whether it is a query or a document",
                "leave it out: an IngestionPipeline's cache knows documents alone and works",
            )
        place = settings.get("place") or {}
        if pair is not None:
            source = PairSource(pair)
            opened = pair.opened_from or OpenedFrom()
            settings["place"] = {key: getattr(opened, key) for key in OpenedFrom.__slots__}
            settings["model_name"] = identity_of(pair)
        else:
            known = {"identity": settings.get("model_name", "")}
            source = PairSource.from_settings(place | known)
        super().__init__(**({"embed_batch_size": _BATCH} | settings))
        self._source = source

    @classmethod
    def class_name(cls) -> str:
        """What LlamaIndex calls it."""
        return "LeafkitPairEmbedding"

    def model_copy(
        self, *, update: Mapping[str, Any] | None = None, deep: bool = False
    ) -> PairEmbedding:
        """A copy of the same pair, with other settings.

        Raises:
            UsageError: ``update`` names what says which pair it is, which would be written down and
                not be so, or a cache.
        """
        fixed = sorted({"place", "model_name", "embeddings_cache"} & (update or {}).keys())
        if fixed:
            raise UsageError(
                f"{fixed[0]} cannot be changed in a copy of this adapter",
                "make the adapter of the other pair anew",
            )
        return super().model_copy(update=update, deep=deep)

    def __getstate__(self) -> Any:
        """For pickle; LlamaIndex's own leaves out what cannot be pickled, without an error."""
        self._source.settings()
        return super().__getstate__()

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._source.query(query, self.dim)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return await asyncio.to_thread(self._source.query, query, self.dim)

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._source.documents([text], self.dim)[0]

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return await asyncio.to_thread(self._get_text_embedding, text)

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return self._source.documents(texts, self.dim)

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return await asyncio.to_thread(self._source.documents, texts, self.dim)
