"""The Lightning module of a static student.

Shapes: B texts, N tokens of all of them, R rows of the table that training can reach, H width, D
    output dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from leafkit.config import OptimizerConfig
from leafkit.core.devices import kind_of, send
from leafkit.losses.leaf import cosine_loss
from leafkit.models.static_encoder import StaticEncoder
from leafkit.train.encoder_module import EncoderModule
from leafkit.train.optimizer import build_schedule

# of the table's learning rate: W_out takes part in every text, a row of the table in few
PROJECTION_LR_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class StaticBatch:
    """One process's share of a batch, its texts one behind the other.

    ``weight`` is 0 for a stand-in text given to a process that would have none; it takes part in no
    loss. ``loss_weight`` is that of the batch among those whose gradients are accumulated.
    """

    rows_N: torch.Tensor  # which row of ``StaticModule.rows`` each token has
    starts_B: torch.Tensor  # where in it each text begins
    targets_BD: torch.Tensor  # teacher vectors
    num_global_rows: int
    weight: float = 1.0
    loss_weight: float = 1.0


def join_texts(
    rows: Sequence[np.ndarray], targets_BD: np.ndarray, num_global_rows: int, weight: float = 1.0
) -> StaticBatch:
    """A batch of texts, each given as the rows of its tokens; a text may have none."""
    starts = np.cumsum([0, *(len(r) for r in rows[:-1])])
    joined = torch.from_numpy(np.concatenate(rows).astype(np.int64))
    return StaticBatch(
        joined, torch.from_numpy(starts), torch.from_numpy(targets_BD), num_global_rows, weight
    )


class StaticModule(EncoderModule):
    """LEAF distillation (arXiv 2509.12539) of a table of token vectors, by 1 - cosine.

    Only tokens that occur are trained, in a small table of their own: the others' gradient and
    moments would stay zero and cost most of a step's arithmetic.

    Args:
        encoder: trained in place; ``write_back`` brings the rows into its table.
        optimizer: of the table; W_out follows at a share of the learning rate.
        token_ids: (R,) those that occur, without repetition.
        num_steps: optimizer steps.
    """

    encoder: StaticEncoder

    def __init__(
        self,
        encoder: StaticEncoder,
        optimizer: OptimizerConfig,
        token_ids: np.ndarray,
        num_steps: int | None = None,
    ) -> None:
        super().__init__(encoder, optimizer, num_steps)
        encoder.table.weight.requires_grad_(False)
        self.token_ids = torch.from_numpy(token_ids)
        self.rows = nn.EmbeddingBag.from_pretrained(
            encoder.table.weight[self.token_ids], freeze=False, mode="mean"
        )

    def training_step(self, batch: StaticBatch) -> torch.Tensor:
        device = self.rows.weight.device
        rows_N, starts_B = send(batch.rows_N, device), send(batch.starts_B, device)
        raw_BD = self.encoder.project(self.rows(rows_N, starts_B))
        # DDP averages over processes
        share = batch.weight * self.trainer.world_size / batch.num_global_rows
        loss = cosine_loss(raw_BD, send(batch.targets_BD, device)) * share
        self.record(loss)
        return loss * batch.loss_weight

    def configure_optimizers(self) -> Any:
        """AdamW with two learning rates on one schedule."""
        s = self.optimizer_config
        groups = [
            {"params": [self.rows.weight], "lr": s.lr, "weight_decay": s.weight_decay},
            {
                "params": list(self.encoder.projection.parameters()),
                "lr": PROJECTION_LR_SHARE * s.lr,
                "weight_decay": 0.0,
            },
        ]
        optimizer = torch.optim.AdamW(
            groups, fused=kind_of(self.rows.weight.device).has_fused_adamw
        )
        schedule = build_schedule(optimizer, s, self.planned_steps())
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def trained(self) -> nn.ModuleDict:
        """What a training changes: the small table and W_out."""
        return nn.ModuleDict({"rows": self.rows, "projection": self.encoder.projection})

    def copy_rows(self) -> None:
        """Bring the encoder's table up to date with the rows as they are."""
        with torch.no_grad():
            self.encoder.table.weight[self.token_ids] = self.rows.weight.detach().to(
                self.encoder.table.weight.device
            )

    def write_back(self) -> None:
        """Put the trained rows into the encoder's table, and let that be trained again."""
        self.copy_rows()
        self.encoder.table.weight.requires_grad_(True)
