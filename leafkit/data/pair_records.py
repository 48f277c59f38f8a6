"""Training pairs that a caller holds in memory, as training rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from leafkit.core.errors import UsageError
from leafkit.data.records import clean_text
from leafkit.data.training_rows import TrainingRows

_FORM = '{"query": text, "positives": [text, ...], "negatives": [text, ...]}'
_KEYS = ("query", "positive", "positives", "negatives", "instruction", "task")


def rows_of_pairs(name: str, pairs: Iterable[Mapping[str, Any]]) -> TrainingRows:
    """A row per query and positive; equal texts are one document, equal queries one query.

    Negatives that some row of the same query calls a positive are left out, as is the query's own
    text; how many is in the rows' ``counts``.

    >>> rows = rows_of_pairs("mine", [{"query": "a", "positives": ["b"], "negatives": ["c"]}])
    >>> rows.documents, rows.positives, rows.negatives
    (['b', 'c'], [0], [[1]])

    Args:
        name: of the source, for messages.
        pairs: rows {"query", "positives" or "positive", "negatives"?, "instruction"?,
            "task"?}.

    Raises:
        UsageError: a row is not of that form; the message names its number.
    """
    counts: Counter[str] = Counter()
    rows = TrainingRows(name)
    place: dict[str, int] = {}
    query_ids: dict[tuple[str, str, str], int] = {}
    relevant: list[set[int]] = []
    for number, pair in enumerate(pairs):
        query, positives, negatives, (instruction, task) = _read(number, pair, counts)
        query_id = query_ids.setdefault((task, instruction, query), len(query_ids))
        if query_id == len(relevant):
            relevant.append(set())
        found = [place.setdefault(text, len(place)) for text in positives]
        given = [place.setdefault(text, len(place)) for text in dict.fromkeys(negatives)]
        relevant[query_id].update(found)
        for positive in dict.fromkeys(found):
            rows.add(
                query, instruction, query_id, positive, negatives=list(given), scores=[], task=task
            )
    if not rows:
        raise UsageError(f"{name}: there is no training pair", f"rows look like {_FORM}")
    rows.documents = list(place)
    rows.relevant = [frozenset(known) for known in relevant]
    for i, given in enumerate(rows.negatives):
        known, query = rows.relevant[rows.query_ids[i]], rows.queries[i]
        kept = [d for d in given if d not in known and rows.documents[d] != query]
        counts["negatives that some row calls relevant left out"] += len(given) - len(kept)
        rows.negatives[i] = kept
    rows.counts = {what: count for what, count in counts.items() if count}
    return rows


def _read(
    number: int, pair: Mapping[str, Any], counts: Counter[str]
) -> tuple[str, list[str], list[str], tuple[str, str]]:
    """Query, positives, negatives, and instruction and task, of a row."""
    if not isinstance(pair, Mapping):
        raise UsageError(f"pair {number} is a {type(pair).__name__}", f"rows look like {_FORM}")
    unknown = [key for key in pair if key not in _KEYS]
    if unknown or ("positive" in pair) == ("positives" in pair):
        what = f"unknown keys {unknown}" if unknown else "one of positive and positives is needed"
        raise UsageError(f"pair {number}: {what}", f"rows look like {_FORM}")
    positives = pair["positives"] if "positives" in pair else [pair["positive"]]
    columns: dict[str, Any] = {
        "query": [pair.get("query")],
        "positives": positives,
        "negatives": pair.get("negatives") or [],
        "instruction": [pair.get("instruction") or ""],
        "task": [pair.get("task") or ""],
    }
    texts: dict[str, list[str]] = {}
    for key, values in columns.items():
        if isinstance(values, str) or not all(isinstance(value, str) for value in values):
            raise UsageError(f"pair {number}: {key} is not text", f"rows look like {_FORM}")
        texts[key] = [clean_text(value, counts) for value in values]
        if key not in ("instruction", "task") and not all(texts[key]):
            raise UsageError(f"pair {number}: {key} has an empty text", f"rows look like {_FORM}")
    if not texts["positives"]:
        raise UsageError(f"pair {number} has no positive", f"rows look like {_FORM}")
    own = texts["instruction"][0], texts["task"][0]
    return texts["query"][0], texts["positives"], texts["negatives"], own
