"""The LEAF loss and the three distances that publications mix up."""

from __future__ import annotations

import doctest

import pytest
import torch

from leafkit.losses import leaf
from leafkit.losses.leaf import cosine_loss, leaf_loss


def pair(rows: int = 4, dim: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(
        torch.nn.functional.normalize(torch.randn(rows, dim, generator=generator), dim=1)
        for _ in range(2)
    )


def test_doctests():
    found = doctest.testmod(leaf)
    assert found.attempted > 0
    assert found.failed == 0


def test_a_case_by_hand():
    student, teacher = (
        torch.tensor([[3.0, 0.0], [0.0, 1.0]]),
        torch.tensor([[0.0, 4.0], [0.0, 1.0]]),
    )
    assert float(leaf_loss(student, teacher)) == 25.0
    # one pair of rows stands at a right angle, the other one is the same twice
    assert float(cosine_loss(student, teacher)) == pytest.approx(1.0)


def test_unit_vectors_lie_two_minus_two_cosines_apart():
    student, teacher = pair()
    assert float(leaf_loss(student, teacher)) == pytest.approx(
        2 * float(cosine_loss(student, teacher)), rel=1e-5
    )


def test_it_is_a_sum_over_rows():
    student, teacher = pair()
    parts = float(leaf_loss(student[:1], teacher[:1])) + float(leaf_loss(student[1:], teacher[1:]))
    assert float(leaf_loss(student, teacher)) == pytest.approx(parts, rel=1e-6)


def test_the_gradient_is_twice_the_difference():
    """In closed form: the function casts to float32, so ``gradcheck`` in float64 would only see
    rounding.
    """
    student, teacher = pair()
    student.requires_grad_()
    leaf_loss(student, teacher).backward()
    assert torch.allclose(student.grad, 2 * (student.detach() - teacher), atol=1e-6)


def test_rotating_both_changes_nothing_and_rotating_one_does():
    student, teacher = pair()
    turn = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(1)))[0]
    assert float(leaf_loss(student @ turn, teacher @ turn)) == pytest.approx(
        float(leaf_loss(student, teacher)), rel=1e-5
    )
    assert float(leaf_loss(teacher @ turn, teacher)) > 0.1


def test_half_precision_inputs_are_subtracted_in_float32():
    student, teacher = (t.half() for t in pair())
    assert leaf_loss(student, teacher).dtype == torch.float32
    assert float(leaf_loss(student, teacher)) == float(leaf_loss(student.float(), teacher.float()))


def test_cosine_loss_by_hand():
    student, teacher = (
        torch.tensor([[3.0, 4.0], [0.0, 1.0], [1.0, 1.0]]),
        torch.tensor([[6.0, 8.0], [5.0, 0.0], [-2.0, -2.0]]),
    )
    assert float(cosine_loss(student, teacher)) == pytest.approx(0 + 1 + 2)


def test_cosine_loss_of_unit_vectors_is_half_the_leaf_loss():
    student, teacher = pair()
    assert float(cosine_loss(student, teacher)) == pytest.approx(
        float(leaf_loss(student, teacher)) / 2, rel=1e-5
    )


def test_cosine_loss_does_not_see_lengths_and_its_gradient_only_turns():
    student, teacher = pair()
    student.requires_grad_()
    loss = cosine_loss(3 * student, 5 * teacher)
    assert loss.item() == pytest.approx(cosine_loss(student, teacher).item(), rel=1e-5)
    loss.backward()
    assert (student.grad * student).sum(dim=1).abs().max() < 1e-6


def test_cosine_loss_of_a_zero_vector_is_finite_with_its_gradient():
    student = torch.zeros(1, 4, requires_grad=True)
    loss = cosine_loss(student, torch.ones(1, 4))
    loss.backward()
    assert float(loss.detach()) == 1.0
    assert torch.isfinite(student.grad).all()
