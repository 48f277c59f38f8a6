"""One contrastive stage (KaLM-Embedding, arXiv 2501.01028 and 2506.20923): start model; rows, mined
and scored; batches; training; average with the start.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from leafkit.config import StageConfig
from leafkit.core.console import log
from leafkit.core.errors import UsageError
from leafkit.data.batching import share_of_rank
from leafkit.data.prompts import make_prompt
from leafkit.embedders.prompted import EXAMPLES
from leafkit.embedders.token_reader import reader_of
from leafkit.models.configure import check_architecture, configure, enable_gradient_checkpointing
from leafkit.models.grow import grow
from leafkit.models.lora import add_adapters, merge_adapters
from leafkit.models.soup import average_into
from leafkit.models.text_encoder import TextEncoder
from leafkit.pipeline.corpus import pseudo_texts
from leafkit.pipeline.teacher.batch_plan import BatchPlan, plan_batches
from leafkit.pipeline.teacher.mine import mine_sources
from leafkit.pipeline.teacher.soft_labels import score_sources
from leafkit.pipeline.teacher.sources import read_sources
from leafkit.pipeline.teacher.task import ROLES, Source, StageTask
from leafkit.pipeline.teacher.training_table import StageRows, check_prompts, join_sources
from leafkit.train.batch_list import BatchList
from leafkit.train.contrastive_batch import PairBatch, TrainingTable, collate
from leafkit.train.contrastive_module import ContrastiveModule
from leafkit.train.fit import fit

_LAST_STEPS = 10  # whose mean is called the last loss


@dataclass(frozen=True, slots=True)
class TrainedStage:
    """A stage's model, on the CPU and in evaluation mode.

    Attributes:
        encoder: the model.
        losses: of each batch.
        sources: a line per source: rows read, kept and drawn.
        figures: what else was measured, as plain data.
    """

    encoder: TextEncoder
    losses: list[float] = field(default_factory=list)
    sources: list[dict[str, Any]] = field(default_factory=list)
    figures: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Anchors:
    """General texts that are held near where the start model put them."""

    token_ids: list[list[int]]
    targets: np.ndarray  # (a, D) unit vectors

    def share(self, step: int, size: int, task: StageTask) -> tuple[list[list[int]], torch.Tensor]:
        """This process's anchors of a batch; the texts are gone through in order, over and over."""
        if not self.token_ids:
            return [], torch.from_numpy(self.targets[:0])
        chosen = np.arange(step * size, (step + 1) * size) % len(self.token_ids)
        chosen = share_of_rank(chosen, task.world.rank, task.world.size)
        return [self.token_ids[i] for i in chosen], torch.from_numpy(self.targets[chosen])


def train_stage(task: StageTask) -> TrainedStage:
    """Train one stage.

    Raises:
        LeafkitError: a source, a model or a row cannot be used, or a loss is not finite.
    """
    config, data = task.config, task.data
    start = task.load_model(config.init).encoder
    check_architecture(start, config.architecture)
    sources, rows = prepare_rows(task)
    encoder = prepare_encoder(start, config, task.seed, sources)
    check_prompts(encoder, sources, data.max_query_tokens, data.max_document_tokens)
    log(
        f"  {encoder.num_parameters():,} parameters, {encoder.flops_per_token() / 1e6:.1f} "
        f"MFLOPs per token, {encoder.dim} dimensions"
    )
    plan = plan_batches(task, rows)
    figures: dict[str, Any] = {"same_task_share": plan.same_task_share}
    batches = make_batches(task, encoder, start, rows=rows, plan=plan)
    if config.gradient_checkpointing:
        enable_gradient_checkpointing(encoder)
    if config.lora.rank:
        lora = config.lora
        add_adapters(encoder, lora.rank, lora.alpha, targets=lora.targets, seed=task.seed)
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
        batches,
        title=f"{task.name}: training",
        device=task.device,
        precision=task.precision,
        seed=task.seed,
        metrics=figures,
        options=task.options,
    )
    if config.lora.rank:
        merge_adapters(encoder)
    average_into(encoder, prepare_encoder(start, config, task.seed, sources), config.wise_ft_alpha)
    figures |= {
        "parameters": encoder.num_parameters(),
        "first_loss": losses[0],
        "last_loss": float(np.mean(losses[-_LAST_STEPS:])),
    }
    return TrainedStage(encoder, losses, plan.table, figures)


def prepare_rows(task: StageTask) -> tuple[list[Source], StageRows]:
    """The stage's rows: read, filtered and mined, scored, joined."""
    sources = read_sources(task)
    mine_sources(task, sources)
    score_sources(task, sources)
    return sources, join_sources(sources)


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
        templates=_templates(sources[0]),
    )
    encoder.spec = replace(encoder.spec, mrl_dims=tuple(config.loss.mrl_dims or [encoder.dim]))
    return encoder


def _templates(source: Source) -> dict[str, str]:
    """What the query prompt was made of, so that it can be made for another instruction."""
    shown = make_prompt("", source.instruction, source.examples, source.example_template)
    return {"query": source.template} | ({EXAMPLES: shown} if shown else {})


def make_batches(
    task: StageTask,
    encoder: TextEncoder,
    start: TextEncoder,
    *,
    rows: StageRows,
    plan: BatchPlan,
) -> BatchList:
    """This process's shares of the planned batches, with anchors.

    Args:
        task: the stage.
        encoder: tokenizes.
        start: gives the anchors' targets.
        rows: of the stage; prompts are in their texts already.
        plan: which rows stand together.
    """
    config, data = task.config, task.data
    table = TrainingTable(
        queries=task.tokenize(reader_of(encoder, "", data.max_query_tokens), rows.queries),
        documents=task.tokenize(reader_of(encoder, "", data.max_document_tokens), rows.documents),
        positives=rows.positives,
        negatives=rows.negatives,
        relevant=rows.relevant,
        in_batch=rows.in_batch,
        soft=rows.soft,
    )
    num_anchors = len(plan.batches) * config.anchor_batch_size
    anchors = _embed_anchors(task, encoder, start, num_anchors)

    def make(step: int) -> PairBatch:
        anchor_ids, anchor_targets = anchors.share(step, config.anchor_batch_size, task)
        return collate(
            table,
            plan.batches[step],
            config.mixing,
            seed=task.seed,
            step=step,
            rank=task.world.rank,
            num_ranks=task.world.size,
            anchors=anchor_ids,
            anchor_targets=anchor_targets,
        )

    return BatchList(len(plan.batches), make, rows=[len(batch) for batch in plan.batches])


def _embed_anchors(
    task: StageTask, encoder: TextEncoder, start: TextEncoder, num_used: int
) -> _Anchors:
    """Anchor texts, half as queries and half as documents, and where the start model put them.

    The start model sees its own prompts: where it had none, the trained one learns that its prompt
    adds nothing. Of the texts only as many are taken as training comes to.
    """
    is_anchored = task.config.loss.anchor_weight > 0
    texts = pseudo_texts(encoder, task.data.num_pseudo_texts if is_anchored else 0, task.seed)
    if not texts:
        return _Anchors([], np.zeros((0, encoder.dim), dtype=np.float32))
    in_roles = [("query", text) for text in texts[::2]] + [
        ("document", text) for text in texts[1::2]
    ]
    order = np.random.default_rng(task.seed).permutation(len(texts))[:num_used]
    chosen = [in_roles[i] for i in order]
    embedder, max_tokens = task.embedder(start), task.data.max_query_tokens
    ids: list[list[int]] = [[] for _ in chosen]
    vectors = np.empty((len(chosen), start.dim), dtype=np.float32)
    for role in ROLES:
        places = [place for place, (its, _) in enumerate(chosen) if its == role]
        of_role = [chosen[place][1] for place in places]
        vectors[places] = embedder.embed(of_role, role, max_tokens)
        found = encoder.tokenize(of_role, role, max_tokens)
        for place, token_ids in zip(places, found, strict=True):
            ids[place] = token_ids
    copies = encoder.dim // start.dim  # a grown model's vector is the start's, repeated
    targets = np.tile(vectors, (1, copies)) / np.sqrt(copies)
    return _Anchors(ids, np.ascontiguousarray(targets, dtype=np.float32))
