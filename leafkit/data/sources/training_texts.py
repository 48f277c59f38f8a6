"""What of a further source trains a student, and in which role."""

from __future__ import annotations

from collections import Counter

from leafkit.config import SourceConfig
from leafkit.core.errors import UsageError
from leafkit.data.records import Collection, Query
from leafkit.data.sources.sample import choose_numbers


def training_texts(
    collection: Collection, source: SourceConfig, counts: Counter[str]
) -> tuple[list[str], list[Query]]:
    """Documents as text, and train queries, of which ``source.limit`` draws some.

    Args:
        collection: what the source holds.
        source: its ``take`` and ``limit``.
        counts: gets what the limit left out, in words.

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
    if source.limit:
        documents = [documents[i] for i in choose_numbers(documents, source.limit, counts)]
        asked = (query.text for query in queries)
        queries = [queries[i] for i in choose_numbers(asked, source.limit, counts)]
    return documents, queries
