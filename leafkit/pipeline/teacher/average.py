"""A stage that trains nothing: the average of checkpoints, with given weights or by their losses on
held-out pairs (LM-Cocktail, arXiv 2311.13534).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from leafkit.core.console import log
from leafkit.core.errors import UsageError
from leafkit.losses.contrastive import info_nce
from leafkit.models.soup import softmax_weights, soup
from leafkit.models.text_encoder import TextEncoder
from leafkit.pipeline.teacher.stage import TrainedStage
from leafkit.pipeline.teacher.task import ROLES, StageTask


def average_stage(
    task: StageTask, held_out: Sequence[tuple[str, str]], origin: str
) -> TrainedStage:
    """Average the stage's members.

    Args:
        task: the stage; its ``soup`` names the members.
        held_out: (query, document) pairs; members are weighed by their loss on them where the soup
            gives no weights.
        origin: of those pairs, for messages.

    Raises:
        LeafkitError: the members cannot be averaged, or there are no held-out pairs to weigh them
            by.
    """
    settings = task.config.soup
    figures: dict[str, Any] = {}
    members = [task.load_model(member).encoder for member in settings.members]
    weights = list(settings.weights)
    if not weights:
        if len(held_out) < 2:
            raise UsageError(
                f"{origin} has {len(held_out)} held-out rows: a soup cannot be weighed",
                f"give stages.{task.name}.soup.weights, or held-out pairs",
            )
        losses = [held_out_loss(task, member, held_out) for member in members]
        weights = softmax_weights(losses, settings.temperature)
        figures |= {"held_out_losses": losses, "held_out_rows": len(held_out)}
    figures["weights"] = weights
    for member, weight in zip(settings.members, weights, strict=True):
        log(f"  {weight:.3f} of {member}")
    return TrainedStage(soup(share_source_prompts(members), weights), figures=figures)


def share_source_prompts(members: Sequence[TextEncoder]) -> Sequence[TextEncoder]:
    """Give every member the prompts of all members' sources: stages of other sources can be
    averaged, one serves them all.

    Prompts of the roles query and document are never added, and none is replaced: where they
    differ, ``soup`` refuses.
    """
    prompts: dict[str, str] = {}
    for member in members:
        prompts = {
            role: text for role, text in member.spec.prompts.items() if role not in ROLES
        } | prompts
    for member in members:
        member.spec = replace(member.spec, prompts=prompts | member.spec.prompts)
    return members


def held_out_loss(
    task: StageTask, encoder: TextEncoder, held_out: Sequence[tuple[str, str]]
) -> float:
    """InfoNCE of held-out pairs among themselves: query i asks for document i."""
    embedder, data = task.embedder(encoder), task.data
    query_BD, document_BD = (
        torch.from_numpy(np.ascontiguousarray(embedder.embed(texts, role, max_tokens)))
        for texts, role, max_tokens in (
            ([query for query, _ in held_out], "query", data.max_query_tokens),
            ([document for _, document in held_out], "document", data.max_document_tokens),
        )
    )
    positives = torch.arange(len(held_out))
    return float(info_nce(query_BD, document_BD, positives, task.config.loss.temperature))
