"""A student's training by leafkit's own loop, timed from some step on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lightning.pytorch.callbacks import Callback

from gpu_parts.made import fake_targets
from leafkit.config import OptimizerConfig, StudentLosses
from leafkit.core.devices import kind_of
from leafkit.data.batching import token_budget_batches
from leafkit.models.text_encoder import TextEncoder
from leafkit.train.batch_list import BatchList
from leafkit.train.encoder_module import EncoderModule
from leafkit.train.fit import fit
from leafkit.train.leaf_module import LeafBatch, LeafModule
from leafkit.train.student_terms import ScoredRows
from leafkit.train.trainer_options import TrainerOptions


class StepClock(Callback):
    """Times the steps of a training behind the first ones, which warm up.

    Args:
        device: that is waited for.
        num_warm: steps that do not count.

    Attributes:
        seconds: of the steps that count.
        num_steps: that count.
    """

    def __init__(self, device: torch.device, num_warm: int) -> None:
        self._device, self._num_warm = device, num_warm
        self._started_s = self.seconds = 0.0
        self.num_steps = 0

    def on_train_batch_end(  # noqa: PLR0917 - Lightning's signature
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Begin behind the last step that warms up."""
        if batch_idx + 1 == self._num_warm:
            kind_of(self._device).wait()
            self._started_s = time.perf_counter()
        self.num_steps = max(0, batch_idx + 1 - self._num_warm)

    def on_train_end(self, trainer: Any, module: Any) -> None:
        """End when the device has done all."""
        kind_of(self._device).wait()
        self.seconds = time.perf_counter() - self._started_s


@dataclass(frozen=True, slots=True)
class Budget:
    """Batches of a student's training.

    Attributes:
        tokens_per_batch: padded tokens.
        max_texts: of a batch.
        num_steps: of the training.
        num_warm: of them, that are not timed.
    """

    tokens_per_batch: int
    max_texts: int
    num_steps: int
    num_warm: int


@dataclass(frozen=True, slots=True)
class Timed:
    """What a training took.

    Attributes:
        seconds: of the timed steps.
        lengths: tokens of every text in them.
        num_steps: of them.
    """

    seconds: float
    lengths: list[int]
    num_steps: int


def run_fit(
    module: EncoderModule, batches: BatchList, device: torch.device, clock: StepClock
) -> list[float]:
    """The losses of a training in bf16."""
    return fit(
        module,
        batches,
        title="train",
        device=device,
        precision=torch.bfloat16,
        seed=0,
        options=TrainerOptions(callbacks=[clock]),
    )


def train_student(
    student: TextEncoder,
    ids: Sequence[Any],
    budget: Budget,
    device: torch.device,
    *,
    losses: StudentLosses | None = None,
    score: Callable[[np.ndarray, int], ScoredRows | None] = lambda rows, step: None,
) -> Timed:
    """The recipe's method on made targets; batches come again where the texts are used up.

    Args:
        student: trained in place.
        ids: token ids by text.
        budget: of the batches.
        device: computed on.
        losses: weights of the terms; None is L2 alone.
        score: candidates of a batch's rows.
    """
    lengths = [len(one) for one in ids]
    plan = token_budget_batches(lengths, budget.tokens_per_batch, budget.max_texts, 0, epoch=0)
    targets = fake_targets(len(ids), student.dim)

    def make(step: int) -> LeafBatch:
        rows = plan[step % len(plan)]
        vectors = torch.from_numpy(targets[np.asarray(rows)])
        return LeafBatch([ids[r] for r in rows], vectors, len(rows), scored=score(rows, step))

    clock = StepClock(device, budget.num_warm)
    module = LeafModule(student, OptimizerConfig(), losses=losses)
    run_fit(module, BatchList(budget.num_steps, make), device, clock)
    steps = range(budget.num_warm, budget.num_steps)
    read = [lengths[r] for step in steps for r in plan[step % len(plan)]]
    return Timed(clock.seconds, read, clock.num_steps)
