"""Scores against a frozen index: the student's query ranks candidate documents as the teacher's
query does.

The document side is the teacher's own stored vectors, which get no gradient, so what is trained is
the asymmetric ranking itself. Shapes: B queries, K candidates of each, D dimensions. ``present``
tells candidates from padding (``ids >= 0`` where -1 pads); what stands in a padded place counts for
nothing, be it NaN. Every loss is a sum over rows: the caller divides it by as many rows as a global
batch has on average.
"""

from __future__ import annotations

import torch

from leafkit.losses.contrastive import at_least_float32, inner_products


def candidate_scores(
    queries: torch.Tensor, candidates: torch.Tensor, present: torch.Tensor | None = None
) -> torch.Tensor:
    """(B, K) inner products of each query with its candidates, in float32 under autocast too.

    >>> candidate_scores(torch.eye(2), torch.tensor([[1.0, 0.0], [0.6, 0.8]])).tolist()
    [[1.0, 0.6000000238418579], [0.0, 0.800000011920929]]

    Args:
        queries: (B, D); gradients pass.
        candidates: (B, K, D), or (K, D) where all rows share them; unit vectors where the index
            ranks by cosine.
        present: (B, K) candidates that exist; None where all do. Absent ones score 0.
    """
    queries = at_least_float32(queries)
    candidates = at_least_float32(candidates.detach()).to(queries.dtype)
    if candidates.ndim == 2:
        scores_BK = inner_products(queries, candidates)
    else:
        if present is not None:  # 0 times NaN is NaN, in the gradient too
            candidates = candidates.masked_fill(~present[..., None], 0.0)
        scores_BK = inner_products(queries[:, None], candidates)[:, 0]
    return scores_BK if present is None else scores_BK.masked_fill(~present, 0.0)


def all_present(scores: torch.Tensor, present: torch.Tensor | None) -> torch.Tensor:
    """``present``, or all true in the shape of ``scores`` where there is none."""
    return torch.ones_like(scores, dtype=torch.bool) if present is None else present


def score_kl(
    student: torch.Tensor,
    teacher: torch.Tensor,
    candidates: torch.Tensor,
    temperature: float,
    *,
    present: torch.Tensor | None = None,
) -> torch.Tensor:
    """Sum over queries of KL(softmax(t.c / tau) || softmax(v.c / tau)) over the candidates c
    (contrastive distillation as in KaLM-Embedding V2.5, arXiv 2506.20923, against documents that
    stand still).

    >>> c = torch.eye(2)
    >>> t, v = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 0.0]])
    >>> round(float(score_kl(v, t, c, 1.0)), 4)  # log 2 - H(.731)
    0.1109

    Args:
        student: (B, D) the student's query vectors v, normalised if the teacher's are.
        teacher: (B, D) the teacher's vectors t of the same queries; constant.
        candidates: see ``candidate_scores``.
        temperature: tau, of both sides; its gradients grow as 1 / tau.
        present: (B, K); a query with fewer than two has nothing to compare and adds 0.
    """
    student_BK = candidate_scores(student, candidates, present) / temperature
    teacher_BK = candidate_scores(teacher.detach(), candidates, present).to(student_BK.dtype)
    teacher_BK = teacher_BK / temperature
    present_BK = all_present(student_BK, present)
    # a softmax over nothing is NaN: such a row keeps its zeros, and every term of it is cut below
    absent_BK = ~present_BK & present_BK.any(dim=1, keepdim=True)
    log_student = student_BK.masked_fill(absent_BK, -torch.inf).log_softmax(dim=1)
    log_teacher = teacher_BK.masked_fill(absent_BK, -torch.inf).log_softmax(dim=1)
    difference = (log_teacher - log_student).masked_fill(~present_BK, 0.0)
    return (log_teacher.exp() * difference).sum()


def score_mse(
    student: torch.Tensor,
    teacher: torch.Tensor,
    candidates: torch.Tensor,
    *,
    present: torch.Tensor | None = None,
) -> torch.Tensor:
    """Sum over queries of the mean over candidates of (v.c - t.c)^2 (soft labels by squared error,
    LG-ANNA-Embedding, arXiv 2506.07438).

    With the teacher's vectors of the batch as shared candidates it is the asymmetric form of
    ``in_batch_loss``.

    >>> v, t = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    >>> float(score_mse(v, t, torch.tensor([[1.0, 0.0], [0.0, 3.0]])))
    5.0

    Args:
        student: see ``score_kl``; so are teacher, candidates and present.
    """
    student_BK = candidate_scores(student, candidates, present)
    teacher_BK = candidate_scores(teacher.detach(), candidates, present)
    present_BK = all_present(student_BK, present)
    squared_BK = (student_BK - teacher_BK.to(student_BK.dtype)).square()
    return (squared_BK.sum(dim=1) / present_BK.sum(dim=1).clamp_min(1)).sum()


def in_batch_loss(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Sum over rows of the mean over the batch of (v_i.v_j - t_i.t_j)^2: the two matrices of
    similarities inside a batch agree (L_sim of Jasper and Stella, arXiv 2412.19048).

    It does not see a rotation of the student's space, so alone it gives no student that can ask the
    teacher's index.

    >>> v, t = torch.eye(2), torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    >>> round(float(in_batch_loss(v, t)), 4)  # twice .36 over two columns
    0.36

    Args:
        student: (B, D) v; the student's dimension need not be the teacher's.
        teacher: (B, E) t of the same texts; constant.
    """
    ours_BB = inner_products(student, student)
    theirs_BB = inner_products(teacher.detach(), teacher.detach()).to(ours_BB.dtype)
    return (ours_BB - theirs_BB).square().mean(dim=1).sum()
