"""Distil a transformer student from cached teacher vectors (LEAF, arXiv 2509.12539): a closed-form
linear map first, then the whole student on the squared L2 distance.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from leafkit.core.console import log
from leafkit.data.batching import share_of_rank, token_budget_batches
from leafkit.embedders.transformer import TransformerEmbedder
from leafkit.evaluation.diagnosis.spectrum import fit_ridge, variance_kept
from leafkit.models.text_encoder import EncoderSpec, TextEncoder
from leafkit.pipeline.model_handle import ModelHandle
from leafkit.pipeline.student.targets import (
    Distillation,
    Distilled,
    Start,
    count_cuts,
    read_targets,
)
from leafkit.train.batch_list import BatchList
from leafkit.train.fit import fit
from leafkit.train.leaf_module import LeafBatch, LeafModule
from leafkit.train.world import read_world

ROLES = ("query", "document")
HELD_OUT_PART = 8  # an eighth as many texts as W_out is fitted to measure how near it comes
TokenIds = Sequence[Sequence[Sequence[int]]]  # by target and text


def distill_transformer(start: TextEncoder, task: Distillation) -> Distilled:
    """A student in the teacher's space.

    Args:
        start: the model it begins as; its backbone is trained in place.
        task: teacher, texts and settings.

    Raises:
        LeafkitError: a loss or gradient is not finite.
    """
    student = build_student(start, task.teacher, task.seed)
    token_ids = [student.tokenize(t.texts, t.role, task.limits.of(t.role)) for t in task.targets]
    cuts = count_cuts(student, task)
    begun = start_projection(student, task, token_ids)
    metrics: dict[str, Any] = {}
    losses = train_student(student, task, token_ids, metrics)
    return Distilled(student, losses, begun, metrics["loader"], cuts)


def build_student(start: TextEncoder, teacher: ModelHandle, seed: int) -> TextEncoder:
    """The start model with W_out onto the teacher's dimensions, and the teacher's prompts, lengths
    and dimensions.
    """
    torch.manual_seed(seed)
    longest = getattr(start.backbone.config, "max_position_embeddings", 512)
    space = teacher.model.space("document", longest)
    prompts = {role: teacher.model.prompt(role) for role in ROLES if teacher.model.prompt(role)}
    told = (
        teacher.encoder.spec
        if teacher.encoder is not None
        else EncoderSpec(prompts=prompts, max_tokens=longest)
    )
    spec = EncoderSpec(
        pooling=start.spec.pooling,
        normalized=space.normalized,
        prompts=dict(told.prompts),
        max_tokens=min(told.max_tokens, longest),
        mrl_dims=teacher.model.mrl_dims,
        templates=dict(told.templates),
    )
    projection = nn.Linear(start.hidden_size, teacher.model.dim)
    return TextEncoder(start.backbone, start.tokenizer, spec, projection)


def start_projection(student: TextEncoder, task: Distillation, token_ids: TokenIds) -> Start:
    """Set W_out to the ridge solution on a sample, and measure what a map of its rank can keep of
    the teacher, and how near the solution comes to it on texts beside the sample.
    """
    assert student.projection is not None
    rows = [(g, i) for g, target in enumerate(task.targets) for i in range(len(target.texts))]
    order = np.random.default_rng(task.seed).permutation(len(rows))
    size = task.config.num_ridge_texts
    sample = [rows[i] for i in np.sort(order[:size])]
    others = [rows[i] for i in np.sort(order[size : size + -(-size // HELD_OUT_PART)])]
    wanted = read_targets(task.targets, sample)
    embedder = TransformerEmbedder(student, task.device, task.precision)

    def pooled(texts: Sequence[tuple[int, int]]) -> np.ndarray:
        return embedder.embed_ids([token_ids[g][i] for g, i in texts], pooled_only=True)

    inputs = pooled(sample)
    solution = fit_ridge(inputs, wanted, task.config.ridge)
    with torch.no_grad():
        student.projection.weight.copy_(torch.from_numpy(solution.weight.T))
        student.projection.bias.copy_(torch.from_numpy(solution.bias))
    unseen = pooled(others) if others else inputs
    expected = read_targets(task.targets, others) if others else wanted
    predicted = unseen @ solution.weight + solution.bias
    lengths = np.linalg.norm(predicted, axis=1) * np.linalg.norm(expected, axis=1)
    cosine = np.einsum("nd,nd->n", predicted, expected) / np.maximum(lengths, 1e-12)
    kept = variance_kept(wanted, student.hidden_size)
    start = Start(student.hidden_size, kept, float(cosine.mean()), len(sample), len(others))
    log(
        f"  a map of rank {student.hidden_size} can keep {kept:.2%} of the teacher's variance in "
        f"{student.dim} dimensions; the closed-form W_out starts at cosine "
        f"{start.ridge_cosine:.4f} on {start.measured_on}"
    )
    return start


def train_student(
    student: TextEncoder, task: Distillation, token_ids: TokenIds, metrics: dict[str, Any]
) -> list[float]:
    """Squared L2 to the teacher's vectors over token-budget batches; returns each step's loss."""
    targets, world = task.targets, read_world()
    rows = [
        (g, i) for g, t in enumerate(targets) for _ in range(t.repeats) for i in range(len(t.texts))
    ]
    batches = plan_batches(task, [len(token_ids[g][i]) for g, i in rows])

    def make(step: int) -> LeafBatch:
        batch = batches[step]
        share = share_of_rank(batch, world.rank, world.size)
        weight = 1.0 if len(share) else 0.0
        # a process without a row takes one along, which counts nothing
        chosen = [rows[r] for r in (share if len(share) else batch[:1])]
        vectors = torch.from_numpy(read_targets(targets, chosen))
        return LeafBatch([token_ids[g][i] for g, i in chosen], vectors, len(batch), weight)

    return fit(
        LeafModule(student, task.config.optimizer),
        BatchList(len(batches), make, rows=[len(batch) for batch in batches]),
        title="student: training",
        device=task.device,
        precision=task.precision,
        seed=task.seed,
        metrics=metrics,
        options=task.options(""),
    )


def plan_batches(task: Distillation, lengths: Sequence[int]) -> list[np.ndarray]:
    """Token-budget batches of rows of these lengths; a partial epoch is a share of its batches."""
    config = task.config
    batches: list[np.ndarray] = []
    for epoch in range(int(np.ceil(config.num_epochs))):
        part = token_budget_batches(
            lengths, config.tokens_per_batch, config.max_texts_per_batch, task.seed, epoch=epoch
        )
        share = min(1.0, config.num_epochs - epoch)
        batches += part[: max(1, round(share * len(part)))]
    return batches
