"""AdamW and its schedule, for every model that is trained."""

from __future__ import annotations

from dataclasses import dataclass

from leafkit.config.fields import number


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW with a linear warm-up and a linear decay."""

    lr: float = number(1e-4, "Peak learning rate.", above=0, high=1)
    warmup_ratio: float = number(
        0.05, "Share of the steps in which the learning rate climbs from 0.", low=0, high=1
    )
    final_lr_ratio: float = number(
        0.1, "Learning rate of the last step as a share of the peak.", low=0, high=1
    )
    weight_decay: float = number(0.01, "Of matrices; biases and norms have none.", low=0, high=10)
    max_grad_norm: float = number(
        1.0, "Gradients are scaled down to this length.", above=0, high=1e6
    )
