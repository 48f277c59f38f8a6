"""Train a teacher: the stages of a recipe, each an artifact (KaLM-Embedding, arXiv 2501.01028 and
2506.20923).
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from leafkit.config.schema import StageConfig, to_plain
from leafkit.core.checkpoint_layout import LOSSES_FILE, SOURCES_FILE
from leafkit.core.console import log
from leafkit.core.errors import UsageError
from leafkit.core.method import method_of
from leafkit.data.batching import share_of_rank
from leafkit.embedders.transformer import TransformerEmbedder
from leafkit.models.checkpoint import write_encoder
from leafkit.models.configure import check_architecture, configure, enable_gradient_checkpointing
from leafkit.models.grow import grow
from leafkit.models.lora import add_adapters, merge_adapters
from leafkit.models.soup import average_into
from leafkit.models.text_encoder import TextEncoder
from leafkit.pipeline.corpus import pseudo_texts
from leafkit.pipeline.run import Run
from leafkit.pipeline.teacher.batch_plan import BatchPlan, plan_batches
from leafkit.pipeline.teacher.mine import mine_sources
from leafkit.pipeline.teacher.soft_labels import BM25, ROWS, score_sources
from leafkit.pipeline.teacher.soup import run_soup_stage
from leafkit.pipeline.teacher.start_models import identify, load_named
from leafkit.pipeline.teacher.training_table import (
    Source,
    StageRows,
    check_prompts,
    identify_sources,
    join_sources,
    read_source,
    source_configs,
)
from leafkit.train.batch_list import BatchList
from leafkit.train.contrastive_batch import PairBatch, TrainingTable, collate
from leafkit.train.contrastive_module import ContrastiveModule
from leafkit.train.fit import fit


@dataclass(frozen=True, slots=True)
class TeacherStageInputs:
    """What decides about a stage that trains."""

    config: dict[str, Any]
    start: str  # identity of the start model
    models: dict[str, str]  # identities of those that mine, score and choose batches
    sources: Any
    seed: int
    tokens: list[int]  # cuts of queries and documents
    pseudo_texts: int
    precision: str


def run_teach(run: Run) -> Path:
    """Run every stage of the recipe and return the folder of the last one: the teacher.

    Raises:
        UsageError: the recipe has no stages.
        LeafkitError: a stage failed.
    """
    if not run.recipe.stages:
        raise UsageError(
            f"recipe {run.recipe.name} trains no teacher: it has no stages", "recipe=kalm-mini has"
        )
    folder = run.folder
    for name, config in run.recipe.stages.items():
        folder = run_stage(run, name, config)
    return folder


def run_mine(run: Run) -> list[Path]:
    """Mine the rows of every stage that mines and return the artifacts' folders; earlier stages are
    trained where needed.

    Raises:
        UsageError: no stage of the recipe mines.
    """
    folders: list[Path] = []
    mining = [name for name, config in run.recipe.stages.items() if config.mining.model]
    if not mining:
        raise UsageError(
            f"recipe {run.recipe.name} has no stage that mines", "set stages.NAME.mining.model"
        )
    for name, config in run.recipe.stages.items():
        if name in mining:
            sources = [
                read_source(run, config, key, value)
                for key, value in source_configs(run, config).items()
            ]
            folders += mine_sources(run, name, config, sources)
        if name == mining[-1]:
            break
        run_stage(run, name, config)
    return folders


def run_stage(run: Run, name: str, config: StageConfig) -> Path:
    """One stage, of either kind."""
    return (
        run_soup_stage(run, name, config)
        if config.soup.members
        else run_teacher_stage(run, name, config)
    )


def run_teacher_stage(run: Run, name: str, config: StageConfig) -> Path:
    """One stage: start model; rows, mined and scored; batches; contrastive training; average with
    the start.
    """
    folder = run.folder / name
    data, seed = run.recipe.data, run.recipe.seed
    soft = [m for m in config.soft_labels.models if m not in {ROWS, BM25}]
    others = [
        m
        for m in (
            config.mining.model,
            config.neighbor_model if config.batching == "neighbors" else "",
            *soft,
        )
        if m
    ]
    inputs = TeacherStageInputs(
        config=to_plain(config),
        start=identify(run, config.init, config.init),
        models={m: identify(run, m, config.init) for m in others},
        sources=identify_sources(run, config),
        seed=seed,
        tokens=[data.max_query_tokens, data.max_document_tokens],
        pseudo_texts=data.num_pseudo_texts,
        precision=str(run.precision),
    )

    def work(metrics: dict[str, Any]) -> tuple[TextEncoder, list[float], list[dict[str, Any]]]:
        start = load_named(run, config.init, config.init).encoder
        check_architecture(start, config.architecture)
        sources, rows = prepare_rows(run, name, config)
        encoder = prepare_encoder(start, config, seed, sources)
        check_prompts(encoder, sources, config.query_template, data.max_query_tokens)
        log(
            f"  {encoder.num_parameters():,} parameters, {encoder.flops_per_token() / 1e6:.1f} "
            f"MFLOPs per token,"
            f" {encoder.dim} dimensions"
        )
        plan = plan_batches(run, config, rows)
        losses = train_stage(run, name, config, encoder, start, rows, plan, metrics)
        average_into(encoder, prepare_encoder(start, config, seed, sources), config.wise_ft_alpha)
        metrics.update(
            parameters=encoder.num_parameters(),
            first_loss=losses[0],
            last_loss=float(np.mean(losses[-10:])),
            same_task_share=plan.same_task_share,
        )
        return encoder, losses, plan.table

    def save(result: tuple[TextEncoder, list[float], list[dict[str, Any]]], draft: Path) -> None:
        encoder, losses, table = result
        write_encoder(
            encoder,
            draft,
            {"kind": "teacher", "dim": encoder.dim, "mrl_dims": list(encoder.spec.mrl_dims)},
        )
        (draft / LOSSES_FILE).write_text(json.dumps(losses))
        (draft / SOURCES_FILE).write_text(
            json.dumps(table, indent=1, ensure_ascii=False), encoding="utf-8"
        )

    run.step(
        name=name,
        folder=folder,
        inputs=inputs,
        method=method_of(run_teacher_stage),
        work=work,
        save=save,
        on_every_process=True,
    )
    return folder


def prepare_rows(run: Run, name: str, config: StageConfig) -> tuple[list[Source], StageRows]:
    """The stage's rows: read, filtered and mined, scored, joined."""
    sources = [
        read_source(run, config, source, settings)
        for source, settings in source_configs(run, config).items()
    ]
    mine_sources(run, name, config, sources)
    score_sources(run, config, sources)
    return sources, join_sources(sources, config)


def prepare_encoder(
    start: TextEncoder, config: StageConfig, seed: int, sources: Sequence[Source]
) -> TextEncoder:
    """A copy of the start model, grown if the stage says so, with the stage's prompts and
    Matryoshka dimensions.

    The first source's prompt is the query prompt; every source's stands under its own name too.

    Raises:
        UsageError: a Matryoshka dimension is above the model's.
    """
    if config.hidden_size or config.intermediate_size:
        encoder = grow(
            start, config.hidden_size or start.hidden_size, config.intermediate_size, seed
        )
    else:
        encoder = copy.deepcopy(start)
    too_large = [d for d in config.loss.mrl_dims if d > encoder.dim]
    if too_large:
        raise UsageError(
            f"mrl_dims {too_large} are above the model's {encoder.dim} dimensions",
            "lower them or raise hidden_size",
        )
    prompts = {"query": sources[0].prompt}
    if len(sources) > 1:
        prompts |= {source.name: source.prompt for source in sources}
    encoder = configure(
        encoder,
        config.attention,
        config.pooling,
        prompts=prompts,
        templates={"query": config.query_template},
    )
    encoder.spec = replace(encoder.spec, mrl_dims=tuple(config.loss.mrl_dims or [encoder.dim]))
    return encoder


def train_stage(
    run: Run,
    name: str,
    config: StageConfig,
    encoder: TextEncoder,
    start: TextEncoder,
    rows: StageRows,
    plan: BatchPlan,
    metrics: dict[str, Any],
) -> list[float]:
    """Contrastive training with anchors; returns the loss of each step."""
    data, seed, world = run.recipe.data, run.recipe.seed, run.world
    table = TrainingTable(
        # prompts are in the texts already
        encoder.tokenize(rows.queries, "", data.max_query_tokens),
        encoder.tokenize(rows.documents, "", data.max_document_tokens),
        rows.positives,
        rows.negatives,
        rows.relevant,
        rows.in_batch,
        rows.soft,
    )
    anchor_texts = pseudo_texts(
        encoder, data.num_pseudo_texts if config.loss.anchor_weight > 0 else 0, seed
    )
    anchor_ids, anchor_targets = _anchors(
        run, encoder, start, anchor_texts, config.num_steps * config.anchor_batch_size
    )

    def make(step: int) -> PairBatch:
        offset = step * config.anchor_batch_size
        chosen = np.arange(offset, offset + config.anchor_batch_size) % max(1, len(anchor_ids))
        chosen = share_of_rank(chosen, world.rank, world.size) if anchor_ids else chosen[:0]
        return collate(
            table,
            plan.batches[step],
            config.mixing,
            seed=seed,
            step=step,
            rank=world.rank,
            num_ranks=world.size,
            anchors=[anchor_ids[i] for i in chosen],
            anchor_targets=torch.from_numpy(anchor_targets[chosen]),
        )

    if config.gradient_checkpointing:
        enable_gradient_checkpointing(encoder)
    if config.lora.rank:
        add_adapters(encoder, config.lora.rank, config.lora.alpha, config.lora.targets, seed)
    module = ContrastiveModule(
        encoder,
        config.optimizer,
        config.loss,
        soft_labels=config.soft_labels,
        mixing=config.mixing,
        chunk_tokens=config.chunk_tokens,
    )
    losses = fit(
        module,
        BatchList(len(plan.batches), make, rows=[len(batch) for batch in plan.batches]),
        title=f"{name}: training",
        device=run.device,
        precision=run.precision,
        seed=seed,
        metrics=metrics,
    )
    if config.lora.rank:
        merge_adapters(encoder)
    return losses


def _anchors(
    run: Run, encoder: TextEncoder, start: TextEncoder, texts: list[str], num_used: int
) -> tuple[list[list[int]], np.ndarray]:
    """Ids of the anchor texts, half as queries and half as documents, and where the start model put
    them.

    The start model sees its own prompts: where it had none, the trained one learns that its prompt
    adds nothing. Of the texts only as many are taken as training comes to.
    """
    if not texts:
        return [], np.zeros((0, encoder.dim), dtype=np.float32)
    in_roles = [("query", text) for text in texts[::2]] + [
        ("document", text) for text in texts[1::2]
    ]
    chosen = [
        in_roles[i]
        for i in np.random.default_rng(run.recipe.seed).permutation(len(texts))[:num_used]
    ]
    embedder = TransformerEmbedder(start, run.device, run.precision)
    max_tokens = run.recipe.data.max_query_tokens
    ids: list[list[int]] = [[] for _ in chosen]
    vectors = np.empty((len(chosen), start.dim), dtype=np.float32)
    for role in ("query", "document"):
        places = [place for place, (its, _) in enumerate(chosen) if its == role]
        mine = [chosen[place][1] for place in places]
        vectors[places] = embedder.embed(mine, role, max_tokens)
        for place, found in zip(places, encoder.tokenize(mine, role, max_tokens), strict=True):
            ids[place] = found
    copies = encoder.dim // start.dim  # a grown model's vector is the start's, repeated
    return ids, np.ascontiguousarray(
        np.tile(vectors, (1, copies)) / np.sqrt(copies), dtype=np.float32
    )
