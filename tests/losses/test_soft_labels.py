"""Soft labels: divergences by hand and against PyTorch's own, absent candidates, directions of
gradients.
"""

from __future__ import annotations

import doctest
import math

import pytest
import torch
from torch.nn import functional

from leafkit.losses import soft_labels
from leafkit.losses.soft_labels import soft_kl, soft_mse


def scores(
    rows: int = 4, candidates: int = 5, seed: int = 0, dtype: torch.dtype = torch.float64
) -> torch.Tensor:
    return torch.rand(rows, candidates, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def everywhere(values: torch.Tensor) -> torch.Tensor:
    return torch.ones(values.shape, dtype=torch.bool)


RAGGED = torch.tensor(
    [[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 0, 0, 0, 0], [1, 1, 1, 0, 0]], dtype=torch.bool
)


def test_doctests():
    found = doctest.testmod(soft_labels)
    assert found.attempted > 0
    assert found.failed == 0


def test_kl_by_hand():
    """Softmaxes (3/4, 1/4) and (1/2, 1/2) at T = 2: .75 log 1.5 + .25 log .5; the other way is
    another number.
    """
    teacher = torch.tensor([[2 * math.log(3), 0.0]])
    student = torch.tensor([[0.3, 0.3]])
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert float(soft_kl(student, teacher, everywhere(student), 2.0)) == pytest.approx(
        expected, rel=1e-6
    )
    reverse = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    assert float(soft_kl(teacher, student, everywhere(student), 2.0)) == pytest.approx(
        reverse, rel=1e-6
    )


def test_kl_is_what_pytorch_computes():
    student, teacher = scores(seed=0), scores(seed=1)
    logs = [(x / 0.05).log_softmax(dim=1) for x in (student, teacher)]
    expected = functional.kl_div(*logs, reduction="batchmean", log_target=True)
    assert float(soft_kl(student, teacher, everywhere(student), 0.05)) == pytest.approx(
        float(expected), rel=1e-12
    )


def test_equal_distributions_have_no_loss_and_no_gradient():
    student = scores().requires_grad_()
    loss = soft_kl(student, student.detach() + 3.0, everywhere(student), 0.05)
    loss.backward()
    assert loss.item() == pytest.approx(0.0, abs=1e-12)
    assert float(student.grad.abs().max()) < 1e-12


def test_kl_does_not_see_a_shift_of_either_side_and_mse_does():
    student, teacher = scores(seed=0), scores(seed=1)
    plain = soft_kl(student, teacher, everywhere(student), 0.05)
    shift = torch.tensor([[0.5], [-2.0], [7.0], [0.1]], dtype=torch.float64)
    assert float(
        soft_kl(student + shift, teacher - shift, everywhere(student), 0.05)
    ) == pytest.approx(float(plain), rel=1e-9)
    assert float(soft_mse(student, teacher + shift, everywhere(student))) > 1


def test_a_step_against_the_gradient_moves_the_student_to_the_teacher():
    """d KL / d s_k = (softmax(s / T) - softmax(t / T))_k / T / B."""
    student, teacher = scores(seed=0).requires_grad_(), scores(seed=1)
    soft_kl(student, teacher, everywhere(student), 0.2).backward()
    expected = ((student.detach() / 0.2).softmax(1) - (teacher / 0.2).softmax(1)) / 0.2 / 4
    torch.testing.assert_close(student.grad, expected)


def test_the_teacher_gets_no_gradient():
    student, teacher = scores(seed=0).requires_grad_(), scores(seed=1).requires_grad_()
    (soft_kl(student, teacher, RAGGED, 0.1) + soft_mse(student, teacher, RAGGED)).backward()
    assert teacher.grad is None


@pytest.mark.parametrize(
    "loss", [lambda s, t, present: soft_kl(s, t, present, 0.1), soft_mse], ids=["kl", "mse"]
)
def test_absent_candidates_take_no_part_whatever_their_scores(loss):
    """Each row alone with the candidates it has; a row of one adds nothing to KL."""
    student, teacher = scores(seed=0), scores(seed=1)
    parts = []
    for row, count in enumerate(RAGGED.sum(dim=1).tolist()):
        s, t = student[row : row + 1, :count], teacher[row : row + 1, :count]
        parts.append(float(loss(s, t, everywhere(s))))
    noisy = torch.where(RAGGED, teacher, torch.full_like(teacher, 1e6))
    moved = torch.where(RAGGED, student, -student).requires_grad_()
    value = loss(moved, noisy, RAGGED)
    value.backward()
    assert value.item() == pytest.approx(sum(parts) / 4, rel=1e-12)
    assert torch.isfinite(moved.grad).all()
    assert moved.grad[~RAGGED].abs().max() == 0 < moved.grad[RAGGED].abs().max()


def test_rows_of_one_candidate_have_no_kl():
    student = scores(3, 1).requires_grad_()
    loss = soft_kl(student, scores(3, 1, seed=1), everywhere(student), 0.05)
    loss.backward()
    assert loss.item() == 0
    assert student.grad.abs().max() == 0


def test_sharp_teachers_stay_finite_in_float32():
    """At T = .001 the softmaxes are one-hot and most probabilities are 0."""
    student, teacher = (
        scores(dtype=torch.float32).requires_grad_(),
        scores(seed=1, dtype=torch.float32),
    )
    loss = soft_kl(student, teacher, RAGGED, 0.001)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(student.grad).all()


def test_mse_by_hand():
    """First row (.5^2 + 1^2) / 2, second row .3^2 over its one candidate; the mean of both."""
    student = torch.tensor([[0.5, 0.0], [0.9, 0.4]])
    teacher = torch.tensor([[1.0, 1.0], [0.6, 9.0]])
    present = torch.tensor([[True, True], [True, False]])
    assert float(soft_mse(student, teacher, present)) == pytest.approx((0.625 + 0.09) / 2, rel=1e-6)


def test_half_precision_is_raised_to_float32():
    student, teacher = scores().half(), scores(seed=1).half()
    for loss in (lambda s, t: soft_kl(s, t, RAGGED, 0.05), lambda s, t: soft_mse(s, t, RAGGED)):
        assert loss(student, teacher).dtype == torch.float32
        assert torch.equal(loss(student, teacher), loss(student.float(), teacher.float()))


@pytest.mark.parametrize("present", [RAGGED, torch.ones(4, 5, dtype=torch.bool)])
def test_gradcheck(present):
    student, teacher = scores().requires_grad_(), scores(seed=1)
    assert torch.autograd.gradcheck(lambda s: soft_kl(s, teacher, present, 0.3), (student,))
    assert torch.autograd.gradcheck(lambda s: soft_mse(s, teacher, present), (student,))
