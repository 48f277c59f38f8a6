"""AdamW with a linear warm-up and decay."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True, slots=True)
class OptimizerSettings:
    """AdamW's numbers.

    Attributes:
        lr: peak learning rate.
        num_steps: optimiser steps, counted from the data by the caller (never asked of the Trainer:
            traps of Lightning).
        warmup_ratio: share of the steps that the rate climbs from 0.
        final_lr_ratio: rate of the last step over the peak.
        weight_decay: on matrices only; biases and norms have none.
        max_grad_norm: gradients are scaled down to this length.
    """

    lr: float
    num_steps: int
    warmup_ratio: float
    final_lr_ratio: float
    weight_decay: float
    max_grad_norm: float


def lr_share(step: int, settings: OptimizerSettings) -> float:
    """Learning rate of a step (0-based) as a share of the peak."""
    warmup = max(1, round(settings.warmup_ratio * settings.num_steps))
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup + 1) / max(1, settings.num_steps - warmup)
    return 1 - (1 - settings.final_lr_ratio) * min(done, 1.0)


def build_optimizer(
    module: nn.Module, settings: OptimizerSettings
) -> tuple[torch.optim.AdamW, torch.optim.lr_scheduler.LambdaLR]:
    """AdamW (fused where the device has it) and its schedule, stepped once per optimiser step."""
    trained = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    fused = trained[0].device.type in {"cpu", "cuda"}
    optimizer = torch.optim.AdamW([g for g in groups if g["params"]], lr=settings.lr, fused=fused)
    return optimizer, torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: lr_share(step, settings)
    )
