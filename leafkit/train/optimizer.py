"""AdamW with a linear warm-up and decay."""

from __future__ import annotations

import torch
from torch import nn

from leafkit.config import OptimizerConfig


def lr_share(step: int, config: OptimizerConfig, num_steps: int) -> float:
    """Learning rate of an optimizer step (0-based) of ``num_steps`` as a share of the peak."""
    warmup = max(1, round(config.warmup_ratio * num_steps))
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup + 1) / max(1, num_steps - warmup)
    return 1 - (1 - config.final_lr_ratio) * min(done, 1.0)


def build_optimizer(
    module: nn.Module, config: OptimizerConfig, num_steps: int
) -> tuple[torch.optim.AdamW, torch.optim.lr_scheduler.LambdaLR]:
    """AdamW (fused where the device has it) and its schedule, stepped once per optimizer step.

    Args:
        module: whose trainable parameters are optimized.
        config: learning rate, decay and schedule.
        num_steps: optimizer steps; with gradient accumulation fewer than batches.
    """
    trained = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    fused = trained[0].device.type in {"cpu", "cuda"}
    optimizer = torch.optim.AdamW([g for g in groups if g["params"]], lr=config.lr, fused=fused)
    return optimizer, build_schedule(optimizer, config, num_steps)


def build_schedule(
    optimizer: torch.optim.Optimizer, config: OptimizerConfig, num_steps: int
) -> torch.optim.lr_scheduler.LambdaLR:
    """Warm-up and decay of every parameter group's learning rate."""
    return torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: lr_share(step, config, num_steps)
    )
