"""Texts of the same label as positives, texts of other labels as negatives, for classification and
clustering rows.

KaLM-Embedding V2 (arXiv 2506.20923) reports clustering 64.7 -> 73.1 for it, against label texts as
positives.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Exemplars:
    """R rows out of n labelled texts; all numbers are positions of texts.

    Attributes:
        rows: (R,) the anchors, ascending.
        positives: (R,) another text of the anchor's label; every text is used at most once.
        negatives: (R, m) texts of other labels; -1 where there are too few.
        counts: what was left out, in words.
    """

    rows: np.ndarray
    positives: np.ndarray
    negatives: np.ndarray
    counts: dict[str, int]


def pair_exemplars(
    texts: Sequence[str], labels: Sequence[str], num_negatives: int, seed: int
) -> Exemplars:
    """Pair every text with another of its label, and with texts of other labels.

    Positives go round the label's texts in random order, so that each is the positive of one other.
    Copies of a text are never paired: they stand together in the round, and the step is as long as
    the longest run of copies. Where one text makes up more than half of a label's, its surplus
    copies are left out, as are labels with one text alone.

    Negatives come from different labels while there are enough, a random text of each; none equals
    the anchor or its positive, which the same text under two labels would.

    Args:
        texts: (n,).
        labels: (n,) compared as strings.
        num_negatives: m.
        seed: of everything random here.

    Raises:
        ValueError: texts and labels differ in number, or ``num_negatives`` is below 0.
    """
    if len(texts) != len(labels):
        raise ValueError(f"{len(texts)} texts with {len(labels)} labels")
    if num_negatives < 0:
        raise ValueError(f"num_negatives {num_negatives} is below 0")
    generator = np.random.default_rng(seed)
    text_number: dict[str, int] = {}
    text_of = np.array(
        [text_number.setdefault(text, len(text_number)) for text in texts], dtype=np.int64
    )
    members: dict[str, list[int]] = {}
    for row, label in enumerate(labels):
        members.setdefault(label, []).append(row)
    of_label = [
        generator.permutation(np.asarray(rows, dtype=np.int64)) for rows in members.values()
    ]
    positive = np.full(len(texts), -1, dtype=np.int64)
    alone = surplus = 0
    for rows in of_label:
        round_, step = _round_of(rows, text_of)
        positive[round_] = np.roll(round_, -step)
        left_out = len(rows) - len(round_)
        alone += left_out if not len(round_) else 0
        surplus += left_out if len(round_) else 0
    kept = np.flatnonzero(positive >= 0)
    label_of = np.empty(len(texts), dtype=np.int64)
    for number, rows in enumerate(of_label):
        label_of[rows] = number
    negatives = np.full((len(kept), num_negatives), -1, dtype=np.int64)
    for place, row in enumerate(kept.tolist()):
        taboo = {int(text_of[row]), int(text_of[positive[row]])}
        found = _others(
            int(label_of[row]), of_label, text_of, taboo, count=num_negatives, generator=generator
        )
        negatives[place, : len(found)] = found
    counts = {
        "rows whose label has no other text left out": alone,
        "copies of a text that makes up most of its label left out": surplus,
        "rows with too few texts of other labels": int((negatives < 0).any(axis=1).sum()),
    }
    return Exemplars(
        kept, positive[kept], negatives, {what: count for what, count in counts.items() if count}
    )


def _round_of(rows: np.ndarray, text_of: np.ndarray) -> tuple[np.ndarray, int]:
    """A label's shuffled rows in an order in which the row ``step`` places on has another text;
    empty where there is none.

    Copies stand together, the longest run has ``step`` of them, and step <= n / 2: one cannot step
    from a run into itself.
    """
    _, first, group, copies = np.unique(
        text_of[rows], return_index=True, return_inverse=True, return_counts=True
    )
    if len(copies) < 2:
        return rows[:0], 0
    most = int(copies.argmax())
    rest = int(copies.sum() - copies[most])
    if copies[most] > rest:
        surplus = np.flatnonzero(group == most)[rest:]
        rows, group = np.delete(rows, surplus), np.delete(group, surplus)
    step = min(int(copies[most]), rest)
    return rows[np.argsort(first[group], kind="stable")], step


def _others(
    label: int,
    of_label: Sequence[np.ndarray],
    text_of: np.ndarray,
    taboo: set[int],
    *,
    count: int,
    generator: np.random.Generator,
) -> list[int]:
    """Up to ``count`` rows of other labels with different texts: a row per label, then a second one
    per label, and so on.
    """
    found: list[int] = []
    taken = set(taboo)
    visited: list[Iterator[int]] = []
    for other in _random_order(len(of_label), count + 1, generator):
        if len(found) == count:
            break
        if other != label:
            visited.append(_from_anywhere(of_label[other], generator))
            _take_next(visited[-1], text_of, taken, found)
    while visited and len(found) < count:
        visited = [
            rows
            for rows in visited
            if len(found) < count and _take_next(rows, text_of, taken, found)
        ]
    return found


def _random_order(count: int, few: int, generator: np.random.Generator) -> Iterator[int]:
    """0 to count - 1 in random order; the first few cost nothing in proportion to ``count``."""
    first = generator.choice(count, size=min(few, count), replace=False)
    yield from first.tolist()
    yield from generator.permutation(np.setdiff1d(np.arange(count), first)).tolist()


def _from_anywhere(rows: np.ndarray, generator: np.random.Generator) -> Iterator[int]:
    start = int(generator.integers(len(rows)))
    return (int(rows[(start + i) % len(rows)]) for i in range(len(rows)))


def _take_next(rows: Iterator[int], text_of: np.ndarray, taken: set[int], found: list[int]) -> bool:
    """Move the next row whose text is not taken to ``found``; False where there is none."""
    for row in rows:
        if (text := int(text_of[row])) not in taken:
            taken.add(text)
            found.append(row)
            return True
    return False
