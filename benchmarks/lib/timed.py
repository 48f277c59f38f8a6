"""A student within a budget of wall-clock seconds, by the library's own distillation.

The budget begins when the teacher's vectors are there: reading the start model, tokenizing, the
closed form, checks and training count. How many texts of the closed form there is room for, and
whether for the start's own scores, is planned from the time of a few encodings, the training by
``student.minutes``, which measures its own speed.
"""

from __future__ import annotations

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
from leafkit.embedders.transformer import TransformerEmbedder
from leafkit.index.vectors import Vectors
from leafkit.models.text_encoder import TextEncoder
from leafkit.pipeline.embed import load_vectors
from leafkit.pipeline.student.candidates import can_score
from leafkit.pipeline.student.start import load_start
from leafkit.pipeline.student.static import distill_static
from leafkit.pipeline.student.targets import Distillation, Distilled, Target
from leafkit.pipeline.student.text_groups import MADE_QUERIES, PSEUDO_TEXTS
from leafkit.pipeline.student.transformer import distill_transformer
from leafkit.train.student_terms import needs_candidates
from leafkit.train.trainer_options import TrainerOptions
from lib.case import Case

_START_SHARE = 0.4  # of the budget, at most, for the closed form
_SCORES_SHARE = 0.6  # for it and the start's own scores, which are worth more than as many steps
_MARGIN = 0.03  # of the budget, for what a busy machine does to a plan
_TIMED_TOKENS = 4096  # encoded to learn the speed
_FEWEST_RIDGE_TEXTS = 256
_LEAST_TRAINING_S = 5.0  # below which the closed form is all there is time for


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
    """Ends a training at the end of the budget.

    Attributes:
        num_stopped: trainings that were ended early.
        num_texts: that were trained on, each as often as it was seen.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.num_stopped = self.num_texts = 0

    def on_train_batch_end(  # noqa: PLR0917 - Lightning's signature
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop where the time is up."""
        self.num_texts += batch.num_global_rows
        if self._clock.left_s <= 0 and not trainer.should_stop:
            trainer.should_stop = True
            self.num_stopped += 1


@dataclass(frozen=True, slots=True)
class Timed:
    """A student and what it took.

    Attributes:
        distilled: with the student.
        config: as it was planned.
        num_texts: that were trained on, each as often as it was seen.
        was_stopped: the end of the budget came before the end of the plan.
    """

    distilled: Distilled
    config: StudentConfig
    num_texts: int
    was_stopped: bool

    @property
    def num_steps(self) -> int:
        """Of the training."""
        return len(self.distilled.losses)

    def embedder(self, case: Case) -> LocalEmbedder:
        """The student, made ready to embed."""
        return make_embedder(self.distilled.student, case.run.device, case.run.precision)


def distill_in_time(case: Case, config: StudentConfig, clock: Clock, seed: int) -> Timed:
    """A student of any kind; a budget that is too short for any training gives the closed form.

    Args:
        case: texts and vectors.
        config: of the student; its minutes and the number of texts of the closed form are planned.
            The epochs of a static student stay and are cut where the time is up.
        clock: begun when the vectors were there.
        seed: of the training; the texts are the recipe's.
    """
    stop = Stop(clock)
    start = load_start(config)
    task = _task(case, config, clock, stop, seed=seed)
    if config.kind == "static":
        table = distill_static(start, task)
        return Timed(table, config, stop.num_texts, stop.num_stopped > 0)
    planned = plan_in_time(start, task, clock)
    found = distill_transformer(start, replace(task, config=planned))
    return Timed(found, planned, stop.num_texts, stop.num_stopped > 0)


def plan_in_time(start: TextEncoder, task: Distillation, clock: Clock) -> StudentConfig:
    """The student's settings with as many texts of the closed form, and as many minutes of
    training, as there is time for.
    """
    token_s = measure_speed(start, task)
    lengths = [
        [len(ids) for ids in start.tokenize(t.texts, t.role, task.limits.of(t.role))]
        for t in task.targets
    ]
    tokenizing_s = clock.seconds  # comes again, in the distillation itself
    room = clock.budget_s / token_s
    config, num_tokens = plan_start(task.config, task.targets, lengths, room)
    if config.trains_nothing:
        return config
    start_s = tokenizing_s + token_s * num_tokens
    training_s = clock.left_s - start_s - _MARGIN * clock.budget_s
    if training_s < _LEAST_TRAINING_S:
        return replace(config, kind="instant")
    return replace(config, minutes=training_s / 60)


def measure_speed(start: TextEncoder, task: Distillation) -> float:
    """Seconds to encode a token, measured on a few of the texts that are the index."""
    target = task.targets[0]
    order = np.random.default_rng(task.seed).permutation(len(target.texts))
    ids: list[list[int]] = []
    for i in order.tolist():
        ids += start.tokenize([target.texts[i]], target.role, task.limits.of(target.role))
        if sum(map(len, ids)) >= _TIMED_TOKENS:
            break
    embedder = TransformerEmbedder(start, task.device, task.precision)
    embedder.embed_ids(ids[:1], pooled_only=True)  # lays out weights
    began_s = time.perf_counter()
    embedder.embed_ids(ids, pooled_only=True)
    return (time.perf_counter() - began_s) / sum(map(len, ids))


def plan_start(
    config: StudentConfig,
    targets: Sequence[Target],
    lengths: Sequence[Sequence[int]],
    num_tokens: float,
) -> tuple[StudentConfig, float]:
    """The settings with what the start model can read within the budget, and the tokens of that.
    Where all that its own scores are over is too much, they are left out.

    Args:
        config: of the student.
        targets: its texts.
        lengths: tokens of each.
        num_tokens: that would take the whole budget.
    """
    if config.start_weight and is_scored(config, targets):
        scored = tokens_of_scores(targets, lengths)
        if scored <= _SCORES_SHARE * num_tokens:
            # the closed form is fitted to texts among them
            return config, max(scored, tokens_of_start(config, targets, lengths))
        config = replace(config, start_weight=0.0)
    config = size_start(config, targets, lengths, _START_SHARE * num_tokens)
    return config, tokens_of_start(config, targets, lengths)


def is_scored(config: StudentConfig, targets: Sequence[Target]) -> bool:
    """Whether the student follows scores."""
    scores = config.head_steps > 0 if config.trains_nothing else needs_candidates(config.losses)
    return scores and can_score(targets)


def tokens_of_scores(targets: Sequence[Target], lengths: Sequence[Sequence[int]]) -> float:
    """Tokens of the documents and of the queries that are scored over them."""
    return float(
        sum(
            sum(each)
            for number, (target, each) in enumerate(zip(targets, lengths, strict=True))
            if not number or (target.origin != PSEUDO_TEXTS and target.role != "document")
        )
    )


def size_start(
    config: StudentConfig,
    targets: Sequence[Target],
    lengths: Sequence[Sequence[int]],
    num_tokens: float,
) -> StudentConfig:
    """As many texts of each origin in the closed form as there are tokens to read."""
    needed = tokens_of_start(config, targets, lengths)
    if needed <= num_tokens:
        return config
    fewer = int(config.num_ridge_texts * num_tokens / needed)
    least = min(_FEWEST_RIDGE_TEXTS, config.num_ridge_texts)
    return replace(config, num_ridge_texts=max(least, fewer))


def tokens_of_start(
    config: StudentConfig, targets: Sequence[Target], lengths: Sequence[Sequence[int]]
) -> float:
    """Tokens that the closed form reads: of each origin but made queries its texts, and an eighth
    of them to measure on.
    """
    total = 0.0
    origins = dict.fromkeys(target.origin for target in targets)
    for origin in [origin for origin in origins if origin != MADE_QUERIES]:
        found = [
            n
            for target, each in zip(targets, lengths, strict=True)
            if target.origin == origin
            for n in each
        ]
        count = min(len(found), config.num_ridge_texts * 9 // 8)
        total += count * float(np.mean(found)) if found else 0.0
    return total


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
