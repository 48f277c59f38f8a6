"""Rows of tasks without a search, read from jsonl under the recipe's policy on bad rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from leafkit.config import DataConfig
from leafkit.core.errors import LeafkitError
from leafkit.data.records import clean_text
from leafkit.data.sources import BadRows, is_number, read_raw_rows

SHAPES = {
    "sts": '{"s1", "s2", "score", "split": "test"}',
    "clustering": '{"text", "label", "split": "test"}',
    "classification": '{"text", "label", "split": "train" or "test"}',
}


@dataclass(slots=True)
class Labelled:
    """Texts with their labels."""

    texts: list[str]
    labels: list[str]


class TaskFile:
    """A file of rows.

    Args:
        path: of the jsonl file.
        data: what to do with bad rows.

    Attributes:
        path: of the file.
        counts: rows that were left out or changed, by reason.
    """

    def __init__(self, path: str, data: DataConfig) -> None:
        self.path = path
        self.counts: Counter[str] = Counter()
        self._data = data
        self._bad = BadRows(data.on_bad_row, data.max_bad_rows, self.counts)

    def read_pairs(self) -> tuple[list[str], list[str], list[float]]:
        """Both texts of every test pair, and their scores."""
        first, second, gold = [], [], []
        for where, row in read_raw_rows(f"jsonl:{self.path}", self._bad, data=self._data):
            if self._split(where, row) != "test":
                continue
            texts = [self._text(where, row, key) for key in ("s1", "s2")]
            score = row.get("score")
            if not is_number(score):
                what = "missing" if score is None else f"{score!r}, not a number"
                self._bad.refuse(where, f"'score' is {what}")
            elif all(texts):
                first.append(texts[0])
                second.append(texts[1])
                gold.append(float(score))
        return first, second, gold

    def read_labelled(self, task: str) -> dict[str, Labelled]:
        """Train and test rows; of clustering test rows alone.

        Raises:
            LeafkitError: a bad row under the policy to stop, no row of a split that is needed, or
                one label alone.
        """
        splits = ("test",) if task == "clustering" else ("train", "test")
        rows = {split: Labelled([], []) for split in splits}
        places: list[str] = []  # of the test rows
        for where, row in read_raw_rows(f"jsonl:{self.path}", self._bad, data=self._data):
            split = self._split(where, row)
            if split not in rows:
                continue
            label = row.get("label")
            if not _is_label(label):
                what = "missing" if label is None else f"{label!r}, not text or a whole number"
                self._bad.refuse(where, f"'label' is {what}")
            elif text := self._text(where, row, "text"):
                rows[split].texts.append(text)
                rows[split].labels.append(str(label).strip())
                if split == "test":
                    places.append(where)
        if task == "classification":
            rows["test"] = self._with_known_labels(rows["test"], places, set(rows["train"].labels))
        for split in splits:
            if len(set(rows[split].labels)) < 2:
                lacks = f"one label alone in its {split} rows"
                what = lacks if rows[split].labels else f"no usable {split} row"
                raise LeafkitError(
                    f"{self.path} has {what}: nothing to tell apart",
                    f"rows look like {SHAPES[task]}",
                )
        return rows

    def _with_known_labels(
        self, test: Labelled, places: Sequence[str], known: set[str]
    ) -> Labelled:
        """Without test rows that no probe could get right."""
        kept = Labelled([], [])
        for text, label, where in zip(test.texts, test.labels, places, strict=True):
            if known and label not in known:
                self._bad.refuse(where, f"no train row has the label {label!r}")
            else:
                kept.texts.append(text)
                kept.labels.append(label)
        return kept

    def _split(self, where: str, row: dict[str, Any]) -> str:
        split = row.get("split", "test")
        if not isinstance(split, str):
            self._bad.refuse(where, f"split {split!r} is not text")
            return ""
        return split

    def _text(self, where: str, row: dict[str, Any], key: str) -> str:
        """The row's text under a key; "" and one bad row more where there is none."""
        value = row.get(key)
        text = clean_text(value, self.counts) if isinstance(value, str) else ""
        if not text:
            what = "missing" if value is None else "empty"
            self._bad.refuse(
                where,
                f"{key!r} is {what if value is None or isinstance(value, str) else 'not text'}",
            )
        return text


def _is_label(label: object) -> bool:
    """Text that is not blank, or a whole number."""
    if isinstance(label, bool | float | list | dict) or label is None:
        return False
    return bool(str(label).strip())
