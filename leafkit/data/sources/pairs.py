"""Rows of a query with its positives and negatives, in the forms that toolkits write."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from leafkit.data.records import SPLITS, split_of
from leafkit.data.sources.bad_rows import BadRows, id_of, optional_text, text_of
from leafkit.data.sources.names import as_list, has_telling_name
from leafkit.data.values import Row, describe, is_number

PAIR_COLUMNS = {
    "query",
    "positive",
    "positives",
    "negatives",
    "positive_ids",
    "negative_ids",
    "scores",
    "instruction",
    "task",
    "split",
}
# what `leafkit mine` notes beside the rows that it writes: where its model ranked their texts
MINING_COLUMNS = {"positive_rank", "positive_score", "negative_ranks", "negative_scores"}
_NEEDED = (
    "a pair needs 'positive' (text), 'positives' (a list of texts) or 'positive_ids' (ids of "
    "documents)"
)


@dataclass(frozen=True, slots=True)
class Passage:
    """A positive or a negative: a text, an id, or both."""

    text: str
    title: str = ""
    id: str = ""


@dataclass(frozen=True, slots=True)
class Pair:
    """One good pair row.

    Attributes:
        where: it stands.
        query: its text.
        positives: at least one.
        negatives: none of them a positive.
        scores: of the positives, then of the negatives; empty where the row has none.
        instruction: its own; often "".
        task: likewise.
        split: train, validation or test.
    """

    where: str
    query: str
    positives: list[Passage]
    negatives: list[Passage] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    instruction: str = ""
    task: str = ""
    split: str = "train"


def parse_pair(
    where: str, row: dict[str, Any], bad: BadRows, counts: Counter[str], *, default_split: str
) -> Pair | None:
    """The row as a pair; None, and one bad row more, where it is none."""
    known = PAIR_COLUMNS | MINING_COLUMNS
    telling = [key for key in row if key not in known and has_telling_name(key)]
    telling = [key for key in telling if as_list(row[key])]
    if telling:
        bad.refuse(
            where,
            f"column {telling[0]!r} has no use in a pair, though its name says that it decides",
            "name columns with data.columns.OURS=THEIRS, or leave them out with "
            f"data.ignore_columns=[{','.join(telling)}]",
        )
        return None
    row = _split_medi(row, counts)
    query = text_of(row, "query", where, bad, counts=counts)
    instruction = optional_text(row, "instruction", where, bad, counts=counts)
    task = optional_text(row, "task", where, bad, counts=counts)
    split = optional_text(row, "split", where, bad, counts=counts)
    if query is None or instruction is None or task is None or split is None:
        return None
    split = split or default_split or split_of(query)
    if split not in SPLITS:
        bad.refuse(where, f"split {split!r} is not one of {', '.join(SPLITS)}")
        return None
    if "positives" not in row:
        row = {**row, "positives": as_list(row.get("positive"))}
    found = [_passages(row, what, where, bad, counts=counts) for what in ("positives", "negatives")]
    positives, negatives = found
    if positives is None or negatives is None:
        return None
    if not positives:
        bad.refuse(where, f"{_NEEDED}; its columns are {', '.join(row)}")
        return None
    scores = _scores(row, where, bad, len(positives) + len(negatives))
    if {_same(p) for p in positives} & {_same(n) for n in negatives}:
        bad.refuse(where, "a negative is equal to a positive")
        return None
    return (
        None
        if scores is None
        else Pair(
            where=where,
            query=query,
            positives=positives,
            negatives=negatives,
            scores=scores,
            instruction=instruction,
            task=task,
            split=split,
        )
    )


def _same(passage: Passage) -> tuple[str, str]:
    return ("text", passage.text) if passage.text else ("id", passage.id)


def _split_medi(row: dict[str, Any], counts: Counter[str]) -> Row:
    """A row of MEDI's, in which texts are [instruction, text], as ours. Documents have instructions
    there too, which have no place here: they are counted.
    """
    query = row.get("query")
    is_old = _is_instructed(query)
    found = dict(row)
    if is_old and isinstance(query, list):
        found["query"] = query[1]
        if "instruction" not in row:
            found["instruction"] = query[0].strip().rstrip(":")
    for key in ("positive", "positives", "negatives"):
        values = row.get(key)
        if is_old and _is_instructed(values):
            values = [values]
        if isinstance(values, list) and values and all(map(_is_instructed, values)):
            counts["instructions of documents left out"] += sum(bool(v[0].strip()) for v in values)
            found[key] = [value[1] for value in values]
    if "positive" in found and isinstance(found["positive"], list):
        found["positives"] = found.pop("positive")
    return found


def _is_instructed(value: object) -> bool:
    return (
        isinstance(value, list) and len(value) == 2 and all(isinstance(part, str) for part in value)
    )


def _passages(
    row: dict[str, Any], key: str, where: str, bad: BadRows, *, counts: Counter[str]
) -> list[Passage] | None:
    """The positives or negatives of a row; None, and one bad row more, where one is none."""
    values = as_list(row.get(key))
    id_key = f"{key.removesuffix('s')}_ids"
    ids = as_list(row.get(id_key))
    if values and ids and len(values) != len(ids):
        bad.refuse(where, f"there are {len(values)} {key!r} and {len(ids)} {id_key!r}")
        return None
    names: list[str] = []
    for value in ids:
        name = id_of({id_key: value}, id_key, where, bad, counts=counts)
        if not name:
            if name == "":
                bad.refuse(where, f"an id in {id_key!r} is empty")
            return None
        names.append(name)
    if not values:
        return [Passage("", id=name) for name in names]
    found: list[Passage] = []
    for value, name in zip(values, names or [""] * len(values), strict=True):
        passage = _passage(value, key, where, bad, counts=counts)
        if passage is None:
            return None
        found.append(Passage(passage.text, passage.title, name or passage.id))
    return found


def _passage(
    value: Any, key: str, where: str, bad: BadRows, *, counts: Counter[str]
) -> Passage | None:
    if isinstance(value, dict) and "text" in value:  # Tevatron's
        text, title = (
            optional_text(value, part, where, bad, counts=counts) for part in ("text", "title")
        )
        name = next((part for part in ("docid", "_id", "id") if part in value), "docid")
        identity = id_of(value, name, where, bad, counts=counts)
        if text is None or title is None or identity is None:
            return None
        if not text and not title:
            bad.refuse(where, f"a text in {key!r} is empty")
            return None
        return Passage(text, title, identity)
    if isinstance(value, dict):
        bad.refuse(where, f"{key!r} has what is {describe(value)}")
        return None
    clean = text_of({key: value}, key, where, bad, counts=counts)
    return None if clean is None else Passage(clean)


def _scores(row: dict[str, Any], where: str, bad: BadRows, expected: int) -> list[float] | None:
    """The numbers under 'scores', none where there are none; None, and one bad row more, where they
    are no scores.
    """
    scores = row.get("scores")
    scores = as_list(scores) if scores is None or scores != scores else scores
    if isinstance(scores, list) and (not scores or len(scores) == expected):
        numbers = [score for score in scores if is_number(score)]
        if len(numbers) == len(scores):
            return [float(score) for score in numbers]
    bad.refuse(
        where,
        f"'scores' must be {expected} numbers: one per positive, then one per negative, in their "
        "order",
    )
    return None
