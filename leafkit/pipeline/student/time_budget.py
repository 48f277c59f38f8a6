"""How many batches a time budget holds, by the speed that this machine shows first."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from lightning.pytorch.callbacks import Callback

from leafkit.core.console import log
from leafkit.core.devices import kind_of
from leafkit.models.text_encoder import TextEncoder
from leafkit.pipeline.student.targets import Distillation
from leafkit.train.batch_list import BatchList
from leafkit.train.fit import fit
from leafkit.train.leaf_module import LeafModule
from leafkit.train.resume import find_state
from leafkit.train.trainer_options import TrainerOptions

NUM_PROBED = 8  # batches; the first one warms up and is not counted
_FEWEST_PROBED = 3
_PROBED_SHARE = 0.1  # of a budget, after which a slow machine's probe ends


class Stopwatch(Callback):
    """Seconds from the end of the first batch to the end of the last, per batch. The first process
    decides for all, which must plan alike.

    Args:
        enough_s: seconds after which the training ends, three batches long at least.
    """

    def __init__(self, enough_s: float) -> None:
        self.seconds_per_batch = 0.0
        self._began_s, self._enough_s = time.perf_counter(), enough_s
        self._ends_s: list[float] = []

    def on_train_batch_end(self, trainer: Any, *of_batch: Any) -> None:
        """Take the time; that of the first batch when the device has really ended it."""
        if not self._ends_s:
            kind_of(trainer.strategy.root_device).wait()
        self._ends_s.append(time.perf_counter())
        is_enough = self._ends_s[-1] - self._began_s > self._enough_s
        if len(self._ends_s) >= _FEWEST_PROBED and trainer.strategy.broadcast(is_enough):
            trainer.should_stop = True

    def on_train_end(self, trainer: Any, module: Any) -> None:
        """Divide."""
        kind_of(trainer.strategy.root_device).wait()
        self._ends_s[-1] = time.perf_counter()
        spent_s = self._ends_s[-1] - self._ends_s[0]
        self.seconds_per_batch = trainer.strategy.broadcast(spent_s / (len(self._ends_s) - 1))


def plan_budget(
    student: TextEncoder,
    task: Distillation,
    options: TrainerOptions,
    probed: Callable[[], BatchList],
    *,
    check: Callable[[], object] | None,
) -> tuple[int, TrainerOptions]:
    """Batches that ``student.minutes`` holds, and the Trainer's options that remember them: a
    training that goes on keeps its plan, whatever the speed of today.

    Args:
        student: see ``count_batches``; so are task and check.
        task: settings.
        options: of the training.
        probed: makes the batches that the speed is measured on.
        check: one check of the training; None where there are none.
    """
    place = options.checkpoints
    begun = find_state(place) if place is not None else None
    if begun is not None:
        num_batches = int(begun.facts["num_batches"])
    else:
        num_batches = count_batches(student, task, probed(), check)
    if place is None:
        return num_batches, options
    place = replace(place, facts={"num_batches": num_batches})
    return num_batches, replace(options, checkpoints=place)


def count_batches(
    student: TextEncoder,
    task: Distillation,
    probed: BatchList,
    check: Callable[[], object] | None,
) -> int:
    """Batches that ``student.minutes`` holds beside the checks.

    A copy of the student is trained for a few batches, so that the student begins where it was.

    Args:
        student: that is to be trained.
        task: settings.
        probed: at least two batches like those of the training.
        check: one check of the training; None where there are none.
    """
    config, started_s = task.config, time.perf_counter()
    seconds_per_check = 0.0
    if check is not None:
        check()
        seconds_per_check = time.perf_counter() - started_s
    watch = Stopwatch(_PROBED_SHARE * config.minutes * 60)
    options = replace(task.options("probe"), callbacks=[watch], loggers=[], checkpoints=None)
    fit(
        LeafModule(copy.deepcopy(student), config.optimizer, losses=config.losses),
        probed,
        title="student: measuring the speed",
        device=task.device,
        precision=task.precision,
        seed=task.seed,
        options=options,
    )
    count = batches_within(
        config.minutes * 60,
        spent_s=time.perf_counter() - started_s,
        seconds_per_batch=watch.seconds_per_batch,
        checks_s=(config.num_checks + 1) * seconds_per_check,
    )
    log(
        f"  {config.minutes:g} minutes hold {count:,} batches of {watch.seconds_per_batch:.2f} s"
        + (f" and {config.num_checks:,} checks of {seconds_per_check:.1f} s" if check else "")
    )
    return count


def batches_within(
    budget_s: float, *, spent_s: float, seconds_per_batch: float, checks_s: float
) -> int:
    """Batches for what is left of a budget; one at least.

    >>> batches_within(600, spent_s=20, seconds_per_batch=2, checks_s=80)
    250
    >>> batches_within(10, spent_s=20, seconds_per_batch=2, checks_s=80)
    1
    """
    left_s = budget_s - spent_s - checks_s
    return max(1, int(left_s / max(seconds_per_batch, 1e-9)))
