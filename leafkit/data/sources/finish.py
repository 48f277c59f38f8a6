"""What is done to every collection that was read from rows or files."""

from __future__ import annotations

import re
from collections import Counter

from leafkit.core.errors import LeafkitError
from leafkit.data.records import Collection, drop_duplicates

_COPIES = "documents with the text of another kept, as BEIR's evaluation does"
_NEAR = "documents that differ from another in case, spaces and punctuation alone"
_WORDS = re.compile(r"\w+")


def finish_collection(
    uri: str, collection: Collection, counts: Counter[str], *, is_merged: bool = True
) -> Collection:
    """Merge documents of one text and let judgments follow, or count them; count documents that
    are nearly equal.

    Args:
        uri: of the source.
        collection: as it was read; it is changed.
        counts: what reading it found and dropped.
        is_merged: whether documents whose title and text are exactly another's become one.

    Raises:
        LeafkitError: no document has a text.
    """
    if is_merged:
        _merge(collection, counts)
    else:
        counts[_COPIES] += len(collection.documents) - len(
            {document.full_text for document in collection.documents}
        )
    counts[_NEAR] += _count_near(collection)
    collection.counts = {name: count for name, count in counts.items() if count}
    if not any(document.full_text for document in collection.documents):
        raise LeafkitError(
            f"{uri} is empty: no document with text",
            "check the file; rows need a text, see leafkit show",
        )
    return collection


def _merge(collection: Collection, counts: Counter[str]) -> None:
    collection.documents, stands_for = drop_duplicates(collection.documents, counts)
    for query, grades in collection.qrels.items():
        merged: dict[str, int] = {}
        for document, grade in grades.items():
            kept = stands_for.get(document, document)
            merged[kept] = max(grade, merged.get(kept, grade))
        collection.qrels[query] = merged
    for query, wrong in collection.negatives.items():
        collection.negatives[query] = list(dict.fromkeys(stands_for.get(d, d) for d in wrong))
    for query, scores in collection.soft.items():
        collection.soft[query] = {stands_for.get(d, d): score for d, score in scores.items()}


def _count_near(collection: Collection) -> int:
    """Different texts that are equal apart from case, spaces and punctuation, less one of each."""
    different = {document.full_text for document in collection.documents}
    keys = {hash(" ".join(_WORDS.findall(text.casefold()))) for text in different}
    return len(different) - len(keys)
