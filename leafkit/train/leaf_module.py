"""LEAF distillation (arXiv 2509.12539) as a Lightning module."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from leafkit.losses.leaf import leaf_loss
from leafkit.train.contrastive_batch import TokenIds
from leafkit.train.encoder_module import EncoderModule


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
    """

    token_ids: TokenIds
    targets: torch.Tensor
    num_global_rows: int
    weight: float = 1.0
    loss_weight: float = 1.0


class LeafModule(EncoderModule):
    """Mean squared L2 distance of a student's vectors to the cached vectors of its teacher.

    Runs in any ``lightning.Trainer`` with ``DistillationData``, or with a loader of ``LeafBatch``
    and ``num_steps``.
    """

    def training_step(self, batch: LeafBatch) -> torch.Tensor:
        """Loss of this process's rows, scaled so that its mean over processes is the global one."""
        raw = self.encoder(batch.token_ids)
        vectors = self.encoder.finish(raw)
        # DDP averages over processes
        share = batch.weight * self.trainer.world_size / batch.num_global_rows
        loss = leaf_loss(vectors, batch.targets.to(vectors.device)) * share
        self.record(loss)
        return loss * batch.loss_weight
