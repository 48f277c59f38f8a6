"""Rows of several tasks apart: each task has its own prompt, its own negatives, its own batches."""

from __future__ import annotations

from collections import Counter

from leafkit.config import AUTO_TASK, TASKS
from leafkit.core.errors import LeafkitError
from leafkit.data.prompts import SYMMETRIC_TASKS, find_prompt
from leafkit.data.training_rows import TrainingRows

_USUAL = "retrieval"  # of rows that say no task


def split_by_task(rows: TrainingRows, task: str) -> dict[str, TrainingRows]:
    """The rows by their task, asymmetric tasks first; where all are of one task, as they are.

    Documents go to the tasks whose rows name them. Those that no row names are candidates of the
    first asymmetric task.

    >>> rows = TrainingRows("a", documents=["b", "d"], relevant=[frozenset({0}), frozenset({1})])
    >>> rows.add("a", "", 0, 0, [], [])
    >>> rows.add("c", "", 1, 1, [], [], task="sts")
    >>> {task: (part.queries, part.documents) for task, part in split_by_task(rows, "auto").items()}
    {'retrieval': (['a'], ['b']), 'sts': (['c'], ['d'])}

    Args:
        rows: of one source; counts are left to the first part.
        task: of the source: auto takes each row's own, any other overrules it, which is counted.

    Raises:
        LeafkitError: a row's task is of no known name.
    """
    if task != AUTO_TASK:
        others = sum(own not in ("", task) for own in rows.tasks)
        if others:
            what = f"rows of another task trained as {task}, which the source says"
            rows.counts = rows.counts | {what: others}
        return {task: rows}
    unknown = Counter(own for own in rows.tasks if own and own not in TASKS)
    if unknown:
        name, count = unknown.most_common(1)[0]
        raise LeafkitError(
            f"source {rows.name}: {count:,} rows are of task {name!r}, which is not one of "
            f"{', '.join(TASKS)}",
            f"correct the rows' task, or set that of the source {rows.name}, which holds for all "
            f"its rows",
        )
    members: dict[str, list[int]] = {}
    for row, own in enumerate(rows.tasks):
        members.setdefault(own or _USUAL, []).append(row)
    if len(members) < 2:
        return {next(iter(members), _USUAL): rows}
    order = sorted(members, key=lambda name: name in SYMMETRIC_TASKS)
    named = {name: _named(rows, members[name]) for name in order}
    by_none = set(range(len(rows.documents))).difference(*named.values())
    return {
        name: _part(rows, members[name], named[name] | (by_none if not number else set()))
        for number, name in enumerate(order)
    }


def _named(rows: TrainingRows, members: list[int]) -> set[int]:
    """Documents that some of the rows bring along, as positives, negatives or known answers."""
    found: set[int] = set()
    for i in members:
        found.add(rows.positives[i])
        found.update(rows.negatives[i])
        found.update(rows.relevant[rows.query_ids[i]])
    return found


def _part(rows: TrainingRows, members: list[int], documents: set[int]) -> TrainingRows:
    """Some rows with their own documents, numbered anew in their old order."""
    kept = sorted(documents)
    number = {old: new for new, old in enumerate(kept)}
    part = rows.take(members)
    part.documents = [rows.documents[d] for d in kept]
    part.positives = [number[d] for d in part.positives]
    part.negatives = [[number[d] for d in given] for given in part.negatives]
    own = set(part.query_ids)
    part.relevant = [
        frozenset(number[d] for d in known) if query in own else frozenset()
        for query, known in enumerate(rows.relevant)
    ]
    return part


def strip_prompts(rows: TrainingRows, template: str) -> tuple[int, str]:
    """Take prompts out of the texts that hold one already; a query's becomes its row's instruction.

    Args:
        rows: changed in place.
        template: of the prompt that training will put before the queries.

    Returns:
        How many queries and documents held one, and the first of them.
    """
    count, first = 0, ""
    for i, query in enumerate(rows.queries):
        if (found := find_prompt(query, template)) is not None:
            instruction, rows.queries[i] = found
            rows.instructions[i] = rows.instructions[i] or instruction
            count, first = count + 1, first or query
    documents = list(rows.documents)  # other stages may share the list
    for d, document in enumerate(documents):
        if (found := find_prompt(document, template)) is not None:
            documents[d] = found[1]
            count, first = count + 1, first or document
    rows.documents = documents
    return count, first
