"""Matryoshka for students: each prefix of a vector follows the teacher's prefix of that width."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from leafkit.core.truncate import truncate_then_normalize
from leafkit.losses.contrastive import at_each_dimension, at_least_float32


def prefix_loss(
    student: torch.Tensor, teacher: torch.Tensor, dims: Sequence[int], weights: Sequence[float]
) -> torch.Tensor:
    """sum_d w_d sum over rows of ||normalise(v[:d]) - normalise(t[:d])||^2 (Matryoshka, arXiv
    2205.13147, as alignment; F2LLM matches the teacher's first dimensions so).

    It asks for more than the distance of the whole vectors only where the teacher's prefixes are
    short: an error that is small beside the whole is large beside them.

    >>> v, t = torch.tensor([[3.0, 4.0, 1.0]]), torch.tensor([[4.0, 3.0, 9.0]])
    >>> round(float(prefix_loss(v, t, [1, 2], [5.0, 0.5])), 4)  # first parts agree; .5 * .08
    0.04

    Args:
        student: (B, D) vectors v, cut before they are brought to length one.
        teacher: (B, D) vectors t of the same texts; constant.
        dims: widths d, each at most D.
        weights: w_d of each.

    Raises:
        ValueError: a width is not between 1 and D, or there are not as many weights as widths.
    """
    student, teacher = at_least_float32(student), at_least_float32(teacher).detach()
    if student.shape != teacher.shape:
        raise ValueError(f"shapes {tuple(student.shape)} and {tuple(teacher.shape)} differ")

    def loss(dim: int) -> torch.Tensor:
        ours, theirs = (truncate_then_normalize(v, dim) for v in (student, teacher))
        return (ours - theirs).square().sum()

    return at_each_dimension(loss, dims, weights)
