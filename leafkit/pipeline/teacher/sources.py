"""The sources of a stage: their rows by task, what their prompts are made of, and the few-shot
examples in them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np

from leafkit.config import INSTRUCTIONS, LABEL_TASKS, StageConfig, TrainSourceConfig, to_plain
from leafkit.core.console import log
from leafkit.core.errors import UsageError
from leafkit.data.prompts import Example, is_symmetric
from leafkit.data.sources import source_fingerprint
from leafkit.data.task_split import split_by_task, strip_prompts
from leafkit.data.training_rows import (
    TrainingRows,
    has_task_rows,
    read_task_rows,
    rows_of_collection,
)
from leafkit.pipeline.corpus import vary_queries
from leafkit.pipeline.teacher.task import Source, StageTask

CORPUS = "corpus"


def source_configs(task: StageTask) -> dict[str, TrainSourceConfig]:
    """The stage's sources; the pairs in memory, else data.corpus, where it names none."""
    if task.config.sources:
        return task.config.sources
    if task.pairs is not None:
        return {task.pairs.name: TrainSourceConfig()}
    return {CORPUS: TrainSourceConfig(uri=task.data.corpus)}


def identify_sources(task: StageTask) -> dict[str, list[Any]]:
    """What decides about the rows, without reading them."""
    return {
        name: [to_plain(source), source_fingerprint(source.uri, task.data)]
        for name, source in source_configs(task).items()
    }


def read_sources(task: StageTask) -> list[Source]:
    """Rows of every source, with what their prompts are made of; few-shot examples are taken out of
    them. A source whose rows are of several tasks becomes one for each of them.

    Raises:
        LeafkitError: a source cannot be read, holds no training row, or rows of an unknown task.
        UsageError: queries hold a prompt already, and the source does not say what to do.
    """
    found = [
        source
        for name, config in source_configs(task).items()
        for source in _read_source(task, name, config)
    ]
    names = Counter(source.name for source in found)
    if twice := [name for name, count in names.items() if count > 1]:
        raise UsageError(
            f"stage {task.name}: {twice[0]!r} is a source, and one task's rows of another source",
            "rename the source",
        )
    return found


def _read_source(task: StageTask, name: str, source: TrainSourceConfig) -> list[Source]:
    config, is_own = task.config, bool(task.config.sources)
    is_of_labels = False
    if is_own and has_task_rows(source, task.data):
        is_of_labels = source.task in LABEL_TASKS
        rows = read_task_rows(
            name, source, task.data, num_negatives=config.mining.num_negatives, seed=task.seed
        )
    elif is_own or task.pairs is None:
        split = "train" if is_own else ""
        collection = task.library.read_collection(source.uri, source.limit, split)
        rows = rows_of_collection(name, collection, source.limit)
    else:
        rows = task.pairs.take(range(len(task.pairs)))
    _take_prompts_out(task, name, source, rows)
    if not is_own:
        rows.queries = vary_queries(rows.queries, config.question_ratio, task.seed)
    num_rows, parts = len(rows), split_by_task(rows, source.task)
    counts, found = Counter(rows.counts), list[Source]()
    for of_task, part in parts.items():
        part.counts = {}
        share = 1.0 if len(parts) == 1 else len(part) / num_rows
        here = Source(
            name if len(parts) == 1 else f"{name}.{of_task}",
            replace(source, task=of_task, weight=source.weight * share),
            part,
            instruction=source.instruction or config.instruction or INSTRUCTIONS[of_task],
            template=config.query_template,
            example_template=config.example_template,
            is_symmetric=is_symmetric(
                of_task,
                source.prompt_on,
                has_label_names=of_task in LABEL_TASKS and not is_of_labels,
            ),
            num_read=len(part),
        )
        report_counts(here, counts if not found else Counter())
        if config.num_examples:
            _take_examples(here, config, task.seed)
        found.append(here)
    return found


def _take_prompts_out(
    task: StageTask, name: str, source: TrainSourceConfig, rows: TrainingRows
) -> None:
    """Refuse or strip prompts that stand in the rows' texts already, as the source says.

    Raises:
        UsageError: there are some, and the source says nothing.
    """
    if source.prompt_in_query == "keep":
        return
    read = len(rows)
    count, first = strip_prompts(rows, task.config.query_template)
    if not count:
        return
    if source.prompt_in_query == "refuse":
        key = f"stages.{task.name}.sources.{name}.prompt_in_query"
        raise UsageError(
            f"source {name}: {count:,} texts of its {read:,} rows hold a prompt already, the first "
            f"is {first[:60]!r}: the template would put another one before it",
            f"{key}=strip makes it the rows' own instruction"
            if task.config.sources
            else 'take it out of the rows, and give it as their "instruction"',
        )
    what = "prompts taken out of texts; those of queries became their instructions"
    rows.counts = rows.counts | {what: count}


def _take_examples(source: Source, config: StageConfig, seed: int) -> None:
    """Move ``num_examples`` rows of different queries from training into the prompt: a row in the
    prompt trains no more, and is shown with its own instruction where it has one.

    Raises:
        UsageError: there are not more rows than that.
    """
    rows = source.rows
    order = np.random.default_rng([seed, len(rows)]).permutation(len(rows))
    chosen: dict[int, int] = {}
    for row in order:
        chosen.setdefault(rows.query_ids[row], int(row))
        if len(chosen) == config.num_examples:
            break
    if len(chosen) < config.num_examples or len(rows) <= len(chosen):
        raise UsageError(
            f"source {source.name}: num_examples={config.num_examples} is not less than its "
            f"{len(rows)} rows",
            "take fewer few-shot examples",
        )
    source.examples = [
        Example(rows.queries[i], rows.documents[rows.positives[i]], rows.instructions[i])
        for i in chosen.values()
    ]
    source.rows = rows.take([i for i in range(len(rows)) if rows.query_ids[i] not in chosen])


def report_counts(source: Source, counts: Counter[str]) -> None:
    """Add what was found in a source's rows to its counts, and say it."""
    found = {what: count for what, count in counts.items() if count}
    source.rows.counts = source.rows.counts | found
    for what, count in found.items():
        log(f"  {source.name}: {what}: {count:,}", style="dim")
