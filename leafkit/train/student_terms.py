"""The terms of a student's loss, by name, from vectors alone.

Shapes: b rows of a batch, s of them scored, K candidates, D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from leafkit.config import BLACK_BOXES, SCORE_TERMS, CandidatesConfig, StudentLosses
from leafkit.core.devices import send
from leafkit.core.errors import UsageError
from leafkit.losses.leaf import cosine_loss, leaf_loss
from leafkit.losses.ranking import margin_mse, ranking_loss, triplet_loss
from leafkit.losses.scores import candidate_scores, in_batch_loss, score_kl, score_mse


@dataclass(frozen=True, slots=True)
class SecondOpinion:
    """Another model's scores, to be followed beside the teacher's.

    Attributes:
        rows: (s, E) its vectors of the scored rows.
        candidates: (s, K, E) its vectors of their candidates.
        weight: of its scores; the teacher's have 1.
    """

    rows: torch.Tensor
    candidates: torch.Tensor
    weight: float


@dataclass(frozen=True, slots=True)
class ScoredRows:
    """Rows of a batch with their candidate documents.

    Attributes:
        rows: (s,) which rows of the batch.
        candidates: (s, K, D) the teacher's vectors of documents, the nearest first.
        present: (s, K) bool, false for a candidate that takes no part.
        expected_rows: scored rows that a global batch of this size has on average; sums over
            scored rows are divided by it, so that a row weighs no more for being alone.
        positives: (s, K) bool, true for a document that judgments call relevant; None where the
            contrastive term does not ask.
        expected_judged: likewise rows that have any.
        second: whose scores count beside the teacher's; None where the teacher's alone do.
    """

    rows: torch.Tensor
    candidates: torch.Tensor
    present: torch.Tensor
    expected_rows: float
    positives: torch.Tensor | None = None
    expected_judged: float = 0.0
    second: SecondOpinion | None = None


def with_second_opinion(
    student: torch.Tensor, teacher: torch.Tensor, scored: ScoredRows
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Student's and teacher's vectors of the scored rows and their candidates', such that the
    student's scores stay what they are and the teacher's become the mean of both opinions,
    (t.c + w u.d) / (1 + w) with u and d the other model's vectors and w its weight (distillation
    of an ensemble, Hinton et al., arXiv 1503.02531, of inner products).

    >>> second = SecondOpinion(torch.ones(1, 1), torch.tensor([[[1.0], [0.0]]]), 1.0)
    >>> rows, c = torch.tensor([0]), torch.eye(2)[None]
    >>> scored = ScoredRows(rows, c, torch.ones(1, 2, dtype=torch.bool), 1, second=second)
    >>> v, t, c = with_second_opinion(torch.eye(2)[:1], torch.eye(2)[1:], scored)
    >>> (c @ v[0]).tolist(), (c @ t[0]).tolist()
    ([[1.0, 0.0]], [[0.5, 0.5]])

    Args:
        student: (s, D); gradients pass.
        teacher: (s, D).
        scored: candidates on any device; the results are on the student's.

    Returns:
        (s, D + E), (s, D + E), (s, K, D + E); of D dimensions where nothing is beside the teacher.
    """
    candidates = send(scored.candidates, student.device)
    if scored.second is None:
        return student, teacher, candidates
    rows = send(scored.second.rows, student.device)
    weight = scored.second.weight
    return (
        torch.nn.functional.pad(student, (0, rows.shape[1])),
        torch.cat([teacher, weight * rows], dim=1) / (1 + weight),
        torch.cat([candidates, send(scored.second.candidates, student.device)], dim=2),
    )


# sums over rows of the student's vectors and the teacher's, (b, D) each
OF_VECTORS: dict[str, Callable[..., torch.Tensor]] = {
    "l2": leaf_loss,
    "cosine": cosine_loss,
    "in_batch": in_batch_loss,
}


def over_scores(config: CandidatesConfig) -> Mapping[str, Callable[..., torch.Tensor]]:
    """Sums over scored rows of the student's vectors, the teacher's and the candidates', (s, D),
    (s, D), (s, K, D), and ``present`` (s, K).
    """
    return {
        "score_kl": partial(score_kl, temperature=config.temperature),
        "score_mse": score_mse,
        "ranking": partial(ranking_loss, temperature=config.temperature),
        "triplet": partial(_triplet, margin=config.margin),
        "margin_mse": _margin_mse,
    }


def _triplet(
    student: torch.Tensor,
    teacher: torch.Tensor,
    candidates: torch.Tensor,
    *,
    margin: float,
    present: torch.Tensor,
) -> torch.Tensor:
    """The candidate that the scores to follow put first above every other one."""
    first, others = _first_and_others(teacher, candidates, present)
    return triplet_loss(student, first, candidates, margin, present=others)


def _margin_mse(
    student: torch.Tensor,
    teacher: torch.Tensor,
    candidates: torch.Tensor,
    *,
    present: torch.Tensor,
) -> torch.Tensor:
    """The margins of the candidate that the scores to follow put first to every other one."""
    first, others = _first_and_others(teacher, candidates, present)
    return margin_mse(student, teacher, first, candidates, present=others)


def _first_and_others(
    teacher: torch.Tensor, candidates: torch.Tensor, present: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(s, D) the candidate of the highest score; (s, K) bool, which others there are."""
    scores = candidate_scores(teacher, candidates, present).masked_fill(~present, -torch.inf)
    first = scores.argmax(dim=1, keepdim=True)
    return candidates.take_along_dim(first[..., None], 1)[:, 0], present.scatter(1, first, False)


def weights_of(losses: StudentLosses) -> dict[str, float]:
    """Weight of every term."""
    return {
        "l2": losses.l2,
        "cosine": losses.cosine,
        "in_batch": losses.in_batch,
        "mrl_prefix": losses.mrl_prefix,
        "gor": losses.gor,
        "score_kl": losses.score_kl,
        "score_mse": losses.score_mse,
        "ranking": losses.ranking,
        "triplet": losses.triplet,
        "margin_mse": losses.margin_mse,
        "contrastive": losses.contrastive,
    }


def terms_with_weight(losses: StudentLosses) -> list[str]:
    """Those that count at some time."""
    return [term for term, weight in weights_of(losses).items() if weight]


def span_of(losses: StudentLosses, term: str) -> tuple[float, float]:
    """Shares of the steps between which a term counts: the first included, the second not, unless
    it is 1, which is no end.
    """
    return losses.begin.get(term, 0.0), losses.end.get(term, 1.0)


def is_scheduled(losses: StudentLosses) -> bool:
    """Whether a term counts in a part of the steps only."""
    return bool(losses.begin or losses.end)


def weights_at(losses: StudentLosses, progress: float) -> dict[str, float]:
    """Weights of the terms that count at a share of the steps.

    >>> losses = StudentLosses(score_kl=2.0, begin={"score_kl": 0.5}, end={"l2": 0.75})
    >>> [sorted(weights_at(losses, share)) for share in (0.4, 0.5, 0.75)]
    [['l2'], ['l2', 'score_kl'], ['score_kl']]
    """
    weights = weights_of(losses)
    return {
        term: weights[term]
        for term in terms_with_weight(losses)
        if _counts(span_of(losses, term), np.array(progress))
    }


def _counts(span: tuple[float, float], progress: np.ndarray) -> np.ndarray:
    """Whether shares of the steps lie within a span; bool, of the same shape."""
    found: np.ndarray = (progress >= span[0]) & ((progress < span[1]) | (span[1] == 1))
    return found


def describe_schedule(losses: StudentLosses, num_steps: int) -> str:
    """In which steps, counted from 1, each term counts.

    >>> losses = StudentLosses(score_kl=1.0, begin={"score_kl": 0.3}, end={"l2": 0.5})
    >>> describe_schedule(losses, 10)
    'of 10 steps: l2 in steps 1 to 5, score_kl in steps 4 to 10'
    """
    progress = np.arange(num_steps) / num_steps
    parts = []
    for term in terms_with_weight(losses):
        steps = np.flatnonzero(_counts(span_of(losses, term), progress)) + 1
        found = f"steps {steps[0]:,} to {steps[-1]:,}" if len(steps) else "none, too few"
        parts.append(f"{term} in {found}")
    return f"of {num_steps:,} steps: {', '.join(parts)}"


def where_scores_are_alone(losses: StudentLosses, progress: np.ndarray) -> np.ndarray:
    """(n,) bool, whether a text without candidates would train nothing at shares of the steps.

    >>> losses = StudentLosses(score_kl=1.0, end={"l2": 0.5})
    >>> where_scores_are_alone(losses, np.array([0.0, 0.4, 0.5, 0.9])).tolist()
    [False, False, True, True]

    Args:
        losses: of terms one of which counts at any time; see ``check_terms``.
        progress: (n,) shares.
    """
    others = [term for term in terms_with_weight(losses) if term not in SCORE_TERMS]
    counted = np.zeros(len(progress), dtype=bool)
    for term in others:
        counted |= _counts(span_of(losses, term), progress)
    return ~counted


def check_terms(losses: StudentLosses) -> None:
    """Refuse weights that train nothing.

    Raises:
        UsageError: all are 0, ever or for a part of the training, or a term is to begin or end that
            has no weight, or ends before it begins.
    """
    active = terms_with_weight(losses)
    if not active:
        raise UsageError(
            "student.losses: all weights are 0, so nothing trains the student",
            "student.losses.l2=1, or student.kind=instant for the closed form alone",
        )
    for key, terms in (("begin", losses.begin), ("end", losses.end)):
        idle = [term for term in terms if term not in active]
        if idle:
            raise UsageError(
                f"student.losses.{key}.{idle[0]}: the term's weight is 0, so it never {key}s",
                f"student.losses.{idle[0]}=1, or leave it out",
            )
    spans = sorted((*span_of(losses, term), term) for term in active)
    for begin, end, term in spans:
        if end <= begin:
            key = "end" if term in losses.end else "begin"
            raise UsageError(
                f"student.losses.{key}.{term}: the term begins at {begin:g} of the steps and ends "
                f"at {end:g}, so it never counts",
                f"let it end later than it begins, or student.losses.{term}=0",
            )
    reached = 0.0
    for begin, end, _ in [*spans, (1.0, 1.0, "")]:
        if begin > reached:
            raise UsageError(
                f"student.losses: no term counts between {reached:g} and {begin:g} of the steps",
                "let one of them begin earlier (student.losses.begin) or end later "
                "(student.losses.end)",
            )
        reached = max(reached, end)


def check_losses(losses: StudentLosses, mrl_dims: tuple[int, ...], reference: str = "") -> None:
    """Refuse weights that train nothing, or ask for what the teacher lacks.

    Args:
        losses: of a student.
        mrl_dims: of its teacher, up to ``student.dim``.
        reference: how a recipe names the teacher; of one that is an object, or named in Python, "".

    Raises:
        UsageError: see ``check_terms``; or a term needs Matryoshka dimensions and there are none.
    """
    check_terms(losses)
    if losses.mrl_prefix and len(mrl_dims) < 2:
        has = "no Matryoshka dimensions to follow"
        if mrl_dims:
            has = f"one Matryoshka dimension alone here, {mrl_dims[0]:,}"
        hint = "leave it at 0: student.losses.l2 follows the whole vectors"
        if reference.startswith(BLACK_BOXES):
            hint += "; or name two of the teacher's or more, teacher.mrl_dims=[256,128] say"
        raise UsageError(
            f"student.losses.mrl_prefix follows several dimensions, and the teacher has {has}",
            hint,
        )


def needs_candidates(losses: StudentLosses) -> bool:
    """Whether a term is over scores."""
    return any(term in SCORE_TERMS for term in terms_with_weight(losses))


def needs_scores_alone(losses: StudentLosses) -> bool:
    """Whether texts without candidates would train nothing, at any time."""
    return all(term in SCORE_TERMS for term in terms_with_weight(losses))
