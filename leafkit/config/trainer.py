"""How every model is trained: AdamW with its schedule, and what is passed through to Lightning's
Trainer.
"""

from __future__ import annotations

from dataclasses import dataclass

from leafkit.config.fields import choice, number, texts

LOGGERS = ("csv", "tensorboard", "wandb")
# fixed: a downloaded recipe must not name code that is then run
CALLBACKS = ("lr_monitor", "device_stats")
STRATEGIES = ("auto", "ddp", "fsdp")


@dataclass(frozen=True)
class TrainerConfig:
    """Loggers, callbacks, strategy and gradient accumulation of every training of the recipe."""

    loggers: list[str] = texts(
        [],
        "Who gets loss, learning rate and gradient norm; written into the step's own folder logs/.",
        choices=LOGGERS,
    )
    callbacks: list[str] = texts(
        [],
        "Lightning's LearningRateMonitor and DeviceStatsMonitor; they need a logger.",
        choices=CALLBACKS,
    )
    strategy: str = choice(
        "auto",
        "auto takes DDP where several processes were launched; fsdp shares weights, gradients and "
        "moments out among them, for a model that does not fit one device. ddp and fsdp refuse to "
        "run in one process.",
        STRATEGIES,
    )
    accumulate_grad_batches: int = number(
        1,
        "Batches per optimizer step. Their gradients are those of one larger batch, but in-batch "
        "negatives stay within a batch; steps, warm-up and decay count optimizer steps.",
        above=0,
        high=10_000,
    )
    checkpoint_minutes: float = number(
        10.0,
        "Between two saves of a training's state, from which the same command goes on after a "
        "kill; SIGTERM and Ctrl-C save at once. 0 saves nothing: what is cut short begins anew.",
        unit="minutes",
        low=0,
        high=100_000,
    )


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW with a linear warm-up and a linear decay, once or in several cycles."""

    lr: float = number(1e-4, "Peak learning rate.", above=0, high=1)
    warmup_ratio: float = number(
        0.05, "Share of the steps in which the learning rate climbs from 0.", low=0, high=1
    )
    final_lr_ratio: float = number(
        0.1, "Learning rate of a cycle's last step as a share of the peak.", low=0, high=1
    )
    num_cycles: int = number(
        1,
        "Times that the learning rate falls from the peak to the final share, over equal parts of "
        "the steps; LEAF takes 3. Warm-up is at the beginning of the first alone.",
        above=0,
        high=1000,
    )
    weight_decay: float = number(0.01, "Of matrices; biases and norms have none.", low=0, high=10)
    max_grad_norm: float = number(
        1.0, "Gradients are scaled down to this length.", above=0, high=1e6
    )
