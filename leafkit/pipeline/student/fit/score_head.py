"""The head fitted to scores: after the closed form, a few hundred steps on hidden states that stay
as they are, of W_out or of both layers. Queries rank the index as the teacher does, documents stay
near their vectors.

No step goes through the model, so that all of them take seconds.

Shapes: b texts, H hidden width, D dimensions.
"""

from __future__ import annotations

import copy
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from leafkit.core.console import log
from leafkit.evaluation.agreement import DEPTH
from leafkit.losses.leaf import leaf_loss
from leafkit.losses.scores import score_kl
from leafkit.models.heads.two_layer import Head, TwoLayerHead, linear_part
from leafkit.models.text_encoder import TextEncoder
from leafkit.pipeline.student.candidates import Candidates
from leafkit.pipeline.student.fit.pooled_states import PooledStates
from leafkit.pipeline.student.targets import Distillation, list_rows, of_origin, read_targets
from leafkit.pipeline.student.text_groups import DOCUMENTS
from leafkit.pipeline.student.validation import Agreed, Validation
from leafkit.train.student_terms import with_second_opinion

_FEWEST_QUERIES = 100  # that a fit is worth basing on
_TEXTS_PER_STEP = 128  # queries, and as many documents
# learning rate as a share of a matrix's own root mean square, which follows the width of the start
_RELATIVE_LR, _FINAL_SHARE = 0.01, 0.1
_NUM_CHECKS = 4
_ENOUGH_OVERLAP = 0.99  # int8 vectors lose more
Rows = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class ScoreHead:
    """A head that was kept.

    Attributes:
        num_steps: that led to it.
        agreed: what it finds on held-out texts.
    """

    num_steps: int
    agreed: Agreed


def fit_score_head(
    student: TextEncoder,
    task: Distillation,
    states: PooledStates,
    candidates: Candidates | None,
    *,
    validation: Validation | None,
) -> ScoreHead | None:
    """Move the head from the closed form towards the teacher's ranking: KL divergence of the
    queries' scores over their candidates, and the squared distance of documents to their own
    vectors, both of weight 1. What finds most on held-out texts is kept, which may be the closed
    form. Where no step is taken, a line says why.

    Args:
        student: with the closed form; gets what was kept.
        task: texts and settings; ``head_steps`` is how many.
        states: of the student's backbone.
        candidates: of the queries; None where nothing is scored.
        validation: what chooses, None where nothing was held out; none of its texts is fitted to.

    Returns:
        The steps that were kept; None where the closed form stays.
    """
    if candidates is None or validation is None:
        _say_left_out(
            "no text is scored" if candidates is None else "no held-out texts choose them"
        )
        return None
    queries, documents = _choose_rows(task, candidates, validation.texts, states)
    projection = student.projection
    assert projection is not None
    if len(queries) < _FEWEST_QUERIES:
        _say_left_out(f"{len(queries)} queries are not held out, and it takes {_FEWEST_QUERIES}")
        return None
    asked = torch.from_numpy(states.of(validation.rows))
    inputs = {rows: torch.from_numpy(states.of(rows)) for rows in (queries, documents)}
    targets = {
        rows: torch.from_numpy(read_targets(task.targets, rows)) for rows in (queries, documents)
    }
    head = copy.deepcopy(projection).to("cpu", torch.float32)

    def measure() -> Agreed:
        with torch.no_grad():
            return validation.measure(student.finish(head(asked)).numpy())

    num_steps, chooser = task.config.head_steps, np.random.default_rng(task.seed)
    optimizer, schedule = _make_optimizer(head, inputs[documents], num_steps)
    name = "the head" if isinstance(head, TwoLayerHead) else "W_out"
    start = best = measure()
    if start.overlap >= _ENOUGH_OVERLAP:
        _say_left_out(f"the closed form has overlap@{DEPTH} {start.overlap:.3f} already")
        return None
    kept, kept_after = copy.deepcopy(head.state_dict()), 0
    for step in range(1, num_steps + 1):
        batch = chooser.integers(0, len(queries), _TEXTS_PER_STEP)
        scored = candidates.of([queries[i] for i in batch], step)
        assert scored is not None
        near = chooser.integers(0, len(documents), _TEXTS_PER_STEP)
        loss = score_kl(
            *with_second_opinion(
                student.finish(head(inputs[queries][batch])), targets[queries][batch], scored
            ),
            candidates.config.temperature,
            present=scored.present,
        ) + leaf_loss(student.finish(head(inputs[documents][near])), targets[documents][near])
        optimizer.zero_grad()
        (loss / _TEXTS_PER_STEP).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        if step % max(1, num_steps // _NUM_CHECKS) == 0:
            found = measure()
            if found.is_better(best):
                best, kept, kept_after = found, copy.deepcopy(head.state_dict()), step
    if not kept_after:
        log(f"  scores: {name} finds no more after {num_steps} steps than the closed form")
        return None
    with torch.no_grad():
        projection.load_state_dict(kept)
    log(f"  scores: {best} after {kept_after} steps of {name} alone, {start} before")
    return ScoreHead(kept_after, best)


def _make_optimizer(
    head: Head, states: torch.Tensor, num_steps: int
) -> tuple[torch.optim.Adam, torch.optim.lr_scheduler.LambdaLR]:
    """Adam, whose learning rates fall linearly to a share of what they were."""
    optimizer = torch.optim.Adam(_with_learning_rates(head, states))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: 1 - (1 - _FINAL_SHARE) * step / num_steps
    )
    return optimizer, schedule


def _say_left_out(why: str) -> None:
    log(f"  scores: the head takes no steps of its own (student.head_steps): {why}")


@torch.no_grad()
def _with_learning_rates(head: Head, states: torch.Tensor) -> list[dict[str, Any]]:
    """Parameters with learning rates. W2, which begins at 0, moves as W_out does in proportion to
    the lengths of what the two read.

    Args:
        head: at the closed form.
        states: (n, H) that it reads.
    """
    linear = linear_part(head)
    relative = _RELATIVE_LR * _root_mean_square(linear.weight)
    groups: list[dict[str, Any]] = [{"params": list(linear.parameters()), "lr": relative}]
    if isinstance(head, TwoLayerHead):
        read = float(states.norm(dim=1).mean() / head.activate(states).norm(dim=1).mean())
        own = _RELATIVE_LR * _root_mean_square(head.inner.weight)
        groups.append({"params": list(head.inner.parameters()), "lr": own})
        groups.append({"params": list(head.outer.parameters()), "lr": relative * read})
    return groups


def _root_mean_square(weight: torch.Tensor) -> float:
    return float(weight.square().mean().sqrt())


def _choose_rows(
    task: Distillation,
    candidates: Candidates,
    held_out: AbstractSet[str],
    states: PooledStates,
) -> tuple[Rows, Rows]:
    """Rows of queries that have candidates, and of documents; as many of each as the closed form
    takes of an origin, those first whose states are there.
    """
    chooser = np.random.default_rng(task.seed)

    def some(rows: list[tuple[int, int]]) -> Rows:
        order = chooser.permutation(len(rows)).tolist()
        order.sort(key=lambda i: not states.has(rows[i]))
        return tuple(rows[i] for i in sorted(order[: task.config.num_ridge_texts]))

    queries = list_rows(
        task.targets,
        lambda g, target: candidates.has(g) and target.role != "document",
        without=held_out,
    )
    documents = list_rows(task.targets, of_origin(DOCUMENTS), without=held_out)
    return some(queries), some(documents)
