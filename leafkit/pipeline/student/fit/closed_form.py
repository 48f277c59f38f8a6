"""Where a transformer student begins: the closed-form map of its pooled hidden states onto the
teacher's vectors, with the texts that held-out texts prefer, and the strength that they prefer or
that documents left out one by one do.

Shapes: n texts, H hidden width, D dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch

from leafkit.core.console import log
from leafkit.core.truncate import truncate_then_normalize
from leafkit.evaluation.agreement import cosines
from leafkit.evaluation.diagnosis.spectrum import (
    AffineMap,
    RidgeSums,
    sum_for_ridge,
    variance_kept,
)
from leafkit.models.heads.two_layer import (
    Head,
    TwoLayerHead,
    apply_head,
    head_rank,
    linear_part,
)
from leafkit.models.text_encoder import TextEncoder
from leafkit.pipeline.student.fit.pooled_states import PooledStates
from leafkit.pipeline.student.fit.token_table import Fitted, fit_token_table
from leafkit.pipeline.student.targets import Distillation, Start, list_rows, of_origin, read_targets
from leafkit.pipeline.student.text_groups import DOCUMENTS, FITTED_TO, MADE_QUERIES, QUERIES
from leafkit.pipeline.student.validation import Agreed, Validation

HELD_OUT_PART = 8  # an eighth as many texts as W_out is fitted to measure how near it comes
_RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
_MOST_LEFT_OUT = 4096  # documents
Rows = list[tuple[int, int]]
Fit = TypeVar("Fit")


@dataclass(frozen=True, slots=True)
class ClosedForm:
    """A ridge solution that was tried.

    Attributes:
        fitted_to: a name of the texts; "" where there is no head to fit, and the start is the model
            as it came.
        num_texts: of them.
        ridge: relative to the mean eigenvalue.
        agreed: on held-out texts; None where nothing was held out.
        left_out: mean cosine of documents to what the others predict of them; None where queries
            choose, or nothing is to be chosen.
        num_layers: that were solved: 1 is W_out alone.
        has_table: token vectors beside the hidden states were solved with it.
    """

    fitted_to: str
    num_texts: int
    ridge: float
    agreed: Agreed | None
    left_out: float | None = None
    num_layers: int = 1
    has_table: bool = False

    @property
    def what_is_fitted(self) -> str:
        """In words."""
        if self.has_table:
            return "W_out with a token table"
        return "W_out" if self.num_layers == 1 else "head of two layers"

    def __str__(self) -> str:
        found = f": {self.agreed}" if self.agreed else ""
        if not self.fitted_to:
            return f"the start as it came{found}"
        if self.left_out is not None and not found:
            found = f": cosine {self.left_out:.4f} of documents left out one by one"
        layers = "two layers, " if self.num_layers > 1 else "token table, " * self.has_table
        return f"{layers}ridge {self.ridge:g} on {self.fitted_to} ({self.num_texts:,}){found}"


def start_projection(
    student: TextEncoder,
    task: Distillation,
    states: PooledStates,
    validation: Validation | None,
    *,
    held_out: AbstractSet[str] = frozenset(),
) -> tuple[Start, ClosedForm]:
    """Set W_out to a ridge solution, and measure what a map of its rank can keep of the teacher,
    and how near the solution comes to it on texts beside those that it was fitted to. Of a head of
    two layers W1 is random, made ready for these texts, and W2 is solved together with W_out
    (random features, Rahimi & Recht 2007) where both find more than W_out alone.

    Args:
        student: gets the solution.
        task: texts and settings; ``ridge`` 0 tries several strengths, ``fit_to`` best the documents
            alone, with the queries and with all texts, and what finds most on held-out texts is
            taken. Where these are no queries, documents left out one by one choose the strength.
            ``token_table`` adds a table where that finds more.
        states: of the student's backbone.
        validation: what chooses; None takes all texts. The choice is fitted again with these texts
            among the others.
        held_out: texts that checks of the training will ask for, in no fit.

    Returns:
        How near the start is, and how it was chosen.
    """
    fitted, others = _sample(task, held_out)
    inputs, wanted = states.of(fitted), read_targets(task.targets, fitted)
    head = student.projection
    assert head is not None
    if isinstance(head, TwoLayerHead):
        head.spread(torch.from_numpy(inputs))
    asks = validation.texts if validation else frozenset()
    texts = _Texts(
        inputs,
        follow_lengths(inputs, wanted) if student.spec.normalized else wanted,
        np.array([task.targets[g].origin for g, _ in fitted]),
        np.array([task.targets[g].texts[i] in asks for g, i in fitted]),
        states.of(validation.rows) if validation else None,
        states.ids_of(fitted),
    )
    num_layers = 2 if isinstance(head, TwoLayerHead) else 1
    tried = [
        one
        for count in range(1, num_layers + 1)
        for one in _try_all(student, task, texts, validation, reading=_Reading(head, count, inputs))
    ]
    best, (reading, chosen) = _choose(tried)
    reading.set(reading.sum_over(texts, chosen).solve(best.ridge))
    if task.config.token_table:
        best = _add_table(
            student, texts, chosen, best, rank=task.config.token_table, validation=validation
        )
        head = student.projection if student.projection is not None else head
    unseen = states.of(others or fitted)
    expected = read_targets(task.targets, others) if others else wanted
    with torch.no_grad():
        predicted = apply_head(head, torch.from_numpy(unseen)).numpy()
    rank = head_rank(head)
    kept, cosine = variance_kept(wanted, rank), float(cosines(expected, predicted).mean())
    start = Start(rank, kept, cosine, best.num_texts, len(others))
    log(
        f"  a map of rank {rank} can keep {kept:.2%} of the teacher's variance in "
        f"{student.dim} dimensions; the closed-form {best.what_is_fitted} starts at cosine "
        f"{start.ridge_cosine:.4f} on {start.measured_on}"
    )
    if validation is not None:
        log(f"  closed form: {best} on {validation}")
    elif best.left_out is not None:
        log(f"  closed form: {best}")
    return start, best


@dataclass(frozen=True, slots=True)
class _Texts:
    """The texts to fit, and those that are asked.

    Attributes:
        states: (n, H) of the backbone.
        aims: (n, D) what the head is to give.
        origins: (n,) what each text is.
        is_asked: (n,) bool, whether it is asked.
        asked: (V, H) states of the texts that choose; None where nothing does.
        token_ids: n of them.
    """

    states: np.ndarray
    aims: np.ndarray
    origins: np.ndarray
    is_asked: np.ndarray
    asked: np.ndarray | None
    token_ids: Sequence[np.ndarray]


class _Reading:
    """W_out alone, or with it the second layer, as one linear map of what they read.

    Args:
        head: whose they are.
        num_layers: 1 or 2.
        states: (n, H) that it is fitted to.
    """

    def __init__(self, head: Head, num_layers: int, states: np.ndarray) -> None:
        self.num_layers, self._head, self._scale = num_layers, head, 1.0
        if num_layers > 1:
            assert isinstance(head, TwoLayerHead)
            self._scale = head.measure_scale(torch.from_numpy(states))

    def inputs(self, states: np.ndarray) -> np.ndarray:
        """(n, H) or (n, H + K) of states (n, H)."""
        if self.num_layers == 1:
            return states
        assert isinstance(self._head, TwoLayerHead)
        with torch.no_grad():
            activated = self._head.activate(torch.from_numpy(states)).numpy()
        return np.concatenate([states, activated * self._scale], axis=1)

    def sum_over(self, texts: _Texts, rows: np.ndarray) -> RidgeSums:
        """Of chosen texts, (n,) bool."""
        has_bias = linear_part(self._head).bias is not None
        if self.num_layers == 1:
            numbers = np.flatnonzero(rows)
            return sum_for_ridge(texts.states, texts.aims, rows=numbers, has_bias=has_bias)
        return sum_for_ridge(self.inputs(texts.states[rows]), texts.aims[rows], has_bias=has_bias)

    @torch.no_grad()
    def set(self, solution: AffineMap) -> None:
        """Give the head a solution."""
        linear, weight = linear_part(self._head), torch.from_numpy(solution.weight.T)
        linear.weight.copy_(weight[:, : linear.in_features])
        if linear.bias is not None:
            linear.bias.copy_(torch.from_numpy(solution.bias))
        if self.num_layers > 1:
            assert isinstance(self._head, TwoLayerHead)
            self._head.outer.weight.copy_(weight[:, linear.in_features :] * self._scale)


def _try_all(
    student: TextEncoder,
    task: Distillation,
    texts: _Texts,
    validation: Validation | None,
    *,
    reading: _Reading,
) -> Iterator[tuple[ClosedForm, tuple[_Reading, np.ndarray]]]:
    """Solutions with the texts, (n,) bool, that each was fitted to."""
    documents = np.flatnonzero(texts.origins == DOCUMENTS)[:_MOST_LEFT_OUT]
    asked = None if texts.asked is None else reading.inputs(texts.asked)
    is_choice = task.config.head == "two_layer"
    for name, ridges, chosen in _plan(task, texts.origins, validation):
        sums = reading.sum_over(texts, chosen & ~texts.is_asked) if validation else None
        leaves_out = validation is None or validation.origin == DOCUMENTS
        whole = None
        if leaves_out and len(documents) and (is_choice or len(ridges) > 1):
            whole = reading.sum_over(texts, chosen)
        for ridge in ridges:
            agreed = left_out = None
            if sums is not None and validation is not None and asked is not None:
                trial = _apply(sums.solve(ridge), asked, student.spec.normalized)
                agreed = validation.measure(trial)
            if whole is not None:
                aims = texts.aims[documents]
                told = whole.predict_left_out(reading.inputs(texts.states[documents]), aims, ridge)
                left_out = float(cosines(aims, told).mean())
            form = ClosedForm(
                fitted_to=name,
                num_texts=int(chosen.sum()),
                ridge=ridge,
                agreed=agreed,
                left_out=left_out,
                num_layers=reading.num_layers,
            )
            yield form, (reading, chosen)


def _add_table(
    student: TextEncoder,
    texts: _Texts,
    chosen: np.ndarray,
    form: ClosedForm,
    *,
    rank: int,
    validation: Validation | None,
) -> ClosedForm:
    """The closed form with a table of token vectors, where that finds more; fitted to the same
    texts.
    """
    agreed = fit_token_table(
        student,
        rank,
        form.ridge,
        Fitted(texts.states, texts.token_ids, texts.aims, chosen, texts.is_asked),
        asked_states=texts.asked,
        validation=validation,
        without=form.agreed,
    )
    return form if agreed is None else replace(form, agreed=agreed, has_table=True)


def measure_bare_start(
    student: TextEncoder,
    task: Distillation,
    states: PooledStates,
    validation: Validation | None,
    *,
    held_out: AbstractSet[str] = frozenset(),
) -> tuple[Start, ClosedForm]:
    """How near a student without a head is to its teacher before training; nothing is fitted.
    Arguments and results as of ``start_projection``.
    """
    rows, _ = _sample(task, held_out)
    is_unit = student.spec.normalized

    def served(rows: Rows) -> np.ndarray:
        found = states.of(rows)
        return truncate_then_normalize(found) if is_unit else found

    agreed = validation.measure(served(validation.rows)) if validation is not None else None
    cosine = float(cosines(read_targets(task.targets, rows), served(rows)).mean())
    start = Start(student.dim, 1.0, cosine, len(rows), len(rows))
    log(f"  no head: the start as it came has cosine {cosine:.4f} on {start.measured_on}")
    form = ClosedForm("", 0, 0.0, agreed)
    if validation is not None:
        log(f"  {form} on {validation}")
    return start, form


def follow_lengths(inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """(n, D) targets in the proportions of the inputs' lengths, on average as long as they were.

    Only directions count where vectors are normalised. A linear map keeps proportions, so that one
    that is to give all inputs the same length spends itself on that: with targets that follow, a
    model that is its own teacher gets the identity.
    """
    lengths = np.linalg.norm(inputs, axis=1, keepdims=True)
    mean = float(lengths.mean())
    return targets * (lengths / mean) if mean else targets


def _sample(task: Distillation, held_out: AbstractSet[str]) -> tuple[Rows, Rows]:
    """Rows to fit, as many of each origin as the settings say, and others to measure on."""
    chooser = np.random.default_rng(task.seed)
    size, fitted, others = task.config.num_ridge_texts, [], []
    origins = dict.fromkeys(target.origin for target in task.targets)
    for origin in [origin for origin in origins if origin != MADE_QUERIES]:
        rows = list_rows(task.targets, of_origin(origin), without=held_out)
        order = chooser.permutation(len(rows))
        fitted += [rows[i] for i in np.sort(order[:size])]
        others += [rows[i] for i in np.sort(order[size : size + -(-size // HELD_OUT_PART)])]
    return fitted, others


def _plan(
    task: Distillation, origins: np.ndarray, validation: Validation | None
) -> list[tuple[str, Sequence[float], np.ndarray]]:
    """Name of the texts, strengths and chosen rows of the solutions to try."""
    fit_to, ridges = task.config.fit_to, [task.config.ridge] if task.config.ridge else _RIDGES
    # texts of elsewhere cost what is found at home, so a fit on the index alone is tried first
    asked = list(FITTED_TO) if fit_to == "best" else [fit_to]
    if fit_to == "best" and (validation is None or task.config.ridge):
        asked = ["all"]  # nothing compares them
    if asked == ["queries"] and QUERIES not in origins:
        asked = ["documents"]  # which is what it is then
    plan: list[tuple[str, Sequence[float], np.ndarray]] = []
    seen = set()
    for name, wanted in (FITTED_TO[key] for key in asked):
        chosen = np.isin(origins, wanted)
        if not chosen.any() or (count := int(chosen.sum())) in seen:
            continue
        seen.add(count)
        plan.append((name, ridges, chosen))
    return plan


def _choose(tried: Sequence[tuple[ClosedForm, Fit]]) -> tuple[ClosedForm, Fit]:
    """The texts that find most, with a second layer where that finds more beyond noise; of their
    ridges the one that predicts left-out documents best, where these were asked, else the strongest
    that is as good. Where nothing was held out, left-out documents choose the layers too.
    """
    best, _ = tried[0]
    for form, _ in tried[1:]:
        if not form.agreed or not best.agreed or not form.agreed.is_better(best.agreed):
            continue
        if form.num_layers == best.num_layers or not best.agreed.is_as_good(form.agreed):
            best = form
    alike = [
        (form, fit)
        for form, fit in tried
        if form.fitted_to == best.fitted_to
        and (form.num_layers == best.num_layers or best.agreed is None)
    ]
    if any(form.left_out is not None for form, _ in alike):
        return max(alike, key=lambda one: one[0].left_out or -1.0)
    if best.agreed is None:
        return tried[0]
    as_good = [one for one in alike if one[0].agreed and one[0].agreed.is_as_good(best.agreed)]
    return max(as_good, key=lambda one: one[0].ridge)


def _apply(solution: AffineMap, inputs: np.ndarray, is_normalized: bool) -> np.ndarray:
    raw = inputs @ solution.weight + solution.bias
    return truncate_then_normalize(raw) if is_normalized else raw
