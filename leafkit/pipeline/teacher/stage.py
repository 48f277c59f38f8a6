"""One contrastive stage (KaLM-Embedding, arXiv 2501.01028 and 2506.20923): start model; rows, mined
and scored; batches; training; average with the start.
"""

from __future__ import annotations

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
from leafkit.pipeline.teacher.task import ROLES, START, Source, StageTask
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
class Anchors:
    """General texts that are held near where the start model put them.

    Attributes:
        texts: (role, text).
        vectors: (a, D) the start's unit vectors of them; zeros of those that are in none of this
            process's shares.
    """

    texts: list[tuple[str, str]]
    vectors: np.ndarray

    def tokenize(self, encoder: TextEncoder, max_tokens: int) -> list[list[int]]:
        """Token ids of each text, with the trained model's prompts."""
        ids: list[list[int]] = [[] for _ in self.texts]
        for role, places in _places_by_role(self.texts).items():
            found = encoder.tokenize([self.texts[i][1] for i in places], role, max_tokens)
            for place, token_ids in zip(places, found, strict=True):
                ids[place] = token_ids
        return ids

    def targets_of(self, dim: int) -> np.ndarray:
        """(a, dim) unit vectors; a grown model's vector is the start's, repeated."""
        copies = dim // self.vectors.shape[1]
        targets = np.tile(self.vectors, (1, copies)) / np.sqrt(copies)
        return np.ascontiguousarray(targets, dtype=np.float32)

    def share(self, step: int, size: int, task: StageTask) -> np.ndarray:
        """This process's anchors of a batch; the texts are gone through in order, over and over."""
        if not self.texts:
            return np.zeros(0, dtype=np.int64)
        return _anchors_of(step, size, len(self.texts), task)


def _anchors_of(step: int, size: int, num_texts: int, task: StageTask) -> np.ndarray:
    """Positions of this process's anchors of a batch of ``size``."""
    chosen = np.arange(step * size, (step + 1) * size) % num_texts
    return share_of_rank(chosen, task.world.rank, task.world.size)


def train_stage(task: StageTask) -> TrainedStage:
    """Train one stage.

    Raises:
        LeafkitError: a source, a model or a row cannot be used, or a loss is not finite.
    """
    config, data = task.config, task.data
    check_architecture(task.hold_start(), config.architecture)
    sources, rows = prepare_rows(task)
    plan = plan_batches(task, rows)
    figures: dict[str, Any] = {"same_task_share": plan.same_task_share}
    anchors = embed_anchors(task, len(plan.batches) * config.anchor_batch_size)
    encoder = prepare_encoder(task.take_start(), config, task.seed, sources)
    check_prompts(encoder, sources, data.max_query_tokens, data.max_document_tokens)
    log(
        f"  {encoder.num_parameters():,} parameters, {encoder.flops_per_token() / 1e6:.1f} "
        f"MFLOPs per token, {encoder.dim} dimensions"
    )
    batches = make_batches(task, encoder, anchors, rows=rows, plan=plan)
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
    share = config.wise_ft_alpha
    if config.lora.rank:
        merge_adapters(encoder, share)
    elif share < 1:  # the start is read again: a copy beside the training would double its memory
        begin = prepare_encoder(task.take_start(), config, task.seed, sources)
        average_into(encoder, begin, share)
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
    """The start model, grown if the stage says so, with the stage's prompts and Matryoshka
    dimensions. Its weights are taken over: go on with the result.

    The first source's prompt is the query prompt; every source's stands under its own name too.

    Raises:
        UsageError: a Matryoshka dimension is above the model's.
    """
    encoder = start
    if config.hidden_size or config.intermediate_size:
        encoder = grow(
            start, config.hidden_size or start.hidden_size, config.intermediate_size, seed
        )
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
    anchors: Anchors,
    *,
    rows: StageRows,
    plan: BatchPlan,
) -> BatchList:
    """This process's shares of the planned batches, with anchors.

    Args:
        task: the stage.
        encoder: tokenizes.
        anchors: what is held where the start model put it.
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
    targets = anchors.targets_of(encoder.dim)
    token_ids = anchors.tokenize(encoder, data.max_query_tokens)

    def make(step: int) -> PairBatch:
        chosen = anchors.share(step, config.anchor_batch_size, task)
        return collate(
            table,
            plan.batches[step],
            config.mixing,
            seed=task.seed,
            step=step,
            rank=task.world.rank,
            num_ranks=task.world.size,
            anchors=[token_ids[i] for i in chosen],
            anchor_targets=torch.from_numpy(targets[chosen]),
        )

    return BatchList(len(plan.batches), make, rows=[len(batch) for batch in plan.batches])


def embed_anchors(task: StageTask, num_used: int) -> Anchors:
    """Anchor texts, half as queries and half as documents, and where the start model puts them.

    The start model sees its own prompts: where it had none, the trained one learns that its prompt
    adds nothing. Of the texts only as many are taken as training comes to, and each process
    embeds those of its own shares.
    """
    start = task.load_model(START).encoder
    is_anchored = task.config.loss.anchor_weight > 0
    texts = pseudo_texts(start, task.data.num_pseudo_texts if is_anchored else 0, task.seed)
    if not texts:
        return Anchors([], np.zeros((0, start.dim), dtype=np.float32))
    in_roles = [("query", text) for text in texts[::2]] + [
        ("document", text) for text in texts[1::2]
    ]
    order = np.random.default_rng(task.seed).permutation(len(texts))[:num_used]
    chosen = [in_roles[i] for i in order]
    embedder, max_tokens = task.embedder(start), task.data.max_query_tokens
    size = task.config.anchor_batch_size
    # after as many steps as texts the same ones come again
    steps = range(min(-(-num_used // max(1, size)), len(chosen)))
    own = {i for step in steps for i in _anchors_of(step, size, len(chosen), task).tolist()}
    vectors = np.zeros((len(chosen), start.dim), dtype=np.float32)
    for role, places in _places_by_role(chosen).items():
        if places := [place for place in places if place in own]:
            vectors[places] = embedder.embed([chosen[i][1] for i in places], role, max_tokens)
    return Anchors(chosen, vectors)


def _places_by_role(texts: Sequence[tuple[str, str]]) -> dict[str, list[int]]:
    return {role: [i for i, (its, _) in enumerate(texts) if its == role] for role in ROLES}
