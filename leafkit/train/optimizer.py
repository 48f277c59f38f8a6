"""AdamW with a linear warm-up and decay, in one cycle or several."""

from __future__ import annotations

import bisect

import torch
from torch import nn

from leafkit.config import OptimizerConfig
from leafkit.core.devices import kind_of


def lr_share(step: int, config: OptimizerConfig, num_steps: int) -> float:
    """Learning rate of an optimizer step (0-based) of ``num_steps`` as a share of the peak.

    It climbs once and falls in every cycle, which are of equal length (LEAF, arXiv 2509.12539);
    fewer steps than cycles are a cycle each.

    >>> config = OptimizerConfig(warmup_ratio=0, final_lr_ratio=0.1, num_cycles=2)
    >>> [round(lr_share(step, config, 8), 2) for step in range(8)]
    [1.0, 0.7, 0.4, 0.1, 1.0, 0.7, 0.4, 0.1]
    """
    cycles = min(config.num_cycles, num_steps)
    ends = [round((i + 1) * num_steps / cycles) for i in range(cycles)]
    cycle = min(bisect.bisect_right(ends, step), cycles - 1)
    begin = ends[cycle - 1] if cycle else 0
    warmup = max(1, round(config.warmup_ratio * num_steps)) if cycle == 0 else 1
    step, length = step - begin, ends[cycle] - begin
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup + 1) / max(1, length - warmup)
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
    fused = kind_of(trained[0].device).has_fused_adamw
    optimizer = torch.optim.AdamW([g for g in groups if g["params"]], lr=config.lr, fused=fused)
    return optimizer, build_schedule(optimizer, config, num_steps)


def build_schedule(
    optimizer: torch.optim.Optimizer, config: OptimizerConfig, num_steps: int
) -> torch.optim.lr_scheduler.LambdaLR:
    """Warm-up and decay of every parameter group's learning rate."""
    return torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: lr_share(step, config, num_steps)
    )
