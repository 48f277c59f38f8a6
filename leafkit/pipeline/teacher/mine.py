"""Hard negatives and the ranking-consistency filter of a stage's rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from leafkit.config import LABEL_TASKS, MiningConfig
from leafkit.core.console import log
from leafkit.core.errors import UsageError
from leafkit.data.vector_store import hash_texts
from leafkit.mining.hard_negatives import Mined, Rows, mine
from leafkit.pipeline.teacher.embed_rows import embed_documents, embed_queries
from leafkit.pipeline.teacher.task import MinedRows, NamedModel, Source, StageTask


def mine_sources(task: StageTask, sources: Sequence[Source]) -> None:
    """Search each source's documents with the mining model; rows get negatives, inconsistent rows
    go.

    Rows of labels keep the negatives of other labels that they have: a search would bring texts of
    the same label.

    Raises:
        UsageError: no row of a source is left.
    """
    settings = task.config.mining
    if not settings.model:
        for source in sources:
            _cap_given(source, settings)
        return
    model = task.load_model(settings.model)
    for source in sources:
        if source.config.task not in LABEL_TASKS:
            apply_mined(source, task.library.mine(task, source, model), settings)
        finish(source, settings)


def mine_source(task: StageTask, source: Source, model: NamedModel) -> Mined:
    """What one search over a source's documents finds for its rows."""
    return prepare_search(task, source, model)()


def prepare_search(task: StageTask, source: Source, model: NamedModel) -> Callable[[], Mined]:
    """Embed a source's queries and documents, in which all processes of a launch take part, and
    return the search, which one of them can do for all.
    """
    rows, embedder = source.rows, task.embedder(model.encoder)
    queries, query_of_row = embed_queries(task, embedder, model.name, source=source)
    documents = embed_documents(task, embedder, model.name, source=source)
    keys = hash_texts(
        [f"{rows.queries[i]}\0{rows.documents[rows.positives[i]]}" for i in range(len(rows))]
    )
    wanted = Rows(
        queries=query_of_row,
        positives=np.array(rows.positives),
        relevant=[rows.relevant[q] for q in dict.fromkeys(rows.query_ids)],
        keys=keys,
    )
    return lambda: mine(queries, documents, wanted, task.config.mining, seed=task.seed)


def apply_mined(source: Source, mined: MinedRows, settings: MiningConfig) -> None:
    """Add the negatives that were found behind those that rows brought; drop inconsistent rows."""
    rows, before = source.rows, len(source.rows)
    for i, found in enumerate(mined.negatives):
        room = max(0, settings.num_negatives - len(rows.negatives[i]))
        new = [int(d) for d in found if d >= 0 and int(d) not in rows.negatives[i]][:room]
        rows.negatives[i] = [*rows.negatives[i], *new][: settings.num_negatives or None]
        if not new:
            # else they are of fewer candidates, and refused
            rows.scores[i] = rows.scores[i][: 1 + len(rows.negatives[i])]
    source.rows = rows.take(np.flatnonzero(mined.kept).tolist())
    if before > len(source.rows):
        what = f"rows whose positive is not among the top {settings.filter_rank}"
        source.rows.counts = source.rows.counts | {what: before - len(source.rows)}
        log(f"  {source.name}: {before - len(source.rows):,} of {before:,} {what} left out")


def finish(source: Source, settings: MiningConfig) -> None:
    """Count, and where asked drop, rows with fewer negatives than wanted; never fill them.

    Raises:
        UsageError: no row is left.
    """
    rows, wanted = source.rows, settings.num_negatives
    if not len(rows):
        raise UsageError(
            f"source {source.name}: no row's positive is among the top {settings.filter_rank}",
            "raise mining.filter_rank, take a better mining.model, or look at the rows",
        )
    short = [i for i in range(len(rows)) if len(rows.negatives[i]) < wanted]
    if not short:
        return
    what = f"rows with fewer than {wanted} hard negatives"
    kept = settings.on_shortfall == "keep"
    rows.counts = rows.counts | {f"{what} {'kept' if kept else 'left out'}": len(short)}
    log(
        f"  {source.name}: {len(short):,} of {len(rows):,} {what} "
        f"{'kept with those found' if kept else 'left out'}"
    )
    if not kept:
        is_short = set(short)
        source.rows = rows.take([i for i in range(len(rows)) if i not in is_short])
        if not len(source.rows):
            raise UsageError(
                f"source {source.name}: no row has {wanted} hard negatives",
                "widen mining.first_rank and last_rank, loosen its margins, or set "
                "mining.on_shortfall=keep",
            )


def _cap_given(source: Source, settings: MiningConfig) -> None:
    """Rows that bring more negatives than wanted keep the first ones."""
    limit, rows = settings.num_negatives, source.rows
    if limit and any(len(given) > limit for given in rows.negatives):
        rows.negatives = [given[:limit] for given in rows.negatives]
        rows.scores = [scores[: limit + 1] for scores in rows.scores]
    finish(source, settings)
