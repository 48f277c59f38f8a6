"""Where a transformer student begins: the closed-form map of its pooled hidden states onto the
teacher's vectors, with the texts that held-out texts prefer, and the strength that they prefer or
that documents left out one by one do.

Shapes: n texts, H hidden width, D dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

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
from leafkit.models.heads.two_layer import TwoLayerHead, head_rank, linear_part
from leafkit.models.text_encoder import TextEncoder
from leafkit.pipeline.student.pooled_states import PooledStates
from leafkit.pipeline.student.targets import (
    DOCUMENTS,
    MADE_QUERIES,
    QUERIES,
    Distillation,
    Start,
    list_rows,
    of_origin,
    read_targets,
)
from leafkit.pipeline.student.validation import Agreed, Validation

HELD_OUT_PART = 8  # an eighth as many texts as W_out is fitted to measure how near it comes
_RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
_MOST_LEFT_OUT = 4096  # documents
# texts of elsewhere cost what is found at home, so a fit on the index alone is tried first; queries
# that are made of the documents cost too, and are in none
_FITTED_TO = {
    "documents": (DOCUMENTS,),
    "documents and queries": (DOCUMENTS, QUERIES),
    "all given texts": None,
}
Rows = list[tuple[int, int]]


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
    """

    fitted_to: str
    num_texts: int
    ridge: float
    agreed: Agreed | None
    left_out: float | None = None

    def __str__(self) -> str:
        found = f": {self.agreed}" if self.agreed else ""
        if not self.fitted_to:
            return f"the start as it came{found}"
        if self.left_out is not None and not found:
            found = f": cosine {self.left_out:.4f} of documents left out one by one"
        return f"ridge {self.ridge:g} on {self.fitted_to} ({self.num_texts:,}){found}"


def start_projection(
    student: TextEncoder,
    task: Distillation,
    states: PooledStates,
    validation: Validation | None,
    held_out: AbstractSet[str] = frozenset(),
) -> tuple[Start, ClosedForm]:
    """Set W_out to a ridge solution, and measure what a map of its rank can keep of the teacher,
    and how near the solution comes to it on texts beside those that it was fitted to. A head of two
    layers gets its first one ready for these texts, and gives what W_out alone gives.

    Args:
        student: gets the solution.
        task: texts and settings; ``ridge`` 0 tries several strengths, on the documents alone, with
            the queries and with all texts, and takes what finds most on held-out texts. Where these
            are no queries, documents left out one by one choose the strength.
        states: of the student's backbone.
        validation: what chooses; None takes all texts. The choice is fitted again with these texts
            among the others.
        held_out: texts that checks of the training will ask for, in no fit.

    Returns:
        How near the start is, and how it was chosen.
    """
    fitted, others = _sample(task, held_out)
    inputs, wanted = states.of(fitted), read_targets(task.targets, fitted)
    aims = follow_lengths(inputs, wanted) if student.spec.normalized else wanted
    origins = np.array([task.targets[g].origin for g, _ in fitted])
    asks = validation.texts if validation else frozenset()
    is_asked = np.array([task.targets[g].texts[i] in asks for g, i in fitted])
    asked = states.of(validation.rows) if validation else None
    head = student.projection
    assert head is not None
    projection = linear_part(head)

    def sum_over(rows: np.ndarray) -> RidgeSums:
        has_bias = projection.bias is not None
        return sum_for_ridge(inputs[rows], aims[rows], has_bias=has_bias)

    documents = np.flatnonzero(origins == DOCUMENTS)[:_MOST_LEFT_OUT]
    tried: list[tuple[ClosedForm, np.ndarray]] = []
    for name, ridges, chosen in _plan(task, origins, validation):
        sums = sum_over(chosen & ~is_asked) if validation else None
        leaves_out = len(ridges) > 1 and (validation is None or validation.origin == DOCUMENTS)
        whole = sum_over(chosen) if leaves_out else None
        for ridge in ridges:
            agreed = left_out = None
            if sums is not None and validation is not None and asked is not None:
                trial = _apply(sums.solve(ridge), asked, student.spec.normalized)
                agreed = validation.measure(trial)
            if whole is not None:
                told = whole.predict_left_out(inputs[documents], aims[documents], ridge)
                left_out = float(cosines(aims[documents], told).mean())
            form = ClosedForm(name, int(chosen.sum()), ridge, agreed, left_out)
            tried.append((form, chosen))
    best, rows = _choose(tried)
    solution = sum_over(rows).solve(best.ridge)
    with torch.no_grad():
        projection.weight.copy_(torch.from_numpy(solution.weight.T))
        if projection.bias is not None:
            projection.bias.copy_(torch.from_numpy(solution.bias))
    if isinstance(head, TwoLayerHead):
        head.spread(torch.from_numpy(inputs))
    unseen = states.of(others) if others else inputs
    expected = read_targets(task.targets, others) if others else wanted
    predicted = unseen @ solution.weight + solution.bias
    lengths = np.linalg.norm(predicted, axis=1) * np.linalg.norm(expected, axis=1)
    cosine = np.einsum("nd,nd->n", predicted, expected) / np.maximum(lengths, 1e-12)
    rank = head_rank(head)
    kept = variance_kept(wanted, rank)
    start = Start(rank, kept, float(cosine.mean()), best.num_texts, len(others))
    log(
        f"  a map of rank {rank} can keep {kept:.2%} of the teacher's variance in "
        f"{student.dim} dimensions; the closed-form W_out starts at cosine "
        f"{start.ridge_cosine:.4f} on {start.measured_on}"
    )
    if validation is not None:
        log(f"  closed form: {best} on {validation}")
    elif best.left_out is not None:
        log(f"  closed form: {best}")
    return start, best


def measure_bare_start(
    student: TextEncoder,
    task: Distillation,
    states: PooledStates,
    validation: Validation | None,
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
    everything = np.ones(len(origins), dtype=bool)
    if validation is None or task.config.ridge:
        ridges = [task.config.ridge] if task.config.ridge else _RIDGES
        return [("all given texts", ridges, everything)]
    plan: list[tuple[str, Sequence[float], np.ndarray]] = []
    seen = set()
    for name, wanted in _FITTED_TO.items():
        chosen = everything if wanted is None else np.isin(origins, wanted)
        if not chosen.any() or (count := int(chosen.sum())) in seen:
            continue
        seen.add(count)
        plan.append((name, _RIDGES, chosen))
    return plan


def _choose(tried: Sequence[tuple[ClosedForm, np.ndarray]]) -> tuple[ClosedForm, np.ndarray]:
    """The texts that find most, and of their ridges the one that predicts left-out documents best,
    where these were asked; else the strongest that is as good.
    """
    best, rows = tried[0]
    for form, chosen in tried[1:]:
        if form.agreed and best.agreed and form.agreed.is_better(best.agreed):
            best, rows = form, chosen
    forms = [form for form, _ in tried if form.fitted_to == best.fitted_to]
    left_out = {form.left_out: form for form in forms if form.left_out is not None}
    if left_out:
        return left_out[max(left_out)], rows
    if best.agreed is None:
        return best, rows
    as_good = [form for form in forms if form.agreed and form.agreed.is_as_good(best.agreed)]
    return max(as_good, key=lambda form: form.ridge), rows


def _apply(solution: AffineMap, inputs: np.ndarray, is_normalized: bool) -> np.ndarray:
    raw = inputs @ solution.weight + solution.bias
    return truncate_then_normalize(raw) if is_normalized else raw
