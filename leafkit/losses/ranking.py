"""The order of candidates: triplets, margins, pairs weighted by rank, labels.

As in ``leafkit.losses.scores`` documents are the frozen teacher's vectors, ``present`` tells them
from padding, and every loss is a sum over rows. Shapes: B queries, K candidates or M negatives of
each, D dimensions.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from leafkit.losses.scores import all_present, candidate_scores

_SMALLEST_SUM = 1e-12


def triplet_loss(
    student: torch.Tensor,
    positives: torch.Tensor,
    negatives: torch.Tensor,
    margin: float,
    *,
    present: torch.Tensor | None = None,
) -> torch.Tensor:
    """Sum over queries of the mean over negatives of max(0, v.n - v.p + margin).

    It is the part of L_resim of Jasper and Stella (arXiv 2412.19048, the losses of its distillation
    stages, with a margin of .015) that is anchored at queries. There any two pairs of a batch's
    texts are compared, max(0, s_m.s_n - s_i.s_j + margin) wherever the teacher finds i and j more
    alike than m and n, with the student's vectors s on both sides. Here both pairs have the query
    in common, and documents are the teacher's.

    >>> v, p = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.5, 0.0]])
    >>> n = torch.tensor([[[0.75, 0.0], [0.0, 1.0]]])
    >>> float(triplet_loss(v, p, n, 0.25))  # (.75 - .5 + .25 and 0) / 2
    0.25

    Args:
        student: (B, D) query vectors v.
        positives: (B, D) the document p that should be nearer: the teacher's nearest, say.
        negatives: (B, M, D) documents n.
        margin: by which it should be nearer.
        present: (B, M) negatives that exist; a query without any adds 0.
    """
    positive_B1 = candidate_scores(student, positives[:, None])
    negative_BM = candidate_scores(student, negatives, present)
    present_BM = all_present(negative_BM, present)
    short_BM = (negative_BM - positive_B1 + margin).clamp_min(0).masked_fill(~present_BM, 0.0)
    return (short_BM.sum(dim=1) / present_BM.sum(dim=1).clamp_min(1)).sum()


def margin_mse(
    student: torch.Tensor,
    teacher: torch.Tensor,
    positives: torch.Tensor,
    negatives: torch.Tensor,
    *,
    present: torch.Tensor | None = None,
) -> torch.Tensor:
    """Sum over queries of the mean over negatives of ((v.p - v.n) - (t.p - t.n))^2 (MarginMSE,
    arXiv 2010.02666): the distance between scores counts, not their level.

    >>> v, t = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    >>> p, n = torch.tensor([[1.0, 0.0]]), torch.tensor([[[0.0, 1.0]]])
    >>> float(margin_mse(v, t, p, n))  # margins 1 and -1
    4.0

    Args:
        student: see ``triplet_loss``; so are positives, negatives and present.
        teacher: (B, D) the teacher's vectors t of the same queries; constant.
    """
    ours_BM = candidate_scores(student, positives[:, None]) - candidate_scores(
        student, negatives, present
    )
    theirs_BM = candidate_scores(teacher.detach(), positives[:, None]) - candidate_scores(
        teacher.detach(), negatives, present
    )
    present_BM = all_present(ours_BM, present)
    squared_BM = (ours_BM - theirs_BM.to(ours_BM.dtype)).square().masked_fill(~present_BM, 0.0)
    return (squared_BM.sum(dim=1) / present_BM.sum(dim=1).clamp_min(1)).sum()


def ranking_loss(
    student: torch.Tensor,
    teacher: torch.Tensor,
    candidates: torch.Tensor,
    temperature: float,
    *,
    top: int = 10,
    present: torch.Tensor | None = None,
) -> torch.Tensor:
    """Sum over queries of the weighted mean of log(1 + exp(-(v.c_i - v.c_j) / tau)) over the pairs
    that the teacher orders c_i before c_j.

    A pair's weight is what nDCG@top would change if the two were exchanged in the teacher's
    ranking, |g_i - g_j| |1 / log2(1 + r_i) - 1 / log2(1 + r_j)| (LambdaRank, Burges,
    MSR-TR-2010-82), with the teacher's rank r (from 1) as the label: g = 1 - (r - 1) / top for the
    first ``top`` and 0 behind them, as no judgments are needed. So pairs that both lie behind
    ``top`` have none. Candidates that the teacher scores alike have no order.

    >>> c = torch.eye(3)
    >>> v, t = torch.tensor([[0.0, 1.0, 0.0]]), torch.tensor([[3.0, 2.0, 1.0]])
    >>> round(float(ranking_loss(v, t, c, 1.0, top=2)), 4)  # weights .1845, .5, .0655
    0.8126

    Args:
        student: (B, D) query vectors v.
        teacher: (B, D) the teacher's vectors of the same queries; constant.
        candidates: (B, K, D), or (K, D) where all rows share them.
        temperature: tau, of the differences between scores.
        top: ranks that matter.
        present: (B, K); a query without two candidates that differ adds 0.
    """
    student_BK = candidate_scores(student, candidates, present) / temperature
    teacher_BK = candidate_scores(teacher.detach(), candidates, present)
    present_BK = all_present(student_BK, present)
    best_first = teacher_BK.masked_fill(~present_BK, -torch.inf).sort(
        dim=1, descending=True, stable=True
    )
    theirs_BK, order_BK = best_first
    ours_BK, there_BK = student_BK.gather(1, order_BK), present_BK.gather(1, order_BK)
    ranks_K = torch.arange(1, ours_BK.shape[1] + 1, device=ours_BK.device, dtype=ours_BK.dtype)
    gains_K = (1 - (ranks_K - 1) / top).clamp_min(0)
    discounts_K = 1 / (1 + ranks_K).log2()
    first = slice(None, top)  # T = min(top, K) of the ranks
    weights_TK = (gains_K[first, None] - gains_K) * (discounts_K[first, None] - discounts_K)
    # the lower left half holds the same pairs the other way round
    weights_TK = weights_TK.triu(1)
    is_ordered_BTK = there_BK[:, None] & (theirs_BK[:, first, None] > theirs_BK[:, None])
    weights_BTK = weights_TK * is_ordered_BTK
    pairs_BTK = functional.softplus(ours_BK[:, None] - ours_BK[:, first, None])
    summed_B = (weights_BTK * pairs_BTK).sum(dim=(1, 2))
    return (summed_B / weights_BTK.sum(dim=(1, 2)).clamp_min(_SMALLEST_SUM)).sum()


def contrastive_loss(
    student: torch.Tensor,
    candidates: torch.Tensor,
    positives: torch.Tensor,
    temperature: float,
    *,
    present: torch.Tensor | None = None,
) -> torch.Tensor:
    """Sum over queries of the mean over their positives p of -log(e^(v.p / tau) / (e^(v.p / tau) +
    sum over negatives n of e^(v.n / tau))): InfoNCE (arXiv 1807.03748) against documents that stand
    still, where judgments say which candidates are relevant.

    A query's other positives are in no denominator: they would be pushed away from each other.

    >>> v, c = torch.tensor([[1.0, 0.0]]), torch.eye(2)
    >>> round(float(contrastive_loss(v, c, torch.tensor([[True, False]]), 1.0)), 4)  # log(1 + 1/e)
    0.3133

    Args:
        student: (B, D) query vectors v.
        candidates: (B, K, D), or (K, D) where all rows share them; every one that is no positive is
            a negative.
        positives: (B, K) true where a candidate is relevant.
        temperature: tau.
        present: (B, K); a query without a positive or without a negative adds 0.
    """
    logits_BK = candidate_scores(student, candidates, present) / temperature
    present_BK = all_present(logits_BK, present)
    positive_BK, negative_BK = positives & present_BK, ~positives & present_BK
    has_both_B = positive_BK.any(dim=1) & negative_BK.any(dim=1)
    # a row that counts for nothing keeps its logits: the sum of no exponentials has no gradient
    hidden_BK = ~negative_BK & has_both_B[:, None]
    against_B1 = logits_BK.masked_fill(hidden_BK, -torch.inf).logsumexp(dim=1, keepdim=True)
    terms_BK = functional.softplus(against_B1 - logits_BK)
    terms_BK = terms_BK.masked_fill(~(positive_BK & has_both_B[:, None]), 0.0)
    return (terms_BK.sum(dim=1) / positive_BK.sum(dim=1).clamp_min(1)).sum()
