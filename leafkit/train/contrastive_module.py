"""Contrastive training of a teacher (arXiv 2501.01028, 2506.20923) as a Lightning module."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import torch

from leafkit.config import (
    ContrastiveLossConfig,
    MixingConfig,
    OptimizerConfig,
    SoftLabelConfig,
)
from leafkit.core.devices import send
from leafkit.core.truncate import truncate_then_normalize
from leafkit.losses.contrastive import at_each_dimension, inner_products, matryoshka_info_nce
from leafkit.losses.mixing import mix_listwise, mix_pairwise
from leafkit.losses.orthogonality import orthogonality_loss
from leafkit.losses.soft_labels import soft_kl, soft_mse
from leafkit.models.text_encoder import TextEncoder
from leafkit.train.contrastive_batch import MixingPlan, PairBatch
from leafkit.train.devices.gather import gather_rows
from leafkit.train.encoder_module import EncoderModule
from leafkit.train.gradcache import encode_in_chunks


class ContrastiveModule(EncoderModule):
    """KaLM's contrastive stages (arXiv 2501.01028, 2506.20923) with the start model as an anchor on
    general text.

    Runs in any ``lightning.Trainer`` with ``ContrastiveData``, or with a loader of ``PairBatch``
    and ``num_steps``. With ``accumulate_grad_batches`` the gradients of several batches are
    averaged; in-batch negatives do not cross from one batch to the next. To have more negatives in
    the same memory, raise the batch size and set ``chunk_tokens`` (GradCache).

    Args:
        encoder: trained in place.
        optimizer: AdamW's numbers.
        loss: the terms and their weights.
        soft_labels: used for batches that bring soft labels.
        mixing: used for batches that bring a plan of mixtures.
        chunk_tokens: tokens that are held for the backward pass at once (GradCache); 0 holds all.
        num_steps: optimizer steps; None asks the Trainer's data module.
    """

    encoder: TextEncoder

    def __init__(
        self,
        encoder: TextEncoder,
        optimizer: OptimizerConfig,
        loss: ContrastiveLossConfig,
        *,
        soft_labels: SoftLabelConfig | None = None,
        mixing: MixingConfig | None = None,
        chunk_tokens: int = 0,
        num_steps: int | None = None,
    ) -> None:
        super().__init__(encoder, optimizer, num_steps)
        self.loss = loss
        self.soft_labels = soft_labels or SoftLabelConfig()
        self.mixing = mixing or MixingConfig()
        self.chunk_tokens = chunk_tokens
        self.mrl_dims: Sequence[int] = loss.mrl_dims or [encoder.dim]
        self.mrl_weights: Sequence[float] = loss.mrl_weights or [1.0]
        self.hparams.update(
            loss=asdict(loss),
            soft_labels=asdict(self.soft_labels),
            mixing=asdict(self.mixing),
            chunk_tokens=chunk_tokens,
        )

    def training_step(self, batch: PairBatch) -> torch.Tensor:
        """The weighted sum of the terms that the settings ask for, over this process's rows."""
        s = self.loss
        texts = [*batch.queries, *batch.documents, *batch.anchors]
        raw = encode_in_chunks(self.encoder, texts, self.chunk_tokens)
        queries, documents, anchors = torch.split(
            raw, [len(batch.queries), len(batch.documents), len(batch.anchors)]
        )
        candidates = self._gather_columns(documents, batch.num_columns)
        terms = []
        if s.contrastive_weight > 0:
            terms.append(s.contrastive_weight * self._contrastive(queries, candidates, batch))
        if batch.soft is not None:
            terms.append(self.soft_labels.weight * self._soft(queries, candidates, batch))
        if s.gor_weight > 0:
            terms.append(s.gor_weight * self._orthogonality(queries, candidates, batch))
        if len(batch.anchors):
            distance = truncate_then_normalize(anchors) - send(batch.anchor_targets, raw.device)
            terms.append(s.anchor_weight * distance.square().sum(dim=1).mean())
        loss = torch.stack(terms).sum()
        self.record(loss)
        return loss * batch.loss_weight

    def _gather_columns(self, documents: torch.Tensor, num_columns: int) -> torch.Tensor:
        """(C, D) documents of all processes.

        Gradients flow through the gather and DDP averages: equal to one process with the global
        batch.
        """
        if self.trainer.world_size == 1:
            return documents
        padding = documents.new_ones(num_columns - len(documents), documents.shape[1])
        return gather_rows(torch.cat([documents, padding]))

    def _contrastive(
        self, queries: torch.Tensor, candidates: torch.Tensor, batch: PairBatch
    ) -> torch.Tensor:
        """InfoNCE over in-batch, hard and mixed negatives, at every Matryoshka dimension."""
        s, device = self.loss, queries.device
        extra = (
            None if batch.mixing is None else self._mix(queries, candidates, batch, batch.mixing)
        )
        extra_masked = None if batch.mixing is None else send(batch.mixing.masked, device)
        return matryoshka_info_nce(
            queries,
            candidates,
            send(batch.positives, device),
            s.temperature,
            # cosines differ by 2 at most: rounding must not mask where nothing is to be masked
            margin=s.false_negative_margin if s.false_negative_margin < 2 else None,
            masked=send(batch.masked, device),
            dims=self.mrl_dims,
            weights=self.mrl_weights,
            gamma=s.focal_gamma,
            extra=extra,
            extra_masked=extra_masked,
        )

    def _mix(
        self, queries: torch.Tensor, candidates: torch.Tensor, batch: PairBatch, plan: MixingPlan
    ) -> torch.Tensor:
        """(b, E, D) synthetic negatives; full vectors are mixed, the loss cuts them."""
        device = queries.device
        unit_CD = truncate_then_normalize(candidates)
        mixed = mix_pairwise(
            unit_CD[send(plan.first, device)],
            unit_CD[send(plan.second, device)],
            send(plan.share, device),
        )
        listed = send(plan.listed, device)
        hard_BMD = unit_CD[send(batch.own[:, 1:], device)]
        lists_BEMD = hard_BMD[:, None].expand(-1, listed.shape[1], -1, -1)
        query_BD = truncate_then_normalize(queries)
        return torch.cat(
            [
                mixed,
                mix_listwise(query_BD, lists_BEMD, listed, self.mixing.temperature),
            ],
            dim=1,
        )

    def _soft(
        self, queries: torch.Tensor, candidates: torch.Tensor, batch: PairBatch
    ) -> torch.Tensor:
        """Soft labels over each row's own candidates, at every Matryoshka dimension."""
        s, device = self.soft_labels, queries.device
        assert batch.soft is not None
        own, present, teacher = (
            send(batch.own, device),
            send(batch.present, device),
            send(batch.soft, device),
        )

        def loss(dim: int) -> torch.Tensor:
            q_BD, c_CD = (
                truncate_then_normalize(queries, dim),
                truncate_then_normalize(candidates, dim),
            )
            student_BK = inner_products(q_BD[:, None], c_CD[own])[:, 0]
            if s.kind == "mse":
                return soft_mse(student_BK, teacher, present)
            return soft_kl(student_BK, teacher, present, s.temperature)

        return at_each_dimension(loss, self.mrl_dims, self.mrl_weights)

    def _orthogonality(
        self, queries: torch.Tensor, candidates: torch.Tensor, batch: PairBatch
    ) -> torch.Tensor:
        """The orthogonality regulariser (GOR) on all queries and documents of the global batch."""
        if self.trainer.world_size > 1:
            queries = gather_rows(queries)
        # chosen by number: the device would be waited for to learn how many a mask leaves
        real = torch.nonzero(~batch.is_padding)[:, 0]
        documents = candidates[send(real, candidates.device)]
        return at_each_dimension(
            lambda d: sum(
                (orthogonality_loss(truncate_then_normalize(v, d)) for v in (queries, documents)),
                queries.new_zeros(()),
            ),
            self.mrl_dims,
            self.mrl_weights,
        )
