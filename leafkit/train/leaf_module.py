"""LEAF distillation (arXiv 2509.12539) as a Lightning module."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from leafkit.config import OptimizerConfig, StudentLosses
from leafkit.core.devices import send
from leafkit.losses.orthogonality import orthogonality_loss
from leafkit.losses.prefixes import prefix_loss
from leafkit.losses.ranking import contrastive_loss
from leafkit.models.encoder_protocol import Encoder
from leafkit.models.packed.grouping import TokenIds
from leafkit.train.encoder_module import EncoderModule
from leafkit.train.student_terms import (
    OF_VECTORS,
    ScoredRows,
    check_losses,
    is_scheduled,
    over_scores,
    weights_at,
    with_second_opinion,
)

__all__ = ["LeafBatch", "LeafModule", "ScoredRows"]


@dataclass(frozen=True, slots=True)
class LeafBatch:
    """One process's share of a distillation batch.

    Attributes:
        token_ids: (b,) of the texts.
        targets: (b, D) their teacher vectors.
        num_global_rows: rows of the global batch.
        weight: 0 for a stand-in row given to a process that would have none; it takes part in no
            loss.
        loss_weight: of the batch among those whose gradients are accumulated; see
            ``accumulation_weights``.
        scored: rows with candidate documents; None where a batch has none.
    """

    token_ids: TokenIds
    targets: torch.Tensor
    num_global_rows: int
    weight: float = 1.0
    loss_weight: float = 1.0
    scored: ScoredRows | None = None


_NEARNESS = ("l2", "cosine")  # terms that are always logged


class LeafModule(EncoderModule):
    """A student that follows the cached vectors of its teacher: by default the mean squared L2
    distance to them.

    Runs in any ``lightning.Trainer`` with ``DistillationData``, or with a loader of ``LeafBatch``
    and ``num_steps``. Logs every term beside ``train/loss``, and squared L2 and 1 - cosine always.

    Args:
        encoder: see ``EncoderModule``.
        optimizer: likewise.
        num_steps: likewise.
        losses: weights of the terms; None is the squared L2 distance alone. Those over scores need
            batches with ``scored`` rows.

    Raises:
        UsageError: the weights train nothing, or ask for what the encoder lacks.
    """

    def __init__(
        self,
        encoder: Encoder,
        optimizer: OptimizerConfig,
        num_steps: int | None = None,
        losses: StudentLosses | None = None,
    ) -> None:
        super().__init__(encoder, optimizer, num_steps)
        self.weights = losses or StudentLosses()
        self.dims = tuple(encoder.spec.mrl_dims)
        check_losses(self.weights, self.dims)
        self._over_scores = over_scores(self.weights.candidates)

    def training_step(self, batch: LeafBatch) -> torch.Tensor:
        """Loss of this process's rows, scaled so that its mean over processes is the global one."""
        raw = self.encoder(batch.token_ids)
        vectors = self.encoder.finish(raw)
        targets = send(batch.targets, vectors.device)
        has_schedule = is_scheduled(self.weights)
        progress = self.global_step / self.planned_steps() if has_schedule else 0.0
        weights = weights_at(self.weights, progress)
        # DDP averages over processes
        share = batch.weight * self.trainer.world_size / batch.num_global_rows
        terms, near = {}, {}
        for name, measure in OF_VECTORS.items():
            if name in weights:
                terms[name] = measure(vectors, targets) * share
            elif name in _NEARNESS:  # how near the student is, whatever moves it
                with torch.no_grad():
                    near[name] = measure(vectors, targets) * share
        if "mrl_prefix" in weights:
            equal = [1 / len(self.dims)] * len(self.dims)
            terms["mrl_prefix"] = prefix_loss(raw, targets, self.dims, equal) * share
        if "gor" in weights:  # a mean over pairs, where the others are sums over rows
            # what has one vector to follow, a text that comes twice say, is no unrelated pair
            texts = torch.unique(batch.targets, dim=0, return_inverse=True)[1]
            texts = send(texts, vectors.device)
            terms["gor"] = orthogonality_loss(vectors, texts) * len(vectors) * share
        if (scored := batch.scored) is not None:
            rows = send(scored.rows, vectors.device)
            present = send(scored.present, vectors.device)
            inputs = with_second_opinion(vectors[rows], targets[rows], scored)
            share = batch.weight * self.trainer.world_size / scored.expected_rows
            for name, measure in self._over_scores.items():
                if name in weights:
                    terms[name] = measure(*inputs, present=present) * share
            has_judged = "contrastive" in weights and scored.expected_judged > 0
            if has_judged and scored.positives is not None:
                positives = send(scored.positives, vectors.device)
                temperature = self.weights.candidates.temperature
                candidates = inputs[2][..., : vectors.shape[1]]  # the teacher's part
                summed = contrastive_loss(
                    vectors[rows], candidates, positives, temperature, present=present
                )
                share = batch.weight * self.trainer.world_size / scored.expected_judged
                terms["contrastive"] = summed * share
        # without any term the backward pass of all processes still needs a gradient
        loss = vectors.sum() * 0.0 if not terms else torch.zeros((), device=vectors.device)
        for name, value in terms.items():
            loss = loss + weights[name] * value
        for name, value in {**terms, **near}.items():
            self.log(f"train/{name}", value.detach())
        self.record(loss)
        return loss * batch.loss_weight
