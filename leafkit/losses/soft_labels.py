"""Soft labels: the student's scores over a row's candidates follow a stronger model's
(KaLM-Embedding V2.5, LG-ANNA).

Shapes: B rows, K candidates of a row (its positive and its own hard negatives), with ``present``
    where a row has fewer.
"""

from __future__ import annotations

import torch

from leafkit.losses.contrastive import at_least_float32


def soft_kl(
    student: torch.Tensor, teacher: torch.Tensor, present: torch.Tensor, temperature: float
) -> torch.Tensor:
    """Mean over rows of KL(softmax(teacher / T) || softmax(student / T)) (arXiv 2506.20923,
    contrastive distillation).

    Both sides have the same temperature. At .02 and below the teacher's softmax collapses to
    one-hot.

    >>> teacher, student = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 0.0]])
    >>> present = torch.ones(1, 2, dtype=torch.bool)
    >>> round(float(soft_kl(student, teacher, present, 1.0)), 4)  # log 2 - H(.731)
    0.1109

    Args:
        student: (B, K) scores, cosines say; gradients pass.
        teacher: (B, K) scores of the same candidates in the same order.
        present: (B, K) candidates that exist; a row with one has nothing to compare and adds 0.
        temperature: T.
    """
    student, teacher = at_least_float32(student), at_least_float32(teacher).detach()
    log_teacher = (teacher / temperature).masked_fill(~present, -torch.inf).log_softmax(dim=1)
    log_student = (student / temperature).masked_fill(~present, -torch.inf).log_softmax(dim=1)
    difference = (log_teacher - log_student).masked_fill(~present, 0.0)
    return (log_teacher.exp() * difference).sum(dim=1).mean()


def soft_mse(student: torch.Tensor, teacher: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    """Mean over rows of the mean squared difference of the scores (soft labels of LG-ANNA, arXiv
    2506.07438).

    >>> scores = torch.tensor([[1.0, 0.5]])
    >>> float(soft_mse(scores, torch.tensor([[0.0, 0.5]]), torch.tensor([[True, True]])))
    0.5

    Args:
        student: (B, K) scores; gradients pass.
        teacher: (B, K) scores on the same scale.
        present: (B, K) candidates that exist.
    """
    squared = (
        (at_least_float32(student) - at_least_float32(teacher).detach())
        .square()
        .masked_fill(~present, 0.0)
    )
    return (squared.sum(dim=1) / present.sum(dim=1).clamp_min(1)).mean()
