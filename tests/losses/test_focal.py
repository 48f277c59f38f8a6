"""Focal weights of InfoNCE: cases by hand, the plain loss at gamma = 0, and finite gradients where
1 - p rounds to 0.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from leafkit.core.truncate import truncate_then_normalize
from leafkit.losses.contrastive import focal_weights, info_nce, matryoshka_info_nce


def unit(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return truncate_then_normalize(
        torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    )


def naive_focal(
    q: torch.Tensor,
    c: torch.Tensor,
    positives: torch.Tensor,
    tau: float,
    gamma: float,
    masked: torch.Tensor | None = None,
) -> torch.Tensor:
    """mean (1 - p)^gamma (-log p), word for word."""
    logits = q @ c.T / tau
    if masked is not None:
        logits = logits.masked_fill(masked, -torch.inf)
    p = logits.softmax(dim=1).gather(1, positives[:, None])[:, 0]
    return ((1 - p) ** gamma * -p.log()).mean()


def test_two_equal_candidates_by_hand():
    """p = 1/2: the weight is sqrt(1/2), the loss log 2."""
    q, c = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.6, 0.8], [0.6, 0.8]])
    assert float(info_nce(q, c, torch.tensor([0]), 0.05, gamma=0.5)) == pytest.approx(
        math.sqrt(0.5) * math.log(2), rel=1e-6
    )
    assert float(info_nce(q, c, torch.tensor([0]), 0.05, gamma=2.0)) == pytest.approx(
        0.25 * math.log(2), rel=1e-6
    )


def test_each_row_has_its_own_weight():
    """Cosines 1 and 0 at tau = 1: p = e / (1 + e) for the first row, 1 / (1 + e) for the second."""
    q, c = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.eye(2)
    p = math.e / (1 + math.e)
    expected = (math.sqrt(1 - p) * -math.log(p) + math.sqrt(p) * -math.log(1 - p)) / 2
    assert float(info_nce(q, c, torch.tensor([0, 1]), 1.0, gamma=0.5)) == pytest.approx(
        expected, rel=1e-6
    )


def test_gamma_zero_is_plain_info_nce_bit_for_bit():
    gradients, values = [], []
    for loss in (
        lambda q, c: info_nce(q, c, torch.arange(8), 0.02, gamma=0.0),
        lambda q, c: functional.cross_entropy(q @ c.T / 0.02, torch.arange(8)),
    ):
        q, c = unit(8, 16).requires_grad_(), unit(20, 16, seed=1).requires_grad_()
        values.append(loss(q, c))
        values[-1].backward()
        gradients.append((q.grad, c.grad))
    assert torch.equal(*values)
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize("gamma", [0.25, 0.5, 1.0, 2.0])
def test_it_is_the_naive_formula_where_that_is_stable(gamma):
    positives = torch.tensor([3, 0, 5, 1])
    masked = torch.zeros(4, 7, dtype=torch.bool)
    masked[1, 4:] = True
    results = []
    for loss in (
        lambda q, c: info_nce(q, c, positives, 0.3, masked=masked, gamma=gamma),
        lambda q, c: naive_focal(q, c, positives, 0.3, gamma, masked),
    ):
        q, c = (
            unit(4, 6, dtype=torch.float64).requires_grad_(),
            unit(7, 6, seed=1, dtype=torch.float64).requires_grad_(),
        )
        value = loss(q, c)
        value.backward()
        results.append((value.detach(), q.grad, c.grad))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def test_easier_rows_weigh_less():
    weights = focal_weights(
        torch.tensor([[x, 0.0, 0.0] for x in (-3.0, 0.0, 3.0)]),
        torch.zeros(3, dtype=torch.long),
        0.5,
    )
    assert 1 > weights[0] > weights[1] > weights[2] > 0


def test_a_certain_row_has_a_finite_gradient_where_the_naive_formula_has_none():
    """tau = .01, cosine 1 against 0: in float32 1 - p is 0, and d sqrt(1 - p) is infinite."""
    gradients = []
    for loss in (
        lambda q: info_nce(q, torch.eye(2), torch.tensor([0]), 0.01, gamma=0.5),
        lambda q: naive_focal(q, torch.eye(2), torch.tensor([0]), 0.01, 0.5),
    ):
        q = torch.tensor([[1.0, 0.0]], requires_grad=True)
        value = loss(q)
        value.backward()
        assert value.item() == 0
        gradients.append(q.grad)
    assert torch.isfinite(gradients[0]).all()
    assert not torch.isfinite(gradients[1]).all()


@pytest.mark.parametrize("gap", [1e-7, 1e-4, 0.05, 0.1, 0.17, 0.3, 1.0])
def test_weights_keep_their_precision_near_one(gap):
    """(1 - p)^gamma for two candidates at a cosine gap: exactly (1 + e^(gap / tau))^-gamma, far
    below float32's 1 - p.
    """
    logits = torch.tensor([[gap / 0.01, 0.0]])
    expected = (1 + math.exp(gap / 0.01)) ** -0.5
    assert float(focal_weights(logits, torch.tensor([0]), 0.5)) == pytest.approx(expected, rel=1e-4)


def test_a_row_without_negatives_weighs_nothing_and_spoils_nothing():
    masked = torch.zeros(3, 5, dtype=torch.bool)
    masked[1] = True
    positives = torch.tensor([0, 1, 2])
    q, c = unit(3, 4).requires_grad_(), unit(5, 4, seed=1).requires_grad_()
    loss = info_nce(q, c, positives, 0.01, masked=masked, gamma=0.5)
    loss.backward()
    assert torch.isfinite(q.grad).all()
    assert torch.isfinite(c.grad).all()
    assert q.grad[1].abs().max() == 0 < q.grad[0].abs().max()
    others = info_nce(q[[0, 2]], c, positives[[0, 2]], 0.01, gamma=0.5)
    assert loss.item() == pytest.approx(others.item() * 2 / 3, rel=1e-6)


def test_the_weight_of_a_row_without_negatives_is_a_constant():
    logits = torch.tensor([[0.0, -torch.inf], [0.0, 1.0]], requires_grad=True)
    weights = focal_weights(logits, torch.tensor([0, 0]), 0.5)
    weights.sum().backward()
    assert weights[0].item() == 0
    assert logits.grad[0].tolist() == [0.0, 0.0]
    assert logits.grad[1].abs().min() > 0


def test_random_vectors_at_the_lowest_temperature_have_finite_gradients():
    for seed in range(20):
        q = unit(16, 8, seed=seed).requires_grad_()
        c = truncate_then_normalize(q.detach() + 0.05 * unit(16, 8, seed=seed + 100))
        info_nce(q, c, torch.arange(16), 0.001, gamma=0.5).backward()
        assert torch.isfinite(q.grad).all()


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_gradcheck(gamma):
    """Through the weights too: they are no constants."""
    positives = torch.tensor([1, 4, 0])
    masked = torch.zeros(3, 5, dtype=torch.bool)
    masked[0, 3] = masked[2, :] = True
    extra_masked = torch.tensor([[False, True], [False, False], [False, True]])

    def loss(q: torch.Tensor, c: torch.Tensor, e: torch.Tensor) -> torch.Tensor:
        return matryoshka_info_nce(
            q,
            c,
            positives,
            0.3,
            margin=0.4,
            masked=masked,
            dims=(4, 2),
            weights=(1.0, 0.3),
            gamma=gamma,
            extra=e,
            extra_masked=extra_masked,
        )

    inputs = [
        torch.randn(
            *shape,
            generator=torch.Generator().manual_seed(seed),
            dtype=torch.float64,
            requires_grad=True,
        )
        for seed, shape in enumerate([(3, 4), (5, 4), (3, 2, 4)])
    ]
    assert torch.autograd.gradcheck(loss, inputs)
