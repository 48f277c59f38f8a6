"""A student within a budget of wall-clock seconds, by the library's own distillation.

The budget begins when the teacher's vectors are there: reading the start model, tokenizing, the
closed form, checks and training count. How much of each there is room for is planned from a short
training of a copy, which counts too.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from lightning.pytorch.callbacks import Callback

from leafkit.config import StudentConfig
from leafkit.embedders.make_embedder import make_embedder
from leafkit.embedders.protocol import LocalEmbedder
from leafkit.index.vectors import Vectors
from leafkit.models.checkpoint import load_encoder
from leafkit.models.text_encoder import TextEncoder
from leafkit.pipeline.embed import load_vectors
from leafkit.pipeline.student.static import distill_static
from leafkit.pipeline.student.targets import (
    DOCUMENTS,
    QUERIES,
    Distillation,
    Distilled,
    Target,
)
from leafkit.pipeline.student.transformer import distill_transformer, plan_batches
from leafkit.train.trainer_options import TrainerOptions
from lib.case import Case

_START_SHARE = 0.4  # of the budget, at most, for the closed form
_MARGIN = 0.06  # of the budget, for what a busy machine does to a plan
_FEWEST_TRIAL_BATCHES, _MOST_TRIAL_BATCHES, _TRIAL_RIDGE_TEXTS = 2, 6, 64
_TRIALS_PER_MINUTE = 2  # batches of the trial for each minute of the budget
_FORWARD = 3.0  # a training step costs about as much as three encodings of its texts
_FEWEST_RIDGE_TEXTS = 256
_BATCHES_PER_CHECK = 4  # checks of a short training would be most of it


class Clock:
    """A budget of seconds that begins now; pauses do not count.

    Args:
        budget_s: of wall-clock time.
    """

    def __init__(self, budget_s: float) -> None:
        self.budget_s = budget_s
        self._started = time.perf_counter(), time.process_time()
        self._paused_s = self._paused_cpu_s = 0.0

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.perf_counter() - self._started[0] - self._paused_s

    @property
    def cpu_s(self) -> float:
        """Of all threads of this process since it began."""
        return time.process_time() - self._started[1] - self._paused_cpu_s

    @property
    def left_s(self) -> float:
        """Of the budget; negative beyond it."""
        return self.budget_s - self.seconds

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time that does not count: the teacher's."""
        began = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self._paused_s += time.perf_counter() - began[0]
            self._paused_cpu_s += time.process_time() - began[1]


class Stop(Callback):
    """Ends a training at the end of the budget, and notes how long its batches take.

    Attributes:
        marks: seconds of the clock after each batch.
        num_stopped: trainings that were ended early.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.marks: list[float] = []
        self.num_stopped = 0

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop where the time is up."""
        self.marks.append(self._clock.seconds)
        if self._clock.left_s <= 0 and not trainer.should_stop:
            trainer.should_stop = True
            self.num_stopped += 1


@dataclass(frozen=True, slots=True)
class Timed:
    """A student and what it took.

    Attributes:
        distilled: with the student.
        config: as it was planned.
        num_steps: of the training.
        was_stopped: the end of the budget came before the end of the plan.
    """

    distilled: Distilled
    config: StudentConfig
    num_steps: int
    was_stopped: bool

    def embedder(self, case: Case) -> LocalEmbedder:
        """The student, made ready to embed."""
        return make_embedder(self.distilled.student, case.run.device, case.run.precision)


@dataclass(frozen=True, slots=True)
class Speed:
    """Of this machine at this moment.

    Attributes:
        batch_s: seconds of a batch in training.
        token_s: of a token that is encoded.
    """

    batch_s: float
    token_s: float


def distill_in_time(case: Case, config: StudentConfig, clock: Clock, seed: int) -> Timed:
    """A student of any kind; a budget that is too short for any training gives the closed form.

    Args:
        case: texts and vectors.
        config: of the student; numbers of epochs, checks and texts of the closed form are planned,
            those of a static student stay and are cut where the time is up.
        clock: begun when the vectors were there.
        seed: of the training; the texts are the recipe's.
    """
    stop = Stop(clock)
    start = load_encoder(config.init)
    task = _task(case, config, clock, stop, seed=seed)
    if config.kind == "static":
        return Timed(distill_static(start, task), config, len(stop.marks), stop.num_stopped > 0)
    planned = plan_in_time(start, task, clock)
    stop.marks.clear()
    found = distill_transformer(start, replace(task, config=planned))
    return Timed(found, planned, len(stop.marks), stop.num_stopped > 0)


def plan_in_time(start: TextEncoder, task: Distillation, clock: Clock) -> StudentConfig:
    """The student's settings with as many texts of the closed form, epochs and checks as there is
    time for.
    """
    config = task.config
    lengths = [
        [len(ids) for ids in start.tokenize(t.texts, t.role, task.limits.of(t.role))]
        for t in task.targets
    ]
    speed = measure_speed(start, task, lengths, clock)
    config = _size_start(config, task.targets, lengths, speed, clock.budget_s)
    if config.kind == "instant":
        return config
    rows = [
        length
        for target, found in zip(task.targets, lengths, strict=True)
        for _ in range(target.repeats)
        for length in found
    ]
    per_epoch = len(plan_batches(replace(task, config=replace(config, num_epochs=1.0)), rows))
    start_s = speed.token_s * _tokens_of_start(config, task.targets, lengths)
    left_s = clock.left_s - start_s - _MARGIN * clock.budget_s
    num_batches = int(left_s / speed.batch_s)
    num_checks = min(config.num_checks, num_batches // _BATCHES_PER_CHECK)
    held_s = speed.token_s * config.num_held_out * _mean_length(task.targets, lengths)
    num_batches = int((left_s - held_s * (num_checks + 1)) / speed.batch_s)
    if num_batches < 1:
        return replace(config, kind="instant")
    return replace(config, num_epochs=num_batches / per_epoch, num_checks=num_checks)


def measure_speed(
    start: TextEncoder, task: Distillation, lengths: Sequence[Sequence[int]], clock: Clock
) -> Speed:
    """Time of a few batches of a copy, trained on a few of the texts with the same losses."""
    config = task.config
    num_batches = round(clock.budget_s / 60 * _TRIALS_PER_MINUTE)
    num_batches = min(max(num_batches, _FEWEST_TRIAL_BATCHES), _MOST_TRIAL_BATCHES)
    wanted = config.tokens_per_batch * num_batches
    sample, sampled = [], 0
    chooser = np.random.default_rng(task.seed)
    for target, found in zip(task.targets, lengths, strict=True):
        order = chooser.permutation(len(found))
        share = wanted * sum(found) / max(1, sum(map(sum, lengths)))
        count = int(np.searchsorted(np.cumsum(np.asarray(found)[order]), share)) + 1
        least = _TRIAL_RIDGE_TEXTS if target.origin in (DOCUMENTS, QUERIES) else 1
        rows = np.sort(order[: max(count, least)])
        texts = [target.texts[i] for i in rows]
        vectors = np.asarray(target.vectors[rows], dtype=np.float32)
        sample.append(replace(target, texts=texts, vectors=vectors, repeats=1))
        sampled += sum(found[i] for i in rows)
    stop = Stop(clock)
    trial = replace(
        config, kind="transformer", num_epochs=1.0, num_checks=0, num_ridge_texts=_TRIAL_RIDGE_TEXTS
    )
    distill_transformer(
        copy.deepcopy(start),
        replace(
            task,
            targets=sample,
            config=trial,
            options=lambda training: TrainerOptions(callbacks=[stop]),
        ),
    )
    steps = np.diff(stop.marks)  # without the first batch, which allocates
    batch_s = float(np.mean(steps)) if len(steps) else clock.seconds
    tokens = sampled / max(1, len(stop.marks))
    return Speed(batch_s, batch_s / tokens / _FORWARD)


def _size_start(
    config: StudentConfig,
    targets: Sequence[Target],
    lengths: Sequence[Sequence[int]],
    speed: Speed,
    budget_s: float,
) -> StudentConfig:
    """As many texts of each origin as the closed form's share of the budget encodes."""
    room = _START_SHARE * budget_s / speed.token_s
    needed = _tokens_of_start(config, targets, lengths)
    if needed <= room:
        return config
    fewer = int(config.num_ridge_texts * room / needed)
    return replace(config, num_ridge_texts=max(_FEWEST_RIDGE_TEXTS, fewer))


def _tokens_of_start(
    config: StudentConfig, targets: Sequence[Target], lengths: Sequence[Sequence[int]]
) -> float:
    """Tokens that the closed form reads: of each origin its texts and an eighth of them to measure
    on.
    """
    total = 0.0
    for origin in dict.fromkeys(target.origin for target in targets):
        found = [
            n
            for target, each in zip(targets, lengths, strict=True)
            if target.origin == origin
            for n in each
        ]
        count = min(len(found), config.num_ridge_texts * 9 // 8)
        total += count * float(np.mean(found)) if found else 0.0
    return total


def _mean_length(targets: Sequence[Target], lengths: Sequence[Sequence[int]]) -> float:
    """Of what is likely to be held out: queries, where there are any."""
    asked = [n for t, each in zip(targets, lengths, strict=True) if t.role == "query" for n in each]
    return float(np.mean(asked or [n for each in lengths for n in each]))


def _task(
    case: Case, config: StudentConfig, clock: Clock, stop: Stop, *, seed: int
) -> Distillation:
    run, teacher = case.run, case.teacher

    def embed(texts: Sequence[str], role: str, max_tokens: int, what: str) -> Vectors:
        with clock.paused():
            return load_vectors(
                run,
                teacher.model,
                teacher.name,
                texts,
                role=role,
                max_tokens=max_tokens,
                what=what,
            )

    return Distillation(
        teacher=teacher,
        targets=case.targets,
        config=config,
        limits=case.home.limits,
        embed=embed,
        device=run.device,
        precision=run.precision,
        seed=seed,
        options=lambda training: TrainerOptions(callbacks=[stop]),
    )
