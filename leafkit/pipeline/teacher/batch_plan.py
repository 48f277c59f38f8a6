"""The batches of a stage: which rows stand together, how much of them is one task, and what each
source gave.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from leafkit.config import LABEL_TASKS, StageConfig
from leafkit.core.console import log, show_table
from leafkit.core.errors import UsageError
from leafkit.data.batching import neighbor_batches, random_batches
from leafkit.data.mixture import contribution_table, same_task_share, semi_homogeneous_batches
from leafkit.index.exact import nearest_others
from leafkit.pipeline.teacher.embed_rows import embed_documents
from leafkit.pipeline.teacher.task import StageTask
from leafkit.pipeline.teacher.training_table import StageRows


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """Batches of row numbers, the realised share of same-task rows, and a line per source."""

    batches: list[np.ndarray]
    same_task_share: float
    table: list[dict[str, Any]]


def plan_batches(task: StageTask, rows: StageRows) -> BatchPlan:
    """Rows of each global batch; the same on every process.

    There are ``num_steps`` optimizer steps of as many batches as their gradients are accumulated
    over.

    Raises:
        UsageError: the batch does not divide among the processes, or a source's rows do not fill
            one.
    """
    config = task.config
    task.check_divides("batch_size", config.batch_size)
    if config.loss.anchor_weight > 0:
        task.check_divides("anchor_batch_size", config.anchor_batch_size)
    of_source = [
        np.flatnonzero(rows.source_of_row == number) for number in range(len(rows.sources))
    ]
    weights = [source.config.weight for source in rows.sources]
    makers = None
    if config.batching == "neighbors":
        _check_full(config, rows, of_source)
        makers = [_maker(task, rows, number, members) for number, members in enumerate(of_source)]
    try:
        batches = semi_homogeneous_batches(
            of_source,
            weights,
            config.batch_size,
            config.same_task_ratio,
            num_batches=config.num_steps * task.options.accumulate_grad_batches,
            seed=task.seed,
            make_batches=None
            if makers is None
            else lambda number, count, seed: makers[number](count, seed),
        )
    except ValueError as err:
        counted = ", ".join(
            f"{source.name}: {len(rows_)}"
            for source, rows_ in zip(rows.sources, of_source, strict=True)
        )
        raise UsageError(
            f"batch_size={config.batch_size} cannot be filled from the training pairs there are "
            f"({counted}): {err}",
            "lower batch_size or same_task_ratio, or set the small source's weight to 0",
        ) from err
    share = same_task_share(batches, rows.source_of_row)
    table = _count_sources(rows, weights, of_source, batches)
    if len(rows.sources) > 1:
        log(f"  same-task share of the batches: {share:.3f} (ratio {config.same_task_ratio:g})")
    return BatchPlan(batches, share, table)


def _count_sources(
    rows: StageRows,
    weights: list[float],
    of_source: list[np.ndarray],
    batches: list[np.ndarray],
) -> list[dict[str, Any]]:
    """A line per source: rows read, kept and drawn; shown where there are several."""
    table: list[dict[str, Any]] = contribution_table(
        [source.name for source in rows.sources],
        weights,
        [source.num_read for source in rows.sources],
        [len(members) for members in of_source],
        batches=batches,
        source_of_row=rows.source_of_row,
    )
    for line, source in zip(table, rows.sources, strict=True):
        line |= {"task": source.config.task, "counts": source.rows.counts}
    if len(rows.sources) > 1:
        show_table(
            "what each source gave",
            table,
            ("source", "task", "read", "kept", "drawn", "weight", "share", "repeats"),
        )
    return table


def _check_full(config: StageConfig, rows: StageRows, of_source: list[np.ndarray]) -> None:
    for source, members in zip(rows.sources, of_source, strict=True):
        if source.config.weight > 0 and len(members) < config.batch_size:
            raise UsageError(
                f"batch_size={config.batch_size} is more than the {len(members)} training pairs "
                f"there are in {source.name}",
                f"lower batch_size, set the weight of {source.name} to 0, or take batching=random",
            )


def _maker(
    task: StageTask, rows: StageRows, number: int, members: np.ndarray
) -> Callable[[int, int], list[np.ndarray]]:
    """What makes full batches of one source: rows at random, or rows whose positives are near one
    another.
    """
    source, config = rows.sources[number], task.config
    if source.config.task in LABEL_TASKS or source.config.weight == 0:
        return lambda count, seed: [
            members[b] for b in random_batches(len(members), config.batch_size, seed, count)
        ]
    model = task.load_model(config.neighbor_model)
    vectors = embed_documents(task, task.embedder(model.encoder), model.name, source=source)
    neighbors = nearest_others(
        vectors[np.asarray(source.rows.positives)], min(config.num_neighbors, len(members) - 1)
    )
    return lambda count, seed: [
        members[b] for b in neighbor_batches(neighbors, config.batch_size, seed, count)
    ]
