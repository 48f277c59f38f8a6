"""Lightning modules. ``training_step`` is the method; everything around it is in ``fit``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import lightning
import torch

from leafkit.errors import LeafkitError
from leafkit.losses.contrastive import matryoshka_info_nce
from leafkit.losses.leaf import leaf_loss
from leafkit.models.encoder import TextEncoder
from leafkit.train.optim import OptimizerSettings, build_optimizer
from leafkit.vectors import truncate_then_normalize

TokenIds = Sequence[Sequence[int]]


@dataclass(frozen=True, slots=True)
class LeafBatch:
    """One process's share of a distillation batch: texts, their teacher vectors, and the rows of the global batch.

    ``weight`` is 0 for a stand-in row given to a process that would have none; it takes part in no loss.
    """

    token_ids: TokenIds
    targets: torch.Tensor  # (b, D)
    num_global_rows: int
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class PairBatch:
    """One process's share of a contrastive batch: row i's document is relevant to row i's query.

    ``groups`` (b, 2) numbers queries and documents: a row that shares either with another has no negative in it.
    """

    queries: TokenIds
    documents: TokenIds
    groups: torch.Tensor
    anchors: TokenIds
    anchor_targets: torch.Tensor  # (a, D), unit vectors of the stage's start model


class _EncoderModule(lightning.LightningModule):
    """What both modules share: the encoder, its optimiser, checked gradients and the loss curve."""

    def __init__(self, encoder: TextEncoder, settings: OptimizerSettings) -> None:
        super().__init__()
        self.encoder = encoder
        self.settings = settings
        self.losses: list[float] = []

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Batches stay as they are: Lightning's own transfer would visit every token id, and refuses frozen classes."""
        return batch

    def configure_optimizers(self) -> Any:
        optimizer, schedule = build_optimizer(self, self.settings)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: Any = None, gradient_clip_algorithm: Any = None
    ) -> None:
        """Clip by the settings' norm, and stop where the gradient is not a number."""
        norm = torch.nn.utils.clip_grad_norm_(self.parameters(), self.settings.max_grad_norm)
        if not torch.isfinite(norm):
            raise LeafkitError(f"the gradient of step {self.global_step} is not finite", "use precision=float32 or a lower lr")

    def record(self, loss: torch.Tensor) -> None:
        """Add the global batch's loss to the curve.

        Raises:
            LeafkitError: the loss is not finite.
        """
        value = self.all_gather(loss.detach()).mean() if self.trainer.world_size > 1 else loss.detach()
        if not torch.isfinite(value):
            raise LeafkitError(f"the loss of step {self.global_step} is not finite", "use precision=float32 or a lower lr")
        self.losses.append(float(value))


class LeafModule(_EncoderModule):
    """LEAF distillation (arXiv 2509.12539) on cached teacher vectors."""

    def training_step(self, batch: LeafBatch) -> torch.Tensor:
        raw = self.encoder(batch.token_ids)
        vectors = self.encoder.finish(raw)
        share = batch.weight * self.trainer.world_size / batch.num_global_rows  # DDP averages over processes
        loss = leaf_loss(vectors, batch.targets.to(vectors.device)) * share
        self.record(loss)
        return loss


@dataclass(frozen=True, slots=True)
class ContrastiveSettings:
    """Numbers of the contrastive loss; see ``leafkit.config.StageConfig``."""

    temperature: float
    margin: float
    mrl_dims: tuple[int, ...]
    mrl_weights: tuple[float, ...]
    anchor_weight: float


class ContrastiveModule(_EncoderModule):
    """KaLM's contrastive stages (arXiv 2501.01028) with the start model as an anchor on general text."""

    def __init__(self, encoder: TextEncoder, settings: OptimizerSettings, loss: ContrastiveSettings) -> None:
        super().__init__(encoder, settings)
        self.loss_settings = loss

    def training_step(self, batch: PairBatch) -> torch.Tensor:
        num_pairs = len(batch.queries)
        raw = self.encoder([*batch.queries, *batch.documents, *batch.anchors])
        queries, documents, anchors = raw.split([num_pairs, num_pairs, len(batch.anchors)])
        groups = batch.groups.to(raw.device)
        candidates, candidate_groups, offset = documents, groups, 0
        if self.trainer.world_size > 1:
            # Gradients flow through the gather and DDP averages: equal to one process with the global batch.
            candidates = self.all_gather(documents, sync_grads=True).flatten(0, 1)
            candidate_groups = self.all_gather(groups).flatten(0, 1)
            offset = self.global_rank * num_pairs
        positives = torch.arange(num_pairs, device=raw.device) + offset
        same_BC = (groups[:, None, :] == candidate_groups[None, :, :]).any(dim=2)
        s = self.loss_settings
        loss = matryoshka_info_nce(
            queries, candidates, positives, s.temperature, s.margin, same_BC, s.mrl_dims, s.mrl_weights
        )  # fmt: skip
        if len(batch.anchors):
            distance = truncate_then_normalize(anchors) - batch.anchor_targets.to(raw.device)
            loss = loss + s.anchor_weight * distance.square().sum(dim=1).mean()
        self.record(loss)
        return loss
