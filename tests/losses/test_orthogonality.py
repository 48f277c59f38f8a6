"""The orthogonality regulariser: cases by hand, what random vectors have, where it points."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
import torch

from leafkit.core.truncate import truncate_then_normalize
from leafkit.losses import orthogonality
from leafkit.losses.orthogonality import orthogonality_loss


def test_doctests():
    found = doctest.testmod(orthogonality)
    assert found.attempted > 0
    assert found.failed == 0


def test_a_case_by_hand():
    """Cosines .6, 0 and .8 of three vectors: (.36 + 0 + .64) / 3; the two orders of a pair count
    alike.
    """
    vectors = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    assert float(orthogonality_loss(vectors)) == pytest.approx(1 / 3, rel=1e-6)


def test_a_text_that_comes_twice_is_not_pushed_from_itself():
    """Rows 0 and 2 are one text: of the six ordered pairs four count, .36 and .64 twice each."""
    vectors = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]], requires_grad=True)
    loss = orthogonality_loss(vectors, torch.tensor([5, 1, 5]))
    assert loss.item() == pytest.approx((0.36 + 0.64) / 2, rel=1e-6)
    alone = orthogonality_loss(vectors, torch.tensor([5, 5, 5]))
    alone.backward()
    assert alone.item() == 0
    assert torch.equal(vectors.grad, torch.zeros(3, 2))


def test_opposite_vectors_are_no_better_than_equal_ones():
    assert float(orthogonality_loss(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))) == 1.0


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_vectors_have_no_spread_but_a_gradient(count):
    vectors = torch.ones(count, 3, requires_grad=True)
    loss = orthogonality_loss(vectors)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(vectors.grad, torch.zeros(count, 3))


@pytest.mark.parametrize("dim", [4, 32])
def test_random_vectors_have_one_over_the_dimension(dim):
    vectors = truncate_then_normalize(
        torch.randn(2000, dim, generator=torch.Generator().manual_seed(0))
    )
    assert float(orthogonality_loss(vectors)) == pytest.approx(1 / dim, rel=0.02)


def test_it_is_what_numpy_computes_pair_by_pair():
    vectors = truncate_then_normalize(np.random.default_rng(0).standard_normal((9, 5)))
    pairs = [(vectors[i] @ vectors[j]) ** 2 for i in range(9) for j in range(9) if i != j]
    assert float(orthogonality_loss(torch.from_numpy(vectors))) == pytest.approx(
        np.mean(pairs), rel=1e-12
    )


def test_following_the_gradient_spreads_vectors():
    raw = (
        torch.ones(8, 4) + 0.1 * torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    ).requires_grad_()
    before = orthogonality_loss(truncate_then_normalize(raw)).item()
    optimizer = torch.optim.SGD([raw], lr=2.0)
    for _ in range(100):
        optimizer.zero_grad()
        orthogonality_loss(truncate_then_normalize(raw)).backward()
        optimizer.step()
    assert before > 0.9
    # eight vectors of four dimensions reach 1 / 7 at best
    assert orthogonality_loss(truncate_then_normalize(raw)).item() < 0.3


def test_low_precision_vectors_are_multiplied_in_float32_under_autocast_too():
    vectors = truncate_then_normalize(torch.randn(6, 8, generator=torch.Generator().manual_seed(0)))
    exact = orthogonality_loss(vectors)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(orthogonality_loss(vectors), exact)
    assert torch.equal(
        orthogonality_loss(vectors.half()), orthogonality_loss(vectors.half().float())
    )


def test_gradcheck():
    raw = torch.randn(
        5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True
    )
    assert torch.autograd.gradcheck(
        lambda v: orthogonality_loss(truncate_then_normalize(v)), (raw,)
    )
