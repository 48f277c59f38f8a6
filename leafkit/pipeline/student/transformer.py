"""Distil a transformer student from cached teacher vectors (LEAF, arXiv 2509.12539): a closed-form
linear map first, then the whole student on weighted terms, the squared L2 distance by default.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from leafkit.config import CandidatesConfig, StudentConfig
from leafkit.core.console import log
from leafkit.data.batching import share_of_rank, token_budget_batches
from leafkit.embedders.token_reader import reader_of
from leafkit.models.heads.two_layer import TwoLayerHead
from leafkit.models.pooling import choose_head_layers, count_layers
from leafkit.models.text_encoder import EncoderSpec, TextEncoder
from leafkit.pipeline.model_handle import ModelHandle
from leafkit.pipeline.student.candidates import Candidates, can_score, find_candidates
from leafkit.pipeline.student.checks import (
    keep_best,
    make_check,
    say_checks,
    summarize_checks,
    warn_unwatched,
)
from leafkit.pipeline.student.fit.closed_form import measure_bare_start, start_projection
from leafkit.pipeline.student.fit.pooled_states import PooledStates
from leafkit.pipeline.student.fit.score_head import fit_score_head
from leafkit.pipeline.student.fit.token_layer import add_token_layer
from leafkit.pipeline.student.head import check_head, make_head
from leafkit.pipeline.student.start_scores import follow_both, score_by_start
from leafkit.pipeline.student.targets import Distillation, Distilled, count_cuts, read_targets
from leafkit.pipeline.student.text_groups import DOCUMENTS, MADE_QUERIES, QUERIES
from leafkit.pipeline.student.time_budget import NUM_PROBED, plan_budget
from leafkit.pipeline.student.train_rows import lengths_of, pairs_of, train_rows
from leafkit.pipeline.student.validation import Agreed, TokenIds, Validation, choose_validation
from leafkit.train.batch_list import BatchList
from leafkit.train.fit import fit
from leafkit.train.keep_best import KeepBest
from leafkit.train.leaf_module import LeafBatch, LeafModule
from leafkit.train.student_terms import (
    check_losses,
    describe_schedule,
    is_scheduled,
    needs_candidates,
    needs_scores_alone,
    where_scores_are_alone,
)
from leafkit.train.weight_average import WeightAverage
from leafkit.train.world import read_world

ROLES = ("query", "document")


def distill_transformer(start: TextEncoder, task: Distillation) -> Distilled:
    """A student in the teacher's space.

    Args:
        start: the model it begins as; its backbone is trained in place.
        task: teacher, texts and settings.

    Raises:
        NoQueriesError: scores are to be followed, and there are no queries to score.
        LeafkitError: a loss or gradient is not finite.
    """
    student = build_student(start, task.teacher, task.config, task.seed)
    if task.config.trains_on_losses:
        check_losses(task.config.losses, tuple(student.spec.mrl_dims))
    token_ids = [
        task.tokenize(reader_of(student, t.role, task.limits.of(t.role)), t.texts)
        for t in task.targets
    ]
    candidates = _candidates_of(task)
    cuts = count_cuts(student, task)
    # what is made of documents says little of a start, but it is what training is to be checked on
    chooses = choose_validation(task, token_ids, (QUERIES, DOCUMENTS))
    origins = (QUERIES, MADE_QUERIES, DOCUMENTS)
    is_watched = task.config.trains_on_losses and task.config.num_checks > 0
    validation = choose_validation(task, token_ids, origins, is_watched=is_watched)
    if validation is None and is_watched:
        warn_unwatched("the closed form")
    held_out = validation.texts if validation else frozenset()
    if task.config.token_units:
        add_token_layer(student, task, token_ids)
    states = PooledStates(student, task, token_ids)
    begin = start_projection if student.projection is not None else measure_bare_start
    begun, form = begin(student, task, states, chooses, held_out=held_out)
    fitted = None
    if task.config.start_weight:
        if candidates is None:
            log("  student.start_weight counts for nothing here: no scores are followed")
        else:
            candidates = score_by_start(start, task, states, candidates)
            if validation is not None:
                validation = follow_both(validation, candidates)
    follows = candidates is not None or task.config.trains_nothing
    if follows and task.config.head_steps > 0 and student.projection is not None:
        fitted = fit_score_head(student, task, states, candidates, validation=validation)
    del states  # the backbone is trained now
    if task.config.trains_nothing:
        _drop_idle_layer(student)
        chooses = validation if fitted is not None else chooses
        found = summarize_checks(form, chooses, None, 0, fitted=fitted) if chooses else None
        return Distilled(
            student=student, losses=[], start=begun, loader={}, cuts=cuts, held_out=found
        )
    trained = train_student(student, task, token_ids, validation, candidates=candidates)
    found = None
    if validation is not None:
        found = summarize_checks(form, validation, trained.best, trained.num_batches, fitted=fitted)
    if found is not None:
        say_checks(found)
    _drop_idle_layer(student)
    return Distilled(
        student=student,
        losses=trained.losses,
        start=begun,
        loader=trained.loader,
        cuts=cuts,
        held_out=found,
    )


def _drop_idle_layer(student: TextEncoder) -> None:
    """Keep a head of two layers as the linear one that it is where nothing moved W2 from 0."""
    head = student.projection
    if isinstance(head, TwoLayerHead) and not bool(head.outer.weight.any()):
        log("  nothing moved the second layer from 0: the student keeps the linear head that it is")
        student.projection = head.linear


def _candidates_of(task: Distillation) -> Candidates | None:
    """Documents that the student's scores are over; None where nothing is scored."""
    config = task.config
    if config.trains_nothing:  # it reads no losses
        if not config.head_steps or not can_score(task.targets):
            return None
        return find_candidates(task.targets, CandidatesConfig(), task.seed)
    if not needs_candidates(config.losses):
        return None
    relevant = task.relevant if config.losses.contrastive else None
    return find_candidates(task.targets, config.losses.candidates, task.seed, relevant)


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training leaves beside the weights.

    Attributes:
        losses: of each batch.
        loader: how long the model waited for its batches.
        num_batches: of the training.
        best: its checks; None where nothing was held out.
    """

    losses: list[float]
    loader: Mapping[str, float]
    num_batches: int
    best: KeepBest[Agreed] | None


def build_student(
    start: TextEncoder, teacher: ModelHandle, config: StudentConfig, seed: int
) -> TextEncoder:
    """The start model with a head onto the teacher's dimensions, and the teacher's prompts, lengths
    and dimensions.

    Raises:
        UsageError: its head is to read a layer that the start model lacks, or there is to be none
            and its hidden states are not as wide as the teacher's vectors.
    """
    torch.manual_seed(seed)
    longest = getattr(start.backbone.config, "max_position_embeddings", 512)
    space = teacher.model.space("document", longest)
    prompts = {role: teacher.model.prompt(role) for role in ROLES if teacher.model.prompt(role)}
    told = (
        teacher.encoder.spec
        if teacher.encoder is not None
        else EncoderSpec(prompts=prompts, max_tokens=longest)
    )
    spec = EncoderSpec(
        pooling=start.spec.pooling,
        normalized=space.normalized,
        prompts=dict(told.prompts),
        max_tokens=min(told.max_tokens, longest),
        mrl_dims=teacher.model.mrl_dims,
        templates=dict(told.templates),
        head_layers=choose_head_layers(
            config.head_layers, count_layers(start.backbone), "the start model"
        ),
    )
    check_head(config, teacher.model.dim, start)
    # a start that is a student itself keeps nothing of its own head
    width = int(start.backbone.config.hidden_size) * max(1, len(spec.head_layers))
    head = make_head(config, width, teacher.model.dim)
    return TextEncoder(start.backbone, start.tokenizer, spec, head)


def train_student(
    student: TextEncoder,
    task: Distillation,
    token_ids: TokenIds,
    validation: Validation | None = None,
    *,
    candidates: Candidates | None = None,
) -> Trained:
    """The weighted terms over token-budget batches.

    Where texts are held out, the student ends as it was at its best check, which may be the start.

    Args:
        student: trained in place.
        task: texts, teacher vectors and settings.
        token_ids: by target.
        validation: what is held out.
        candidates: of the terms over scores; None where none has a weight.
    """
    targets, config = task.targets, task.config
    held = validation.texts if validation else frozenset()
    is_scored_alone = needs_scores_alone(config.losses)
    has_scores = [candidates is not None and candidates.has(g) for g in range(len(targets))]
    rows = train_rows(targets, lambda g, _: has_scores[g] or not is_scored_alone, without=held)
    lengths, options = lengths_of(token_ids, rows), task.options("")
    is_scored, num_accumulated = np.array(has_scores)[rows[:, 0]], options.accumulate_grad_batches
    listed = partial(
        list_batches,
        task,
        token_ids,
        rows,
        candidates=candidates,
        num_accumulated=num_accumulated,
    )
    plan = partial(plan_training, task, lengths, is_scored, num_accumulated)
    is_checked = validation is not None and config.num_checks > 0
    check = make_check(student, task, validation) if validation and is_checked else None
    num_batches = 0
    best = average = None
    if config.minutes > 0:
        num_batches, options = plan_budget(
            student,
            task,
            options,
            lambda: listed(plan(num_batches=NUM_PROBED)),
            check=check,
        )
    batches = plan(num_batches=num_batches)
    if is_scheduled(config.losses):
        num_steps = math.ceil(len(batches) / num_accumulated)
        log(f"  student.losses, {describe_schedule(config.losses, num_steps)}")
    if config.ema:
        average = WeightAverage(student, config.ema)
        options = replace(options, callbacks=[*options.callbacks, average])
    if check is not None:
        best = keep_best(student, config, check, len(batches), average=average)
        options = replace(options, callbacks=[*options.callbacks, best])
    metrics: dict[str, Any] = {}
    losses = fit(
        LeafModule(student, config.optimizer, losses=config.losses),
        listed(batches),
        title="student: training",
        device=task.device,
        precision=task.precision,
        seed=task.seed,
        metrics=metrics,
        options=options,
    )
    if average is not None:
        average.keep()
    if best is not None:
        best.restore()
    return Trained(losses, metrics["loader"], len(batches), best)


def list_batches(
    task: Distillation,
    token_ids: TokenIds,
    rows: np.ndarray,
    batches: Sequence[np.ndarray],
    *,
    candidates: Candidates | None = None,
    num_accumulated: int = 1,
) -> BatchList:
    """This process's shares of batches, each made when it is asked for.

    Args:
        task: texts and teacher vectors.
        token_ids: by target.
        rows: (n, 2) that train; see ``train_rows``.
        batches: numbers of them.
        candidates: as of ``train_student``.
        num_accumulated: as of ``plan_training``.
    """
    world = read_world()
    is_alone = _hold_scored_alone(task, len(batches), num_accumulated)
    num_scored, num_judged = candidates.count(rows) if candidates is not None else (0, 0)

    def make(step: int) -> LeafBatch:
        batch = batches[step]
        share = share_of_rank(batch, world.rank, world.size)
        weight = 1.0 if len(share) else 0.0
        # a process without a row takes one along, which counts nothing
        chosen = pairs_of(rows[share if len(share) else batch[:1]])
        vectors = torch.from_numpy(read_targets(task.targets, chosen))
        scored = None
        if candidates is not None:
            part = len(batch) / (num_scored if is_alone[step] else len(rows))
            scored = candidates.of(chosen, step, (part * num_scored, part * num_judged))
        ids = [token_ids[g][i] for g, i in chosen]
        return LeafBatch(ids, vectors, len(batch), weight, scored=scored)

    return BatchList(len(batches), make, rows=[len(batch) for batch in batches])


def plan_training(
    task: Distillation,
    lengths: np.ndarray,
    is_scored: np.ndarray,
    num_accumulated: int,
    *,
    num_batches: int = 0,
) -> list[np.ndarray]:
    """Batches of a training. In steps in which terms over scores count alone they hold scored rows
    alone: others would train nothing there.

    Args:
        task: settings.
        lengths: (n,) tokens of each row.
        is_scored: (n,) bool, which rows have candidates; some have where terms ask for them.
        num_accumulated: batches per optimizer step.
        num_batches: as of ``plan_batches``.
    """
    batches = plan_batches(task, lengths, num_batches)
    is_alone = _hold_scored_alone(task, len(batches), num_accumulated)
    if not is_alone.any():
        return batches
    rows = np.flatnonzero(is_scored)
    scored = iter(plan_batches(task, lengths[rows], int(is_alone.sum())))
    return [
        rows[next(scored)] if alone else batch
        for alone, batch in zip(is_alone.tolist(), batches, strict=True)
    ]


def _hold_scored_alone(task: Distillation, num_batches: int, num_accumulated: int) -> np.ndarray:
    """(n,) bool, which batches of a training hold scored rows alone where not all do."""
    steps = np.arange(num_batches) // num_accumulated
    is_alone = where_scores_are_alone(task.config.losses, steps / (steps[-1] + 1))
    return np.zeros(num_batches, dtype=bool) if is_alone.all() else is_alone


def plan_batches(
    task: Distillation, lengths: Sequence[int] | np.ndarray, num_batches: int = 0
) -> list[np.ndarray]:
    """Token-budget batches of rows of these lengths.

    Args:
        task: settings.
        lengths: tokens of each row.
        num_batches: of as many epochs as that takes; 0 takes ``num_epochs``, of whose last one a
            part is a share of its batches.
    """
    config = task.config
    batches: list[np.ndarray] = []
    epoch = 0
    while len(batches) < num_batches if num_batches else epoch < config.num_epochs:
        part = token_budget_batches(
            lengths, config.tokens_per_batch, config.max_texts_per_batch, task.seed, epoch=epoch
        )
        share = 1.0 if num_batches else min(1.0, config.num_epochs - epoch)
        batches += part[: max(1, round(share * len(part)))]
        epoch += 1
    return batches[: num_batches or None]
