"""A stage that trains nothing: the average of checkpoints, with given weights or by their losses on
held-out pairs (LM-Cocktail, arXiv 2311.13534).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch

from leafkit.core.console import log
from leafkit.core.errors import UsageError
from leafkit.data.prompts import is_symmetric
from leafkit.embedders.prompted import place_prompts, prompt_with
from leafkit.losses.contrastive import info_nce
from leafkit.models.soup import softmax_weights, soup
from leafkit.models.text_encoder import TextEncoder
from leafkit.pipeline.teacher.stage import TrainedStage
from leafkit.pipeline.teacher.task import ROLES, StageTask


class HeldOut(NamedTuple):
    """A held-out pair; instruction and task are its own, where it has them."""

    query: str
    document: str
    instruction: str = ""
    task: str = ""


def average_stage(task: StageTask, held_out: Sequence[HeldOut], origin: str) -> TrainedStage:
    """Average the stage's members.

    Args:
        task: the stage; its ``soup`` names the members.
        held_out: pairs; members are weighed by their loss on them where the soup
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


def held_out_loss(task: StageTask, encoder: TextEncoder, held_out: Sequence[HeldOut]) -> float:
    """InfoNCE of held-out pairs among themselves: query i asks for document i, under the prompt of
    its own instruction where it has one; in symmetric tasks the document has it too.
    """
    embedder, data = task.embedder(encoder), task.data
    prompts = [prompt_with(embedder, pair.instruction) for pair in held_out]
    of_documents = [
        prompt if is_symmetric(pair.task, "auto") else embedder.prompt("document")
        for prompt, pair in zip(prompts, held_out, strict=True)
    ]
    query_BD, document_BD = (
        torch.from_numpy(np.ascontiguousarray(embedder.embed(texts, role, max_tokens)))
        for (texts, role), max_tokens in (
            (
                place_prompts(embedder, [pair.query for pair in held_out], prompts, ("query",)),
                data.max_query_tokens,
            ),
            (
                place_prompts(
                    embedder, [pair.document for pair in held_out], of_documents, ("document",)
                ),
                data.max_document_tokens,
            ),
        )
    )
    positives = torch.arange(len(held_out))
    return float(info_nce(query_BD, document_BD, positives, task.config.loss.temperature))
