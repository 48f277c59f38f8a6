"""The LEAF loss (arXiv 2509.12539): the student's vector should be the teacher's."""

from __future__ import annotations

from typing import NamedTuple

import torch


class Distances(NamedTuple):
    """Three figures that publications mix up, each (B,): name the one that is quoted."""

    squared_l2: torch.Tensor
    l2: torch.Tensor
    cosine: torch.Tensor


def measure_distances(student: torch.Tensor, teacher: torch.Tensor) -> Distances:
    """Squared L2, L2 and cosine of each pair of rows, in float32.

    >>> d = measure_distances(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]))
    >>> [round(float(x), 4) for x in d]
    [2.0, 1.4142, 0.0]

    Args:
        student: (B, D) vectors, normalised if the teacher's are.
        teacher: (B, D) vectors of the same texts.
    """
    student, teacher = student.float(), teacher.float()
    squared = (student - teacher).square().sum(dim=-1)
    return Distances(
        squared,
        squared.clamp_min(0).sqrt(),
        torch.nn.functional.cosine_similarity(student, teacher, dim=-1),
    )


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
