"""A stage that trains nothing: the average of checkpoints, with given weights or by their losses on
held-out rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from leafkit.config.schema import StageConfig, to_plain
from leafkit.core.console import log
from leafkit.core.errors import UsageError
from leafkit.core.method import method_of
from leafkit.embedders.transformer import TransformerEmbedder
from leafkit.losses.contrastive import info_nce
from leafkit.models.checkpoint import write_encoder
from leafkit.models.soup import softmax_weights, soup
from leafkit.models.text_encoder import TextEncoder
from leafkit.pipeline.corpus import load_corpus
from leafkit.pipeline.run import Run
from leafkit.pipeline.teacher.start_models import identify, load_named

ROLES = ("query", "document")  # all other prompts are those of sources


@dataclass(frozen=True, slots=True)
class SoupInputs:
    """What decides about a stage that averages."""

    soup: dict[str, Any]
    members: list[str]  # their identities
    loss: list[float]  # what the held-out loss depends on; empty with given weights
    corpus: str
    precision: str


def run_soup_stage(run: Run, name: str, config: StageConfig) -> Path:
    """Average the stage's members and publish the result as the stage's artifact.

    Raises:
        LeafkitError: the members cannot be averaged, or there are no held-out rows to weigh them
            by.
    """
    folder = run.folder / name
    settings, data = config.soup, run.recipe.data
    is_weighed = not settings.weights
    corpus = load_corpus(run, data.corpus) if is_weighed else None
    inputs = SoupInputs(
        soup=to_plain(settings),
        members=[identify(run, member, member) for member in settings.members],
        loss=[
            config.loss.temperature,
            data.max_query_tokens,
            data.max_document_tokens,
            run.recipe.seed,
        ]
        if is_weighed
        else [],
        corpus=corpus.fingerprint if corpus else "",
        precision=str(run.precision),
    )

    def work(metrics: dict[str, Any]) -> TextEncoder:
        members = [load_named(run, member, member).encoder for member in settings.members]
        weights = list(settings.weights)
        if corpus is not None:
            found = corpus.collection.pairs("validation")[: settings.num_rows]
            if len(found) < 2:
                raise UsageError(
                    f"{corpus.collection.name} has {len(found)} held-out rows (split "
                    f"validation): a soup cannot be weighed",
                    f"give stages.{name}.soup.weights",
                )
            queries = [query.text for query, _ in found]
            documents = [
                corpus.collection.documents[positions[0]].full_text for _, positions in found
            ]
            losses = [
                held_out_loss(run, member, queries, documents, config.loss.temperature)
                for member in members
            ]
            weights = softmax_weights(losses, settings.temperature)
            metrics.update(held_out_losses=losses, held_out_rows=len(found))
        metrics.update(weights=weights)
        for member, weight in zip(settings.members, weights, strict=True):
            log(f"  {weight:.3f} of {member}")
        return soup(share_source_prompts(members), weights)

    def save(encoder: TextEncoder, draft: Path) -> None:
        write_encoder(
            encoder,
            draft,
            {"kind": "teacher", "dim": encoder.dim, "mrl_dims": list(encoder.spec.mrl_dims)},
        )

    run.step(
        name=name,
        folder=folder,
        inputs=inputs,
        method=method_of(run_soup_stage),
        work=work,
        save=save,
    )
    return folder


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
    run: Run, encoder: TextEncoder, queries: list[str], documents: list[str], temperature: float
) -> float:
    """InfoNCE of held-out pairs among themselves: query i asks for document i."""
    data, embedder = run.recipe.data, TransformerEmbedder(encoder, run.device, run.precision)
    q_BD = torch.from_numpy(
        np.ascontiguousarray(embedder.embed(queries, "query", data.max_query_tokens))
    )
    d_BD = torch.from_numpy(
        np.ascontiguousarray(embedder.embed(documents, "document", data.max_document_tokens))
    )
    return float(info_nce(q_BD, d_BD, torch.arange(len(queries)), temperature))
