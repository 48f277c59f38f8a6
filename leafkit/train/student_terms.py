"""The terms of a student's loss, by name, from vectors alone.

Shapes: b rows of a batch, s of them scored, K candidates, D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch

from leafkit.config import SCORE_TERMS, CandidatesConfig, StudentLosses
from leafkit.core.devices import send
from leafkit.core.errors import UsageError
from leafkit.losses.leaf import cosine_loss, leaf_loss
from leafkit.losses.ranking import margin_mse, ranking_loss, triplet_loss
from leafkit.losses.scores import in_batch_loss, score_kl, score_mse


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
        num_global_rows: scored rows of the global batch.
        positives: (s, K) bool, true for a document that judgments call relevant; None where the
            contrastive term does not ask.
        num_global_judged: rows of the global batch that have any.
        second: whose scores count beside the teacher's; None where the teacher's alone do.
    """

    rows: torch.Tensor
    candidates: torch.Tensor
    present: torch.Tensor
    num_global_rows: int
    positives: torch.Tensor | None = None
    num_global_judged: int = 0
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
    (s, D), (s, K, D) with the nearest first, and ``present`` (s, K).
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
    """The teacher's nearest document above every other candidate."""
    nearest, others = candidates[:, 0], candidates[:, 1:]
    return triplet_loss(student, nearest, others, margin, present=present[:, 1:])


def _margin_mse(
    student: torch.Tensor,
    teacher: torch.Tensor,
    candidates: torch.Tensor,
    *,
    present: torch.Tensor,
) -> torch.Tensor:
    """The margins of the teacher's nearest document to every other candidate."""
    nearest, others = candidates[:, 0], candidates[:, 1:]
    return margin_mse(student, teacher, nearest, others, present=present[:, 1:])


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


def weights_at(losses: StudentLosses, progress: float) -> dict[str, float]:
    """Weights of the terms that count at a share of the steps.

    >>> weights_at(StudentLosses(score_kl=2.0, begin={"score_kl": 0.5}), 0.4)
    {'l2': 1.0}
    """
    return {
        term: weight
        for term, weight in weights_of(losses).items()
        if weight and progress >= losses.begin.get(term, 0.0)
    }


def check_terms(losses: StudentLosses) -> None:
    """Refuse weights that train nothing.

    Raises:
        UsageError: all are 0, at the beginning or ever, or a term begins that has no weight.
    """
    weights = weights_of(losses)
    active = [term for term, weight in weights.items() if weight]
    if not active:
        raise UsageError(
            "student.losses: all weights are 0, so nothing trains the student",
            "student.losses.l2=1, or student.kind=instant for the closed form alone",
        )
    late = [term for term in losses.begin if not weights[term]]
    if late:
        raise UsageError(
            f"student.losses.begin.{late[0]}: the term's weight is 0, so it never begins",
            f"student.losses.{late[0]}=1, or leave it out",
        )
    if all(losses.begin.get(term, 0.0) > 0 for term in active):
        raise UsageError(
            "student.losses.begin: no term counts in the first steps",
            "let one of them begin at 0",
        )


def check_losses(losses: StudentLosses, mrl_dims: tuple[int, ...]) -> None:
    """Refuse weights that train nothing, or ask for what the teacher lacks.

    Raises:
        UsageError: see ``check_terms``; or a term needs Matryoshka dimensions and there are none.
    """
    check_terms(losses)
    if losses.mrl_prefix and len(mrl_dims) < 2:
        raise UsageError(
            "student.losses.mrl_prefix: the teacher has no Matryoshka dimensions to follow",
            "leave it at 0, or name the teacher's with teacher.mrl_dims=[256,128]",
        )


def needs_candidates(losses: StudentLosses) -> bool:
    """Whether a term is over scores."""
    return any(weights_of(losses)[term] for term in SCORE_TERMS)


def needs_scores_alone(losses: StudentLosses) -> bool:
    """Whether texts without candidates would train nothing."""
    return not any(weight for term, weight in weights_of(losses).items() if term not in SCORE_TERMS)
