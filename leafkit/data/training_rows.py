"""Training rows in columns: from a collection's judged queries, from labelled texts, from scored
sentence pairs.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from leafkit.config import LABEL_TASKS, DataConfig, TrainSourceConfig
from leafkit.core.errors import LeafkitError
from leafkit.data.exemplars import pair_exemplars
from leafkit.data.records import SPLITS, Collection, clean_text, same_text
from leafkit.data.sources import (
    BadRows,
    choose_numbers,
    has_raw_rows,
    is_number,
    read_raw_rows,
)

SCORED_TASKS = ("sts", "pair_classification", "bitext")  # whose rows may be two sentences
_COLUMNS = ("queries", "instructions", "tasks", "query_ids", "positives", "negatives", "scores")


@dataclass(slots=True)
class TrainingRows:
    """R rows of one source: ``documents[positives[i]]`` answers query i, ``negatives[i]`` do not.

    Attributes:
        name: of the source.
        queries: (R,) texts, without prompt.
        instructions: (R,) a row's own instruction; "" takes the source's.
        tasks: (R,) a row's own task; "" takes the source's.
        query_ids: (R,) rows of the same query share a number, counted from 0.
        documents: distinct texts.
        positives: (R,) positions in ``documents``.
        negatives: (R,) lists of positions that rows brought or mining found.
        relevant: by query number, every document known to answer it; never a negative.
        scores: (R,) graded scores of the row's positive and negatives, in that order; empty lists
            where rows bring none.
        counts: what reading found and dropped, in words.
    """

    name: str
    queries: list[str] = field(default_factory=list)
    instructions: list[str] = field(default_factory=list)
    tasks: list[str] = field(default_factory=list)
    query_ids: list[int] = field(default_factory=list)
    documents: list[str] = field(default_factory=list)
    positives: list[int] = field(default_factory=list)
    negatives: list[list[int]] = field(default_factory=list)
    relevant: list[frozenset[int]] = field(default_factory=list)
    scores: list[list[float]] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.queries)

    def distinct_queries(self) -> tuple[list[int], list[int]]:
        """The first row of each distinct query, and for each row which of these queries is its."""
        first_row: dict[int, int] = {}
        for row, query in enumerate(self.query_ids):
            first_row.setdefault(query, row)
        numbers = {query: number for number, query in enumerate(first_row)}
        return list(first_row.values()), [numbers[query] for query in self.query_ids]

    def take(self, rows: Sequence[int]) -> TrainingRows:
        """Some of the rows, in the order given; documents and query numbers stay."""
        columns = {name: [getattr(self, name)[i] for i in rows] for name in _COLUMNS}
        return TrainingRows(
            self.name,
            documents=self.documents,
            relevant=self.relevant,
            counts=self.counts,
            **columns,
        )

    def add(
        self,
        query: str,
        instruction: str,
        query_id: int,
        positive: int,
        *,
        negatives: list[int],
        scores: list[float],
        task: str = "",
    ) -> None:
        """One more row."""
        self.queries.append(query)
        self.instructions.append(instruction)
        self.tasks.append(task)
        self.query_ids.append(query_id)
        self.positives.append(positive)
        self.negatives.append(negatives)
        self.scores.append(scores)


def rows_of_collection(name: str, collection: Collection, limit: int = 0) -> TrainingRows:
    """A row per train query and relevant document; none of a query that is a judged one of another
    split too, apart from case and spaces.

    Raises:
        LeafkitError: the collection has no judged train queries.
    """
    texts = [d.full_text for d in collection.documents]
    distinct = {text: i for i, text in enumerate(dict.fromkeys(filter(None, texts)))}
    position = {d.id: distinct[d.full_text] for d in collection.documents if d.full_text}
    counts: Counter[str] = Counter()
    rows = TrainingRows(name, documents=list(distinct))
    judged, num_judged = collection.judged_texts(), 0
    for query, places in collection.pairs("train"):
        if same_text(query.text) in judged:
            num_judged += 1
            continue
        # equal texts are one document, lest a copy of the answer becomes a negative
        documents = list(dict.fromkeys(distinct[texts[i]] for i in places if texts[i]))
        if not documents:
            continue
        given = [position[d] for d in collection.negatives.get(query.id, []) if d in position]
        # a copy of the answer in other letters would teach that it is none
        answers = {same_text(rows.documents[d]) for d in documents} if given else set()
        negatives = [d for d in given if same_text(rows.documents[d]) not in answers]
        counts["negatives that another row calls a positive of the query left out"] += len(
            given
        ) - len(negatives)
        soft = {
            position[d]: score
            for d, score in collection.soft.get(query.id, {}).items()
            if d in position
        }
        query_id = len(rows.relevant)
        rows.relevant.append(frozenset(documents))
        for document in documents:
            candidates = [document, *negatives]
            scores = [soft[c] for c in candidates] if all(c in soft for c in candidates) else []
            rows.add(
                query.text,
                query.instruction,
                query_id,
                document,
                negatives=list(negatives),
                scores=scores,
                task=query.task,
            )
    num_train = sum(query.split == "train" for query in collection.queries)
    counts["train queries without a positive left out"] = (
        num_train - num_judged - len(rows.relevant)
    )
    counts["train queries that are judged queries of another split left out"] = num_judged
    if limit and len(rows) > limit:
        contents = (
            f"{query}\0{rows.documents[positive]}"
            for query, positive in zip(rows.queries, rows.positives, strict=True)
        )
        rows = rows.take(choose_numbers(contents, limit, counts))
    rows.counts = {what: count for what, count in counts.items() if count}
    if not rows:
        raise LeafkitError(
            f"source {name}: {collection.name} has no judged train queries: a teacher cannot be "
            f"trained on it",
            "give rows with query and positives, or take a trained teacher with "
            "teacher.source=model:...",
        )
    return rows


def has_task_rows(config: TrainSourceConfig, data: DataConfig | None = None) -> bool:
    """Whether ``read_task_rows`` reads a source: its task has rows of a form of their own, and its
    first row is no pair of query and positives, which any task may have.

    Raises:
        UsageError: a source of labels has no rows of labels.
        LeafkitError: the source cannot be had.
    """
    if config.task not in (*LABEL_TASKS, *SCORED_TASKS):
        return False
    # whoever reads the rows says what is wrong with one
    bad = BadRows("skip", sys.maxsize, Counter())
    if config.task in SCORED_TASKS and not has_raw_rows(config.uri):
        return False
    _, row = next(iter(read_raw_rows(config.uri, bad, config.limit, data)), ("", {}))
    return "query" not in row


def read_task_rows(
    name: str, config: TrainSourceConfig, data: DataConfig, num_negatives: int, *, seed: int
) -> TrainingRows:
    """Rows of a source that is no collection: labelled texts or scored sentence pairs.

    Args:
        name: of the source.
        config: see ``has_task_rows``.
        data: what to do with bad rows.
        num_negatives: texts of other labels per row, for labelled rows.
        seed: of the pairing.

    Raises:
        UsageError: the source is of no kind that holds such rows.
        LeafkitError: bad rows under on_bad_row=error, or no usable row.
    """
    counts: Counter[str] = Counter()
    bad = BadRows(data.on_bad_row, data.max_bad_rows, counts)
    raw = read_raw_rows(config.uri, bad, config.limit, data)
    if config.task in LABEL_TASKS:
        rows = _labelled(name, raw, bad, counts, num_negatives=num_negatives, seed=seed)
    else:
        rows = _sentences(name, raw, bad, counts, config=config)
    if not rows:
        needed = '{"text", "label"}' if config.task in LABEL_TASKS else '{"s1", "s2", "score"}'
        raise LeafkitError(
            f"{config.uri} gives no training row for task {config.task}", f"rows look like {needed}"
        )
    rows.counts = {what: count for what, count in counts.items() if count} | rows.counts
    return rows


def _clean(row: dict[str, Any], key: str, where: str, bad: BadRows, *, counts: Counter[str]) -> str:
    """The row's text under a key; "" and one bad row more where there is none."""
    value = row.get(key)
    text = clean_text(value, counts) if isinstance(value, str) else ""
    if not text:
        is_text = isinstance(value, str)
        what = "missing" if value is None else "empty" if is_text else "not text"
        bad.refuse(where, f"{key!r} is {what}")
    return text


def _instruction(row: dict[str, Any], where: str, bad: BadRows, counts: Counter[str]) -> str | None:
    """The row's own instruction, "" where it has none; None, and one bad row more, where it is no
    text.
    """
    value = row.get("instruction")
    if value is not None and not isinstance(value, str):
        bad.refuse(where, "'instruction' is not text")
        return None
    return clean_text(value or "", counts)


def _is_train(row: dict[str, Any], where: str, bad: BadRows) -> bool:
    split = row.get("split", "train")
    if split not in (*SPLITS, "dev"):
        bad.refuse(where, f"split {split!r} is not one of {', '.join(SPLITS)}")
    return bool(split == "train")


def _labelled(
    name: str,
    raw: Iterable[tuple[str, dict[str, Any]]],
    bad: BadRows,
    counts: Counter[str],
    *,
    num_negatives: int,
    seed: int,
) -> TrainingRows:
    texts, labels, instructions = [], [], []
    for where, row in raw:
        if not _is_train(row, where, bad):
            continue
        label = row.get("label")
        if label is None or isinstance(label, list | dict) or str(label).strip() == "":
            bad.refuse(where, "'label' is missing")
        elif text := _clean(row, "text", where, bad, counts=counts):
            instruction = _instruction(row, where, bad, counts)
            if instruction is not None:
                texts.append(text)
                labels.append(str(label))
                instructions.append(instruction)
    paired = pair_exemplars(texts, labels, num_negatives, seed)
    rows = TrainingRows(name, documents=list(dict.fromkeys(texts)), counts=dict(paired.counts))
    position = {text: i for i, text in enumerate(rows.documents)}
    same_label: dict[str, set[int]] = {}
    for text, label in zip(texts, labels, strict=True):
        same_label.setdefault(label, set()).add(position[text])
    relevant = {label: frozenset(members) for label, members in same_label.items()}
    for row, positive, negatives in zip(
        paired.rows, paired.positives, paired.negatives, strict=True
    ):
        query_id = len(rows.relevant)
        rows.relevant.append(relevant[labels[row]])
        rows.add(
            texts[row],
            instructions[row],
            query_id,
            position[texts[positive]],
            negatives=[position[texts[n]] for n in negatives if n >= 0],
            scores=[],
        )
    return rows


def _sentences(
    name: str,
    raw: Iterable[tuple[str, dict[str, Any]]],
    bad: BadRows,
    counts: Counter[str],
    *,
    config: TrainSourceConfig,
) -> TrainingRows:
    """Pairs of sentences: those of a score from ``min_score`` on; of pair_classification those of
    label 1; of translations and of rows without either all.
    """
    rows, min_score = TrainingRows(name), config.min_score
    position: dict[str, int] = {}
    query_ids: dict[tuple[str, str], int] = {}
    relevant: list[set[int]] = []
    for where, row in raw:
        if not _is_train(row, where, bad):
            continue
        first, second = (_clean(row, key, where, bad, counts=counts) for key in ("s1", "s2"))
        instruction = _instruction(row, where, bad, counts)
        if instruction is None:
            continue
        score, label = row.get("score"), row.get("label")
        is_scored = score is not None or config.task == "sts"
        number = score if is_number(score) else None
        if is_scored and number is None:
            bad.refuse(where, f"'score' is {score!r}, not a number")
        elif label is not None and config.task == "pair_classification" and label not in (0, 1):
            bad.refuse(where, f"'label' is {label!r}, not 1 (alike) or 0")
        elif first and second and number is not None and number < min_score:
            counts[f"pairs with a score below {min_score:g} left out"] += 1
        elif first and second and config.task == "pair_classification" and label == 0:
            counts["pairs of label 0 left out"] += 1
        elif first and first == second:
            counts["pairs of equal sentences left out"] += 1
        elif first and second:
            document = position.setdefault(second, len(position))
            query = query_ids.setdefault((instruction, first), len(query_ids))
            if query == len(relevant):
                relevant.append(set())
            relevant[query].add(document)
            rows.add(first, instruction, query, document, negatives=[], scores=[])
    rows.documents, rows.relevant = list(position), [frozenset(r) for r in relevant]
    return rows
