"""What is done to every collection that was read from rows or files."""

from __future__ import annotations

from collections import Counter

from leafkit.core.errors import LeafkitError
from leafkit.data.records import Collection, drop_duplicates


def finish_collection(uri: str, collection: Collection, counts: Counter[str]) -> Collection:
    """Drop documents whose text is there already, and let the judgments follow.

    Args:
        uri: of the source.
        collection: as it was read; it is changed.
        counts: what reading it found and dropped.

    Raises:
        LeafkitError: no document is left.
    """
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
    collection.counts = {name: count for name, count in counts.items() if count}
    if not collection.documents:
        raise LeafkitError(
            f"{uri} is empty: no document with text",
            "check the file; rows need a text, see leafkit show",
        )
    return collection
