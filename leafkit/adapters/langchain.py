"""A pair as LangChain's ``Embeddings``."""

from __future__ import annotations

from collections.abc import Sequence

from leafkit.adapters.source import PairSource
from leafkit.core.errors import MissingExtra
from leafkit.pipeline.pair import Pair

try:
    from langchain_core.embeddings import Embeddings
except ImportError as err:
    raise MissingExtra("langchain-core", "langchain", "the adapter for LangChain") from err


class PairEmbeddings(Embeddings):
    """``embed_query`` is the student with the query prompt, ``embed_documents`` the teacher with
    the document prompt. LangChain's own ``aembed_query`` and ``aembed_documents`` call them in a
    thread.

    It can be pickled where its pair came out of a folder.

    Args:
        pair: of ``leafkit.load_pair`` or ``leafkit.distill``.
        dim: vectors are cut to this dimension; None keeps them whole.
    """

    def __init__(self, pair: Pair, dim: int | None = None) -> None:
        self._source = PairSource(pair, dim=dim)

    def embed_query(self, text: str) -> list[float]:
        """The student's vector of a query, D numbers.

        Raises:
            UsageError: it is not text, or the dimension is out of range.
        """
        return self._source.query(text)

    def embed_documents(self, texts: Sequence[str]) -> list[list[float]]:
        """The teacher's vectors of documents, D numbers each, in order.

        Raises:
            UsageError: ``texts`` are not texts, or the dimension is out of range.
            LeafkitError: the teacher is not available.
        """
        return self._source.documents(texts)
