"""``leafkit distill recipe=NAME dry_run=true``: the recipe's whole road with tiny random weights of
the same architectures, few texts and few steps; and what its models count at full size.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from leafkit.config import Recipe, SourceConfig, StudentConfig
from leafkit.core.checkpoint_layout import DRY_RUN_ROWS
from leafkit.core.console import log
from leafkit.pipeline.student.full_size import (
    config_of,
    count_parameters,
    student_at_full_size,
)
from leafkit.pipeline.teacher.dry_run import (
    BATCH_SIZE,
    NUM_ROWS,
    built_in_rows,
    hub_is_reachable,
    is_at_hand,
    small_data,
    stand_in,
)

_FAR_PACKAGES = ["csv", "sqlite3"]  # of the collection that is out of domain
_NUM_EPOCHS = 0.1
_NUM_NEIGHBORS = 8


def plan_dry_distill(recipe: Recipe) -> Recipe:
    """The recipe made small: its artifacts are under NAME-dry-run and never mix with real ones.

    Raises:
        UsageError: a model's architecture is not known, or the start lacks the student's layers.
    """
    for line in full_sizes(recipe):
        log(line)
    log(
        "dry run: every step runs and nothing is learnt; no figure of it says anything", style="dim"
    )
    name = f"{recipe.name}-dry-run"
    rows = Path(recipe.checkpoints) / name / DRY_RUN_ROWS
    is_online = hub_is_reachable()
    sources = {
        key: _small_source(key, source, rows, is_online=is_online)
        for key, source in recipe.data.sources.items()
    }
    data = replace(
        small_data(recipe.data),
        sources=sources,
        out_of_domain_packages=_FAR_PACKAGES,
        max_train_queries=NUM_ROWS,
        num_made_queries=min(NUM_ROWS, recipe.data.num_made_queries),
    )
    source = recipe.teacher.source
    teacher = replace(
        recipe.teacher,
        source=stand_in(source if source.startswith(("model:", "builtin:")) else "builtin:minilm"),
        overrides=[],
        revision="",
        mrl_dims=[],
        trust_remote_code=False,
    )
    far = "builtin:pydocs-out-of-domain"
    bench = replace(
        recipe.bench,
        collections=[far] if recipe.bench.collections else [],
        num_resamples=100,
        student="",
        baseline="",
        tasks=[],
        training_sources=[],
        num_latency_queries=4,
        num_samples=1,
    )
    return replace(
        recipe,
        name=name,
        data=data,
        teacher=teacher,
        student=_small_student(recipe.student),
        bench=bench,
        inherit=replace(recipe.inherit, dims=[]),
        dry_run=False,
    )


def full_sizes(recipe: Recipe) -> list[str]:
    """What teacher and student count at full size, in words; nothing of models not known here."""
    lines = []
    config = config_of(recipe.teacher.source)
    if config is not None:
        lines.append(
            f"at full size: teacher {recipe.teacher.source}: {count_parameters(config):,} "
            f"parameters, {config.hidden_size:,} dimensions"
        )
        counts = None
        if recipe.student.kind != "static":
            dim = recipe.student.dim or config.hidden_size
            counts = student_at_full_size(recipe.student, dim)
        if counts is not None:
            named = "W_out" if recipe.student.head == "linear" else "the head"
            if recipe.student.token_units:
                named += " and the layer over tokens"
            beside = ""
            if recipe.student.token_table:
                # which tokens have a row, the texts say
                beside = (
                    f"; the token table adds {recipe.student.token_table} for each of its tokens"
                )
            lines.append(
                f"at full size: student {recipe.student.init}: {sum(counts):,} parameters, "
                f"{counts[1]:,} of them in {named}{beside}"
            )
    return lines


def _small_student(student: StudentConfig) -> StudentConfig:
    losses = student.losses
    candidates = replace(
        losses.candidates,
        num_nearest=min(_NUM_NEIGHBORS, losses.candidates.num_nearest),
        num_random=min(_NUM_NEIGHBORS, losses.candidates.num_random),
    )
    if losses.mrl_prefix:
        log("dry run: l2 for mrl_prefix, a tiny teacher has no Matryoshka dimensions", style="dim")
        # l2 stands in for it, throughout: no moment is to be without a term
        begin, end = (
            {term: share for term, share in shares.items() if term not in ("l2", "mrl_prefix")}
            for shares in (losses.begin, losses.end)
        )
        losses = replace(losses, mrl_prefix=0.0, l2=losses.l2 or 1.0, begin=begin, end=end)
    if student.init_layers:
        log(f"dry run: layer 1 stands for student.init_layers={student.init_layers}", style="dim")
    if student.head_layers not in ("last", "all"):
        log(f"dry run: all layers stand for student.head_layers={student.head_layers}", style="dim")
    if student.dim:
        log(f"dry run: all dimensions stand for student.dim={student.dim}", style="dim")
    static = student.static
    return replace(
        student,
        dim=0,
        init=student.init if student.kind == "static" else stand_in(student.init),
        init_layers="1" if student.init_layers else "",
        head_hidden=min(32, student.head_hidden),
        head_layers="last" if student.head_layers == "last" else "all",
        token_table=min(8, student.token_table),
        token_units=min(32, student.token_units),
        tokens_per_batch=min(1024, student.tokens_per_batch),
        max_texts_per_batch=BATCH_SIZE,
        num_epochs=_NUM_EPOCHS,
        minutes=0.0 if student.minutes == 0 else -1.0,
        query_repeats=1,
        losses=replace(losses, candidates=candidates),
        num_checks=min(2, student.num_checks),
        num_ridge_texts=min(256, student.num_ridge_texts),
        static=replace(static, width=32, document_epochs=_NUM_EPOCHS, query_epochs=_NUM_EPOCHS),
    )


def _small_source(name: str, source: SourceConfig, rows: Path, *, is_online: bool) -> SourceConfig:
    if is_at_hand(source.uri, is_online=is_online):
        return replace(source, limit=min(source.limit or NUM_ROWS, NUM_ROWS))
    # what stands in are pairs
    take = "queries" if source.take == "as_queries" else source.take
    uri = built_in_rows(name, source.uri, "retrieval", rows)
    return replace(source, uri=uri, limit=0, take=take)
