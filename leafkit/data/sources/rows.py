"""Rows of documents and of pairs to a collection.

A row is either a document, ``{"text", "id"?, "title"?}``, or a pair, ``{"query", "positive" or
"positives", "negatives"?, "scores"?, "instruction"?, "task"?, "split"?}``. Two sentences without a
score, ``{"s1", "s2"}``, are a pair of a symmetric task.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from leafkit.data.records import SPLITS, Collection, Document, Query, clean_text, split_of
from leafkit.data.sources.bad_rows import BadRows, is_number, text_of

_ALIASES = {
    "anchor": "query",
    "pos": "positives",
    "neg": "negatives",
    "negative": "negatives",
    "sentence1": "s1",
    "sentence2": "s2",
}


def with_our_names(row: dict[str, Any]) -> dict[str, object]:
    """Names that other toolkits' rows have (FlagEmbedding's, sentence-transformers', MTEB's) as
    ours.
    """
    renamed = {
        _ALIASES[key]: value
        for key, value in row.items()
        if key in _ALIASES and _ALIASES[key] not in row
    }
    if isinstance(renamed.get("negatives"), str):
        renamed["negatives"] = [renamed["negatives"]]
    return {key: value for key, value in row.items() if key not in _ALIASES} | renamed


def collect_rows(
    name: str,
    rows: Iterable[tuple[str, dict[str, Any]]],
    bad: BadRows,
    counts: Counter[str],
    *,
    default_split: str,
) -> Collection:
    documents: dict[str, Document] = {}
    by_text: dict[str, str] = {}
    queries: dict[str, Query] = {}
    qrels: dict[str, dict[str, int]] = {}

    def add(text: str, title: str = "", identity: str | None = None) -> str:
        full = f"{title}\n{text}"
        if identity is None and full in by_text:
            return by_text[full]
        key = identity if identity is not None else f"d{len(documents)}"
        documents[key] = Document(key, text, title)
        by_text.setdefault(full, key)
        return key

    found = Collection(name, [])
    for where, row in rows:
        if "s1" in row and "s2" in row and not {"query", "text"} & row.keys():
            if row.get("score") is not None:
                bad.refuse(
                    where,
                    "a scored pair of sentences: such rows train with task=sts of their source, "
                    "and are measured by bench.tasks=[sts:PATH]",
                )
                continue
            row = {"task": "sts"} | row | {"query": row["s1"], "positive": row["s2"]}
        if "query" in row:
            pair = _parse_pair(where, row, bad, counts, default_split=default_split)
            if pair is not None:
                _add_pair(pair, add, queries, qrels, found=found)
        else:
            text = text_of(row, "text", where, bad, counts=counts)
            identity = clean_text(str(row["id"]), counts) if row.get("id") is not None else None
            if text is not None and identity in documents:
                bad.refuse(where, f"id {identity!r} is used twice")
            elif text is not None:
                add(text, clean_text(str(row.get("title") or ""), counts), identity)
    found.documents, found.queries, found.qrels = (
        list(documents.values()),
        list(queries.values()),
        qrels,
    )
    return found


@dataclass(frozen=True, slots=True)
class _Pair:
    """One good pair row."""

    query: str
    positives: list[str]
    negatives: list[str]
    scores: list[float]  # of the positives, then of the negatives; empty where the row has none
    instruction: str
    task: str
    split: str


def _parse_pair(
    where: str, row: dict[str, Any], bad: BadRows, counts: Counter[str], *, default_split: str
) -> _Pair | None:
    """The row as a pair; None, and one bad row more, where it is none."""
    query = text_of(row, "query", where, bad, counts=counts)
    if query is None:
        return None
    positives = row.get("positives", [row["positive"]] if "positive" in row else [])
    negatives = row.get("negatives") or []
    if not isinstance(positives, list) or not isinstance(negatives, list) or not positives:
        bad.refuse(
            where,
            "a pair needs 'positive' (text) or 'positives' (a list of texts); 'negatives' is a "
            "list of texts",
        )
        return None
    texts: dict[str, list[str]] = {"positives": [], "negatives": []}
    for key, values in (("positives", positives), ("negatives", negatives)):
        for value in values:
            clean = text_of({key: value}, key, where, bad, counts=counts)
            if clean is None:
                return None
            texts[key].append(clean)
    if set(texts["positives"]) & set(texts["negatives"]):
        bad.refuse(where, "a negative is equal to a positive")
        return None
    scores = row.get("scores") or []
    expected = len(positives) + len(negatives)
    if (
        not isinstance(scores, list)
        or (scores and len(scores) != expected)
        or not all(is_number(s) for s in scores)
    ):
        bad.refuse(
            where,
            f"'scores' must be {expected} numbers: one per positive, then one per negative, in "
            f"their order",
        )
        return None
    split = row.get("split") or default_split or split_of(query)
    if split not in SPLITS:
        bad.refuse(where, f"split {split!r} is not one of {', '.join(SPLITS)}")
        return None
    own: dict[str, str] = {}
    for key in ("instruction", "task"):
        value = row.get(key)
        if value is not None and not isinstance(value, str):
            bad.refuse(where, f"{key!r} is not text")
            return None
        own[key] = clean_text(value or "", counts)
    return _Pair(
        query=query,
        positives=texts["positives"],
        negatives=texts["negatives"],
        scores=[float(s) for s in scores],
        instruction=own["instruction"],
        task=own["task"],
        split=split,
    )


def _add_pair(
    pair: _Pair,
    add: Callable[[str], str],
    queries: dict[str, Query],
    qrels: dict[str, dict[str, int]],
    *,
    found: Collection,
) -> None:
    # another task, another query
    asked = "\n".join(part for part in (pair.task, pair.instruction, pair.query) if part)
    query_id = f"{pair.split}:{asked}"
    query = Query(query_id, pair.query, pair.split, pair.instruction, pair.task)
    queries.setdefault(query_id, query)
    positives, negatives = (
        [add(text) for text in pair.positives],
        [add(text) for text in pair.negatives],
    )
    qrels.setdefault(query_id, {}).update(dict.fromkeys(positives, 1))
    if negatives:
        known = found.negatives.setdefault(query_id, [])
        known.extend(d for d in dict.fromkeys(negatives) if d not in known)
    if pair.scores:
        found.soft.setdefault(query_id, {}).update(
            zip(positives + negatives, pair.scores, strict=True)
        )
