"""The LEAF loss (arXiv 2509.12539): the student's vector should be the teacher's."""

from __future__ import annotations

import torch


def leaf_loss(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Sum over rows of the squared L2 distance; the caller divides by the rows of the global batch.

    No negatives, no judgments: only the text's own teacher vector is needed.

    Args:
        student: (B, D), normalised if the teacher's are.
        teacher: (B, D), constant.
    """
    return (student.float() - teacher.float()).square().sum()


def cosine_loss(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Sum over rows of 1 - cosine; the caller divides by the rows of the global batch.

    Of unit vectors it is half the ``leaf_loss``. Lengths play no part, so a student of unit vectors
    can follow a teacher whose vectors have any length.

    >>> student = torch.tensor([[3.0, 0.0], [0.0, 1.0]])
    >>> float(cosine_loss(student, torch.tensor([[5.0, 0.0], [2.0, 0.0]])))
    1.0

    Args:
        student: (B, D).
        teacher: (B, D), constant.
    """
    return (
        1 - torch.nn.functional.cosine_similarity(student.float(), teacher.float(), dim=-1)
    ).sum()
