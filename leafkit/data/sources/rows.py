"""Rows of documents and of pairs to a collection.

A row is either a document, ``{"text", "id"?, "title"?}``, or a pair, ``{"query", "positive" or
"positives" or "positive_ids", "negatives"?, "negative_ids"?, "scores"?, "instruction"?, "task"?,
"split"?}``. Two sentences without a score, ``{"s1", "s2"}``, are a pair of a symmetric
task. A positive that is the text of a document of the source, with or without its title, is that
document.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from leafkit.data.records import Collection, Document, Query
from leafkit.data.sources.bad_rows import BadRows, id_of, optional_text, text_of
from leafkit.data.sources.names import UnusedColumns
from leafkit.data.sources.pairs import PAIR_COLUMNS, Pair, Passage, parse_pair

_DOCUMENT_COLUMNS = {"text", "id", "title", "split"}


def collect_rows(
    name: str,
    rows: Iterable[tuple[str, dict[str, Any]]],
    bad: BadRows,
    counts: Counter[str],
    *,
    default_split: str,
    is_sample: bool = False,
) -> Collection:
    """The collection that rows form.

    Args:
        name: of the collection.
        rows: each with where it stands, under our names.
        bad: what to do with those that are none.
        counts: gets what was merged, added and not used.
        default_split: of pairs that state none; "" lets a hash of the query decide.
        is_sample: rows were left out: pairs of ids that are not there are left out, too, and
            counted.

    Raises:
        LeafkitError: a row is bad and the policy is to stop.
    """
    given: list[tuple[str, str, str]] = []  # id, title, text
    ids: set[str] = set()
    pairs: list[Pair] = []
    unused = UnusedColumns(counts)
    for where, row in rows:
        if "s1" in row and "s2" in row and not {"query", "text"} & row.keys():
            if row.get("score") is not None:
                bad.refuse(
                    where,
                    "a scored pair of sentences: such rows train with task=sts of their source, "
                    "and are measured by bench.tasks=[sts:PATH]",
                )
                continue
            row = {"task": "sts"} | row
            row |= {"query": row.pop("s1"), "positive": row.pop("s2")}
        if "query" in row:
            pair = parse_pair(where, row, bad, counts, default_split=default_split)
            if pair is not None:
                pairs.append(pair)
                unused.add(row, PAIR_COLUMNS)
            continue
        document = _parse_document(where, row, bad, counts)
        if document is None:
            continue
        if document[0] in ids:
            bad.refuse(where, f"id {document[0]!r} is used twice")
            continue
        ids.update({document[0]} - {""})
        given.append(document)
        unused.add(row, _DOCUMENT_COLUMNS)
    ids.update(p.id for pair in pairs for p in (*pair.positives, *pair.negatives) if p.id)
    documents = _Documents(given, ids, counts)
    found = Collection(name, [])
    queries: dict[str, Query] = {}
    for pair in pairs:
        _add_pair(pair, documents, queries, bad, found=found, is_sample=is_sample)
    found.documents, found.queries = list(documents.by_id.values()), list(queries.values())
    for what, count in documents.counts.items():
        counts[what] += count
    return found


def _parse_document(
    where: str, row: dict[str, Any], bad: BadRows, counts: Counter[str]
) -> tuple[str, str, str] | None:
    """Id, title and text; None, and one bad row more, where there is no text."""
    if "text" not in row:
        bad.refuse(
            where,
            f"'text' is missing; its columns are {', '.join(row)}",
            "name the columns of documents with data.columns.text=NAME, those of pairs with "
            "data.columns.query=NAME data.columns.positive=NAME",
        )
        return None
    text = text_of(row, "text", where, bad, counts=counts)
    title = optional_text(row, "title", where, bad, counts=counts)
    identity = id_of(row, "id", where, bad, counts=counts)
    if text is None or title is None or identity is None:
        return None
    return identity, title, text


class _Documents:
    """The documents of a source, found by id and by text.

    Args:
        given: id ("" where there is none), title and text of the rows that are documents.
        ids: that no other document may be given.
        counts: gets the rows that are copies of others.
    """

    def __init__(
        self, given: Iterable[tuple[str, str, str]], ids: set[str], counts: Counter[str]
    ) -> None:
        self.by_id: dict[str, Document] = {}
        self.counts: Counter[str] = Counter()
        self._ids = ids
        self._by_full: dict[str, str] = {}
        self._by_text: dict[str, list[str]] = {}
        for identity, title, text in given:
            if not identity and f"{title} {text}".strip() in self._by_full:
                counts["duplicate documents dropped"] += 1
            else:
                self._add(identity, title, text)
        self._has_rows = bool(self.by_id)

    def _add(self, identity: str, title: str, text: str) -> str:
        number = len(self.by_id)
        while not identity or (identity in self.by_id):
            identity = f"d{number}"
            number += 1
            if identity in self._ids:
                identity = ""
        document = Document(identity, text, title)
        self.by_id[identity] = document
        self._by_full.setdefault(document.full_text, identity)
        self._by_text.setdefault(text, []).append(identity)
        return identity

    def find(self, passage: Passage) -> str:
        """The id of a passage's document, which is added where it is none yet; "" where its id is
        none of the source.

        Raises:
            ValueError: its id is that of another text.
        """
        if passage.id:
            known = self.by_id.get(passage.id)
            if known is None:
                return self._add(passage.id, passage.title, passage.text) if passage.text else ""
            if passage.text not in ("", known.text, known.full_text):
                raise ValueError(f"id {passage.id!r} is that of another text")
            return passage.id
        full = f"{passage.title} {passage.text}".strip()
        if full in self._by_full:
            return self._by_full[full]
        same = self._by_text.get(passage.text, []) if not passage.title else []
        if same:
            self.counts["texts of pairs that several documents have (the first is taken)"] += (
                len(same) > 1
            )
            return same[0]
        self.counts["texts of pairs that are none of the documents, added"] += self._has_rows
        return self._add("", passage.title, passage.text)


def _add_pair(
    pair: Pair,
    documents: _Documents,
    queries: dict[str, Query],
    bad: BadRows,
    *,
    found: Collection,
    is_sample: bool,
) -> None:
    passages = [*pair.positives, *pair.negatives]
    strangers = [p.id for p in passages if p.id and not p.text and p.id not in documents.by_id]
    if strangers and is_sample:
        documents.counts["pairs with a document outside the sample left out"] += 1
        return
    if strangers:
        bad.refuse(pair.where, f"it names document {strangers[0]!r}, which is in no row")
        return
    try:
        ids = [documents.find(passage) for passage in passages]
    except ValueError as err:
        bad.refuse(pair.where, str(err))
        return
    positives, negatives = ids[: len(pair.positives)], ids[len(pair.positives) :]
    if set(positives) & set(negatives):
        bad.refuse(pair.where, "a negative is equal to a positive")
        return
    # another task, another query
    asked = "\n".join(part for part in (pair.task, pair.instruction, pair.query) if part)
    query_id = f"{pair.split}:{asked}"
    query = Query(query_id, pair.query, pair.split, pair.instruction, pair.task)
    queries.setdefault(query_id, query)
    found.qrels.setdefault(query_id, {}).update(dict.fromkeys(positives, 1))
    if negatives:
        known = found.negatives.setdefault(query_id, [])
        known.extend(d for d in dict.fromkeys(negatives) if d not in known)
    if pair.scores:
        soft = found.soft.setdefault(query_id, {})
        for document, score in zip(ids, pair.scores, strict=True):
            is_other = soft.setdefault(document, score) != score
            documents.counts["scores of a pair given twice (the first is taken)"] += is_other
