"""Hard negatives and the ranking-consistency filter of a stage's rows, each source an artifact that
can be read on its own.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from leafkit.config.schema import LABEL_TASKS, StageConfig, to_plain
from leafkit.core.artifact import fingerprint
from leafkit.core.checkpoint_layout import MINED, MINED_ARRAYS_FILE, MINED_ROWS_FILE
from leafkit.core.console import log
from leafkit.core.errors import UsageError
from leafkit.core.method import method_of
from leafkit.data.vector_store import VectorStore, hash_texts
from leafkit.embedders.transformer import TransformerEmbedder
from leafkit.mining.hard_negatives import Mined, Rows, mine
from leafkit.pipeline.embed import load_vectors
from leafkit.pipeline.run import Run
from leafkit.pipeline.teacher.start_models import Named, load_named
from leafkit.pipeline.teacher.training_table import Source

_ARRAYS = ("negatives", "ranks", "scores", "positive_ranks", "positive_scores", "kept")


@dataclass(frozen=True, slots=True)
class MiningInputs:
    """What decides about the hard negatives of one source."""

    rows: str  # fingerprint of the rows
    model: str  # identity of the mining model
    mining: dict[str, Any]
    seed: int
    tokens: list[int]  # cuts of queries and documents
    precision: str


def mine_sources(run: Run, stage: str, config: StageConfig, sources: list[Source]) -> list[Path]:
    """Search each source's documents with the mining model; rows get negatives, inconsistent rows
    go.

    Rows of labels keep the negatives of other labels that they have: a search would bring texts of
    the same label.

    Returns:
        The folders of the artifacts.
    """
    if not config.mining.model:
        for source in sources:
            _cap_given(source, config)
        return []
    model = load_named(run, config.mining.model, config.init)
    embedder = TransformerEmbedder(model.encoder, run.device, run.precision)
    for source in sources:
        if source.config.task in LABEL_TASKS:
            _finish(source, config)
    return [
        _mine(run, stage, config, source, model, embedder)
        for source in sources
        if source.config.task not in LABEL_TASKS
    ]


def load_query_vectors(
    run: Run, embedder: TransformerEmbedder, name: str, source: Source, texts: list[str]
) -> VectorStore:
    """Vectors of a source's queries, with the model's own prompt for that source, else its query
    prompt.
    """
    role = source.name if source.name in embedder.encoder.spec.prompts else "query"
    return load_vectors(
        run,
        embedder,
        name,
        texts,
        role,
        run.recipe.data.max_query_tokens,
        f"{source.name} train queries",
    )


def _cap_given(source: Source, config: StageConfig) -> None:
    """Rows that bring more negatives than wanted keep the first ones."""
    limit = config.mining.num_negatives
    rows = source.rows
    if limit and any(len(given) > limit for given in rows.negatives):
        rows.negatives = [given[:limit] for given in rows.negatives]
        rows.scores = [scores[: limit + 1] for scores in rows.scores]
    _finish(source, config)


def _mine(
    run: Run,
    stage: str,
    config: StageConfig,
    source: Source,
    model: Named,
    embedder: TransformerEmbedder,
) -> Path:
    rows, settings = source.rows, config.mining
    folder = run.folder / MINED / stage / source.name
    data = run.recipe.data
    columns = [
        rows.queries,
        rows.query_ids,
        rows.documents,
        rows.positives,
        rows.negatives,
        [sorted(r) for r in rows.relevant],
    ]
    inputs = MiningInputs(
        rows=fingerprint(columns),
        model=model.identity,
        mining=to_plain(settings),
        seed=run.recipe.seed,
        tokens=[data.max_query_tokens, data.max_document_tokens],
        precision=str(run.precision),
    )

    def work(metrics: dict[str, Any]) -> Mined:
        texts, query_of_row = rows.distinct_queries()
        queries = load_query_vectors(run, embedder, model.name, source, texts)
        documents = load_vectors(
            run,
            embedder,
            model.name,
            rows.documents,
            "document",
            data.max_document_tokens,
            f"{source.name} documents",
        )
        keys = hash_texts(
            [f"{rows.queries[i]}\0{rows.documents[rows.positives[i]]}" for i in range(len(rows))]
        )
        found = mine(
            queries,
            documents,
            Rows(
                np.array(query_of_row),
                np.array(rows.positives),
                [rows.relevant[q] for q in dict.fromkeys(rows.query_ids)],
                keys,
            ),
            settings,
            seed=run.recipe.seed,
        )
        metrics.update(rows=len(rows), kept=int(found.kept.sum()), counts=found.counts)
        return found

    def save(found: Mined, draft: Path) -> None:
        np.savez(draft / MINED_ARRAYS_FILE, **{name: getattr(found, name) for name in _ARRAYS})
        _write_rows(source, found, draft / MINED_ROWS_FILE)

    run.step(
        name=f"mine {stage} {source.name}",
        folder=folder,
        inputs=inputs,
        method=method_of(_mine, TransformerEmbedder),
        work=work,
        save=save,
        on_every_process=True,
    )
    with np.load(folder / MINED_ARRAYS_FILE, allow_pickle=False) as arrays:
        kept, negatives = arrays["kept"], arrays["negatives"]
    before = len(rows)
    for i, found in enumerate(negatives):
        room = max(0, settings.num_negatives - len(rows.negatives[i]))
        new = [int(d) for d in found if d >= 0 and int(d) not in rows.negatives[i]][:room]
        rows.negatives[i] = [*rows.negatives[i], *new][: settings.num_negatives or None]
        if not new:
            # else they are of fewer candidates, and refused
            rows.scores[i] = rows.scores[i][: 1 + len(rows.negatives[i])]
    source.rows = rows.take(np.flatnonzero(kept).tolist())
    if before > len(source.rows):
        what = f"rows whose positive is not among the top {settings.filter_rank}"
        source.rows.counts = source.rows.counts | {what: before - len(source.rows)}
        log(f"  {source.name}: {before - len(source.rows):,} of {before:,} {what} left out")
    _finish(source, config)
    return folder


def _finish(source: Source, config: StageConfig) -> None:
    """Count, and where asked drop, rows with fewer negatives than wanted; never fill them.

    Raises:
        UsageError: no row is left.
    """
    rows, wanted = source.rows, config.mining.num_negatives
    if not len(rows):
        raise UsageError(
            f"source {source.name}: no row's positive is among the top {config.mining.filter_rank}",
            "raise mining.filter_rank, take a better mining.model, or look at the rows",
        )
    short = [i for i in range(len(rows)) if len(rows.negatives[i]) < wanted]
    if not short:
        return
    what = f"rows with fewer than {wanted} hard negatives"
    kept = config.mining.on_shortfall == "keep"
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


def _write_rows(source: Source, found: Mined, path: Path) -> None:
    """Rows as jsonl: query, positive with its rank and score, negatives with theirs."""
    rows = source.rows
    with path.open("w", encoding="utf-8") as stream:
        for i in np.flatnonzero(found.kept).tolist():
            here = [k for k in range(found.negatives.shape[1]) if found.negatives[i, k] >= 0]
            row = {
                "query": rows.queries[i],
                "positive": rows.documents[rows.positives[i]],
                "positive_rank": int(found.positive_ranks[i]),
                "positive_score": float(found.positive_scores[i]),
                "negatives": [rows.documents[found.negatives[i, k]] for k in here],
                "negative_ranks": [int(found.ranks[i, k]) for k in here],
                "negative_scores": [float(found.scores[i, k]) for k in here],
                "split": "train",
            }
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")
