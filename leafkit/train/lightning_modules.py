"""Lightning modules. ``training_step`` is the method; everything around it is in ``fit``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import lightning
import torch

from leafkit.core.errors import LeafkitError
from leafkit.core.truncate import truncate_then_normalize
from leafkit.losses.contrastive import at_each_dimension, inner_products, matryoshka_info_nce
from leafkit.losses.leaf import leaf_loss
from leafkit.losses.mixing import mix_listwise, mix_pairwise
from leafkit.losses.orthogonality import spread_loss
from leafkit.losses.soft_labels import soft_kl, soft_mse
from leafkit.models.text_encoder import TextEncoder
from leafkit.train.contrastive_batch import MixingPlan, PairBatch, TokenIds
from leafkit.train.gradcache import encode_in_chunks
from leafkit.train.optimizer import OptimizerSettings, build_optimizer


@dataclass(frozen=True, slots=True)
class LeafBatch:
    """One process's share of a distillation batch: texts, their teacher vectors, and the rows of
    the global batch.

    ``weight`` is 0 for a stand-in row given to a process that would have none; it takes part in no
    loss.
    """

    token_ids: TokenIds
    targets: torch.Tensor  # (b, D)
    num_global_rows: int
    weight: float = 1.0


class _EncoderModule(lightning.LightningModule):
    """What both modules share: the encoder, its optimiser, checked gradients and the loss curve."""

    def __init__(self, encoder: TextEncoder, settings: OptimizerSettings) -> None:
        super().__init__()
        self.encoder = encoder
        self.settings = settings
        self.losses: list[float] = []

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        """Batches stay as they are: Lightning's own transfer would visit every token id, and
        refuses frozen classes.
        """
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
            raise LeafkitError(
                f"the gradient of step {self.global_step} is not finite",
                "use precision=float32 or a lower lr",
            )

    def record(self, loss: torch.Tensor) -> None:
        """Add the global batch's loss to the curve.

        Raises:
            LeafkitError: the loss is not finite.
        """
        value = (
            self.all_gather(loss.detach()).mean() if self.trainer.world_size > 1 else loss.detach()
        )
        if not torch.isfinite(value):
            raise LeafkitError(
                f"the loss of step {self.global_step} is not finite",
                "use precision=float32 or a lower lr",
            )
        self.losses.append(float(value))


class LeafModule(_EncoderModule):
    """LEAF distillation (arXiv 2509.12539) on cached teacher vectors."""

    def training_step(self, batch: LeafBatch) -> torch.Tensor:
        raw = self.encoder(batch.token_ids)
        vectors = self.encoder.finish(raw)
        # DDP averages over processes
        share = batch.weight * self.trainer.world_size / batch.num_global_rows
        loss = leaf_loss(vectors, batch.targets.to(vectors.device)) * share
        self.record(loss)
        return loss


@dataclass(frozen=True, slots=True)
class ContrastiveSettings:
    """Numbers of the contrastive loss; see ``leafkit.config.schema.StageConfig``."""

    temperature: float
    margin: float
    mrl_dims: tuple[int, ...]
    mrl_weights: tuple[float, ...]
    anchor_weight: float = 0.0
    focal_gamma: float = 0.0
    contrastive_weight: float = 1.0
    soft_kind: str = "kl"
    soft_weight: float = 0.0
    soft_temperature: float = 0.05
    gor_weight: float = 0.0
    mixing_temperature: float = 0.1
    chunk_tokens: int = 0


class ContrastiveModule(_EncoderModule):
    """KaLM's contrastive stages (arXiv 2501.01028, 2506.20923) with the start model as an anchor on
    general text.
    """

    def __init__(
        self, encoder: TextEncoder, settings: OptimizerSettings, loss: ContrastiveSettings
    ) -> None:
        super().__init__(encoder, settings)
        self.loss_settings = loss

    def training_step(self, batch: PairBatch) -> torch.Tensor:
        s = self.loss_settings
        texts = [*batch.queries, *batch.documents, *batch.anchors]
        raw = encode_in_chunks(self.encoder, texts, s.chunk_tokens)
        queries, documents, anchors = torch.split(
            raw, [len(batch.queries), len(batch.documents), len(batch.anchors)]
        )
        candidates = self._gather_columns(documents, batch.num_columns)
        terms = []
        if s.contrastive_weight > 0:
            terms.append(s.contrastive_weight * self._contrastive(queries, candidates, batch))
        if batch.soft is not None:
            terms.append(s.soft_weight * self._soft(queries, candidates, batch))
        if s.gor_weight > 0:
            terms.append(s.gor_weight * self._spread(queries, candidates, batch))
        if len(batch.anchors):
            distance = truncate_then_normalize(anchors) - batch.anchor_targets.to(raw.device)
            terms.append(s.anchor_weight * distance.square().sum(dim=1).mean())
        loss = torch.stack(terms).sum()
        self.record(loss)
        return loss

    def _gather_columns(self, documents: torch.Tensor, num_columns: int) -> torch.Tensor:
        """(C, D) documents of all processes.

        Gradients flow through the gather and DDP averages: equal to one process with the global
        batch.
        """
        if self.trainer.world_size == 1:
            return documents
        padding = documents.new_ones(num_columns - len(documents), documents.shape[1])
        gathered: torch.Tensor = self.all_gather(torch.cat([documents, padding]), sync_grads=True)
        return gathered.flatten(0, 1)

    def _contrastive(
        self, queries: torch.Tensor, candidates: torch.Tensor, batch: PairBatch
    ) -> torch.Tensor:
        """InfoNCE over in-batch, hard and mixed negatives, at every Matryoshka dimension."""
        s, device = self.loss_settings, queries.device
        extra = (
            None if batch.mixing is None else self._mix(queries, candidates, batch, batch.mixing)
        )
        extra_masked = None if batch.mixing is None else batch.mixing.masked.to(device)
        return matryoshka_info_nce(
            queries,
            candidates,
            batch.positives.to(device),
            s.temperature,
            s.margin,
            batch.masked.to(device),
            s.mrl_dims,
            s.mrl_weights,
            s.focal_gamma,
            extra,
            extra_masked,
        )

    def _mix(
        self, queries: torch.Tensor, candidates: torch.Tensor, batch: PairBatch, plan: MixingPlan
    ) -> torch.Tensor:
        """(b, E, D) synthetic negatives; full vectors are mixed, the loss cuts them."""
        device = queries.device
        unit_CD = truncate_then_normalize(candidates)
        mixed = mix_pairwise(
            unit_CD[plan.first.to(device)], unit_CD[plan.second.to(device)], plan.share.to(device)
        )
        listed = plan.listed.to(device)
        hard_BMD = unit_CD[batch.own[:, 1:].to(device)]
        lists_BEMD = hard_BMD[:, None].expand(-1, listed.shape[1], -1, -1)
        query_BD = truncate_then_normalize(queries)
        return torch.cat(
            [
                mixed,
                mix_listwise(query_BD, lists_BEMD, listed, self.loss_settings.mixing_temperature),
            ],
            dim=1,
        )

    def _soft(
        self, queries: torch.Tensor, candidates: torch.Tensor, batch: PairBatch
    ) -> torch.Tensor:
        """Soft labels over each row's own candidates, at every Matryoshka dimension."""
        s, device = self.loss_settings, queries.device
        assert batch.soft is not None
        own, present, teacher = (
            batch.own.to(device),
            batch.present.to(device),
            batch.soft.to(device),
        )

        def loss(dim: int) -> torch.Tensor:
            q_BD, c_CD = (
                truncate_then_normalize(queries, dim),
                truncate_then_normalize(candidates, dim),
            )
            student_BK = inner_products(q_BD[:, None], c_CD[own])[:, 0]
            if s.soft_kind == "mse":
                return soft_mse(student_BK, teacher, present)
            return soft_kl(student_BK, teacher, present, s.soft_temperature)

        return at_each_dimension(loss, s.mrl_dims, s.mrl_weights)

    def _spread(
        self, queries: torch.Tensor, candidates: torch.Tensor, batch: PairBatch
    ) -> torch.Tensor:
        """The spread regulariser on all queries and all documents of the global batch."""
        s = self.loss_settings
        if self.trainer.world_size > 1:
            queries = self.all_gather(queries, sync_grads=True).flatten(0, 1)
        documents = candidates[~batch.is_padding.to(candidates.device)]
        return at_each_dimension(
            lambda d: sum(
                (spread_loss(truncate_then_normalize(v, d)) for v in (queries, documents)),
                queries.new_zeros(()),
            ),
            s.mrl_dims,
            s.mrl_weights,
        )
