"""What of a further source trains a student, and in which role."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from leafkit.config import SourceConfig
from leafkit.core.errors import UsageError
from leafkit.data.records import Collection, Query
from leafkit.data.sources.sample import choose_numbers

# texts, role, limit (0: all) -> numbers of texts, the first to be embedded first
OrderTexts = Callable[[Sequence[str], str, int], Sequence[int]]
_CHOSEN = "texts chosen by the start model (choose=leverage) out of {:,}"


def training_texts(
    collection: Collection,
    source: SourceConfig,
    counts: Counter[str],
    order: OrderTexts | None = None,
) -> tuple[list[str], list[Query]]:
    """Documents as text, and train queries: as many as ``source.limit`` says, in the order of the
    source, or chosen and then in the order of the choice.

    Args:
        collection: what the source holds.
        source: its ``take``, ``limit`` and ``choose``.
        counts: gets what was chosen, in words.
        order: chooses, where ``source.choose`` is not random.

    Raises:
        UsageError: it has nothing of what is to be taken, or its documents are to be queries and
            it has queries beside them.
    """
    documents = [document.full_text for document in collection.documents]
    queries = [query for query in collection.queries if query.split == "train"]
    if source.take == "as_queries":
        if queries:
            raise UsageError(
                f"{source.uri}: take=as_queries is for plain texts; this source has "
                f"{len(queries):,} train queries, and its documents answer them",
                "take=queries takes the queries alone",
            )
        queries = [
            Query(document.id, document.full_text, "train") for document in collection.documents
        ]
    if source.take in ("queries", "as_queries"):
        documents = []
    elif source.take == "documents":
        queries = []
    if source.take != "all" and not documents and not queries:
        raise UsageError(
            f"{source.uri}: take={source.take}, and it has no such texts",
            "take=all takes what there is",
        )
    if source.choose == "random":
        order = _draw(counts) if source.limit else None
    elif order is None:
        raise ValueError(f"{source.uri}: choose={source.choose}, and nothing here chooses")
    if order is not None:
        num_texts = len(documents) + len(queries)
        asked = [query.text for query in queries]
        documents = [documents[i] for i in order(documents, "document", source.limit)]
        queries = [queries[i] for i in order(asked, "query", source.limit)]
        if source.choose != "random":
            counts[_CHOSEN.format(num_texts)] += len(documents) + len(queries)
    return documents, queries


def _draw(counts: Counter[str]) -> OrderTexts:
    return lambda texts, role, limit: choose_numbers(texts, limit, counts)
