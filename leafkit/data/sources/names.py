"""Names of columns and splits, as other toolkits write them, and ours.

Known are the rows of BEIR, sentence-transformers (pairs, triplets, n-tuples, NLI), FlagEmbedding,
Tevatron, MEDI and question-answer sets such as gooaq.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from leafkit.config import DataConfig
from leafkit.core.artifact import fingerprint
from leafkit.data.sources.bad_rows import BadRows
from leafkit.data.values import Row, is_nan

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "dev": "validation",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
# the first that a row has stands for it
_ALIASES = {
    "query": ("anchor", "question"),
    "positives": ("positive_passages", "pos", "answer", "passage"),
    "negatives": ("negative_passages", "neg", "negative"),
    "positive_ids": ("pos_id", "positive_id"),
    "negative_ids": ("neg_id", "negative_id"),
    "instruction": ("prompt",),
    "s1": ("sentence1",),
    "s2": ("sentence2",),
    "text": ("contents", "content", "passage", "body"),
    "id": ("_id", "docid", "doc_id", "document_id"),
}
_OF_PAIRS = ("positives", "negatives", "positive_ids", "negative_ids", "instruction")
_OF_DOCUMENTS = ("text", "id")
# columns of an n-tuple: negative_1, negative_2, ... of sentence-transformers' mine_hard_negatives
_NUMBERED = re.compile(r"(?P<what>neg|negative|pos|positive)_?(?P<number>\d+)")
_HALVES = {
    "positive": ("pos_scores", "positive_scores", "positive_score"),
    "negative": ("neg_scores", "negative_scores", "negative_score"),
}
_TELLING = re.compile(r"neg|score|label|grade|margin|relevan|^pos", re.IGNORECASE)
_EMPTY: tuple[object, ...] = ("", [], {}, None)


def with_our_names(row: dict[str, Any], columns: Mapping[str, str] | None = None) -> Row:
    """A row under our names; what is there under our name already stays.

    >>> with_our_names({"anchor": "q", "positive": "a", "negative_1": "b", "negative_2": "c"})
    {'query': 'q', 'positive': 'a', 'negatives': ['b', 'c']}

    Args:
        row: as it was read.
        columns: our name -> the row's, as the recipe's ``data.columns`` has them.
    """
    named = _mapped(row, columns or {})
    is_pair = _is_pair(named)
    taken = {}
    for ours, others in _ALIASES.items():
        if ours in (_OF_DOCUMENTS if is_pair else _OF_PAIRS):
            continue
        if ours not in named and not (ours == "positives" and "positive" in named):
            found = next((name for name in others if name in named), None)
            if found is not None:
                taken[found] = ours
    named = {taken.get(name, name): value for name, value in named.items()}
    if is_pair:
        _gather_numbered(named)
        _gather_scores(named)
        if isinstance(negatives := named.get("negatives"), str):
            named["negatives"] = [negatives]
    if isinstance(split := named.get("split"), str):
        named["split"] = SPLIT_NAMES.get(split, split)
    return named


def _mapped(row: dict[str, Any], columns: Mapping[str, str]) -> Row:
    """The row with the user's own names put first; a column that one of them hides is left out."""
    back = {theirs: ours for ours, theirs in columns.items() if theirs in row}
    hidden = set(back.values()) - back.keys()
    return {back.get(key, key): value for key, value in row.items() if key not in hidden}


def _is_pair(row: dict[str, Any]) -> bool:
    if row.keys() & {"query", "anchor"}:
        return True
    return "question" in row and bool(row.keys() & {"positive", *_ALIASES["positives"]})


def _gather_numbered(row: dict[str, Any]) -> None:
    """Put positive_1, negative_1, negative_2, ... into the lists, in the order of their numbers."""
    found = [(key, match) for key in row if (match := _NUMBERED.fullmatch(key))]
    for key, match in sorted(found, key=lambda pair: int(pair[1]["number"])):
        value = row.pop(key)
        if value is None or is_nan(value) or value == "":
            continue  # a row with fewer of them than others
        ours = "negatives" if match["what"].startswith("neg") else "positives"
        if ours == "positives" and "positive" in row:
            row["positives"] = as_list(row.pop("positive"))
        row[ours] = [*as_list(row.get(ours)), value]


def _gather_scores(row: dict[str, Any]) -> None:
    """Join scores of positives and of negatives; those that stand alone stay, and are refused as
    what has no use.
    """
    if "scores" in row:
        return
    halves = {
        half: next((name for name in names if name in row), None) for half, names in _HALVES.items()
    }
    of_positives, of_negatives = halves["positive"], halves["negative"]
    if of_positives is None or (of_negatives is None and as_list(row.get("negatives"))):
        return
    scores = as_list(row.pop(of_positives))
    row["scores"] = scores + (as_list(row.pop(of_negatives)) if of_negatives else [])


def as_list(value: Any) -> list[Any]:
    """A list as it is, nothing as an empty one, anything else as its only item."""
    if value is None or is_nan(value):
        return []
    return value if isinstance(value, list) else [value]


def has_telling_name(column: str) -> bool:
    """Whether a column's name says that it decides about a pair: a negative, a score, a label.

    >>> has_telling_name("hard_neg_3"), has_telling_name("url")
    (True, False)
    """
    return _TELLING.search(column) is not None


class UnusedColumns:
    """Columns that no step reads: each is named once, with the number of its rows.

    Args:
        counts: gets them.
        whose: stands before the name, "of queries " say.
    """

    def __init__(self, counts: Counter[str], whose: str = "") -> None:
        self._counts, self._whose = counts, whose

    def add(self, row: Mapping[str, Any], used: set[str]) -> None:
        """One more row; columns without a value count for nothing."""
        for key in row.keys() - used:
            if row[key] not in _EMPTY and not is_nan(row[key]):
                self._counts[f"column {key!r} {self._whose}is not used"] += 1


@dataclass(frozen=True, slots=True)
class Columns:
    """What the recipe says of columns.

    Attributes:
        ours: our name -> the source's.
        ignored: columns that are left out.
    """

    ours: Mapping[str, str]
    ignored: frozenset[str]

    @classmethod
    def of(cls, data: DataConfig) -> Columns:
        """``data.columns`` and ``data.ignore_columns``."""
        return cls(data.columns, frozenset(data.ignore_columns))

    def fingerprint(self, content: str) -> str:
        """Identity of a source's content read under these names."""
        if not self.ours and not self.ignored:
            return content
        return fingerprint([content, sorted(self.ours.items()), sorted(self.ignored)])

    def rename(
        self, rows: Iterable[tuple[str, dict[str, Any]]], bad: BadRows
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Rows under our names; a name of the recipe's that no row has is counted at the end."""
        seen: set[str] = set()
        for where, row in rows:
            seen.update(row)
            kept = {key: value for key, value in row.items() if key not in self.ignored}
            yield where, with_our_names(kept, self.ours)
        for ours, theirs in self.ours.items():
            if theirs not in seen:
                bad.counts[f"data.columns.{ours}: no row has a column {theirs!r}"] += 1
