"""Mixed hard negatives: cases by hand, ends of the scale, who takes part, where gradients go."""

from __future__ import annotations

import doctest
import math

import pytest
import torch

from leafkit.core.truncate import truncate_then_normalize
from leafkit.losses import mixing
from leafkit.losses.mixing import mix_listwise, mix_pairwise


def unit(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return truncate_then_normalize(
        torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    )


def all_of(negatives: torch.Tensor) -> torch.Tensor:
    return torch.ones(negatives.shape[:-1], dtype=torch.bool)


def test_doctests():
    found = doctest.testmod(mixing)
    assert found.attempted > 0
    assert found.failed == 0


def test_a_pair_by_hand():
    """.8 (1, 0) + .2 (0, 1) over its length sqrt(.68)."""
    n = torch.eye(2)[None]
    mixed = mix_pairwise(n[:, :1], n[:, 1:], torch.tensor([[0.8]]))
    assert mixed.flatten().tolist() == pytest.approx(
        [0.8 / math.sqrt(0.68), 0.2 / math.sqrt(0.68)], rel=1e-6
    )


def test_ends_of_the_scale_give_the_originals():
    first, second = unit(3, 2, 5), unit(3, 2, 5, seed=1)
    assert torch.allclose(mix_pairwise(first, second, torch.ones(3, 2)), first, rtol=0, atol=3e-7)
    assert torch.allclose(mix_pairwise(first, second, torch.zeros(3, 2)), second, rtol=0, atol=3e-7)
    axes = torch.eye(4)[None]
    assert torch.equal(mix_pairwise(axes, axes.flip(1), torch.ones(1, 4)), axes)
    assert torch.equal(mix_pairwise(axes, axes.flip(1), torch.zeros(1, 4)), axes.flip(1))


def test_each_share_belongs_to_its_own_pair():
    first, second, share = (
        unit(2, 3, 4),
        unit(2, 3, 4, seed=1),
        torch.tensor([[0.1, 0.5, 0.9], [0.3, 0.0, 1.0]]),
    )
    mixed = mix_pairwise(first, second, share)
    for row in range(2):
        for k in range(3):
            s = float(share[row, k])
            expected = truncate_then_normalize(s * first[row, k] + (1 - s) * second[row, k])
            assert torch.allclose(mixed[row, k], expected, atol=1e-6)


def test_mixtures_are_as_long_as_one():
    pairs = mix_pairwise(unit(8, 4, 6), unit(8, 4, 6, seed=1), torch.rand(8, 4))
    negatives = unit(8, 2, 5, 6, seed=2)
    lists = mix_listwise(unit(8, 6, seed=3), negatives, all_of(negatives), 0.1)
    for mixed in (pairs, lists):
        assert torch.allclose(mixed.norm(dim=-1), torch.ones(mixed.shape[:-1]), atol=1e-6)


def test_a_list_by_hand():
    """Cosines .6 and 0 at T = .5: weights e^1.2 : 1 of (.6, .8) and (0, 1)."""
    negatives = torch.tensor([[[[0.6, 0.8], [0.0, 1.0]]]])
    mixed = mix_listwise(torch.tensor([[1.0, 0.0]]), negatives, all_of(negatives), 0.5)
    weight = math.exp(1.2) / (math.exp(1.2) + 1)
    x, y = 0.6 * weight, 0.8 * weight + (1 - weight)
    assert mixed.flatten().tolist() == pytest.approx(
        [x / math.hypot(x, y), y / math.hypot(x, y)], rel=1e-6
    )


def test_temperature_ranges_from_the_mean_to_the_nearest():
    q, negatives = unit(1, 6), unit(1, 1, 5, 6, seed=1)
    nearest = negatives[0, 0, (negatives[0, 0] @ q[0]).argmax()]
    assert torch.allclose(
        mix_listwise(q, negatives, all_of(negatives), 1e-4)[0, 0], nearest, atol=1e-5
    )
    mean = truncate_then_normalize(negatives[0, 0].mean(dim=0))
    assert torch.allclose(mix_listwise(q, negatives, all_of(negatives), 1e4)[0, 0], mean, atol=1e-3)


def test_absent_negatives_take_no_part():
    q, negatives = unit(2, 6), unit(2, 1, 4, 6, seed=1)
    present = torch.tensor([[[True, False, True, False]], [[False, True, True, True]]])
    mixed = mix_listwise(q, negatives, present, 0.2)
    for row in range(2):
        kept = negatives[row : row + 1, :, present[row, 0]]
        assert torch.allclose(
            mixed[row], mix_listwise(q[row : row + 1], kept, all_of(kept), 0.2)[0], atol=1e-6
        )


def test_an_empty_list_is_zero_with_finite_gradients():
    negatives = unit(2, 1, 3, 6).requires_grad_()
    present = torch.tensor([[[False] * 3], [[True] * 3]])
    mixed = mix_listwise(unit(2, 6, seed=1), negatives, present, 0.2)
    assert mixed[0].abs().max() == 0
    (mixed[1].sum() + 0 * mixed[0].sum()).backward()
    assert torch.isfinite(negatives.grad).all()
    assert negatives.grad[0].abs().max() == 0 < negatives.grad[1].abs().max()


@pytest.mark.parametrize(("num_lists", "num_negatives"), [(0, 3), (2, 0), (0, 0)])
def test_no_lists_and_no_negatives_are_shapes_like_others(num_lists, num_negatives):
    negatives = torch.zeros(4, num_lists, num_negatives, 6)
    assert mix_listwise(unit(4, 6), negatives, all_of(negatives), 0.1).shape == (4, num_lists, 6)
    assert mix_pairwise(torch.zeros(4, 0, 6), torch.zeros(4, 0, 6), torch.zeros(4, 0)).shape == (
        4,
        0,
        6,
    )


def test_list_weights_are_constants_to_the_gradient():
    """The query only enters through the weights, so it gets none; negatives get what constant
    weights give them.
    """
    q, negatives = unit(2, 6).requires_grad_(), unit(2, 1, 4, 6, seed=1).requires_grad_()
    goal = unit(2, 1, 6, seed=2)
    (mix_listwise(q, negatives, all_of(negatives), 0.3) * goal).sum().backward()
    assert q.grad is None
    constant = negatives.detach().clone().requires_grad_()
    weights = (torch.einsum("bd,bemd->bem", q.detach(), constant.detach()) / 0.3).softmax(dim=-1)
    (truncate_then_normalize((weights[..., None] * constant).sum(dim=2)) * goal).sum().backward()
    assert torch.allclose(negatives.grad, constant.grad, atol=1e-6)


def test_weights_are_computed_in_float32_under_autocast_too():
    q, negatives = unit(2, 6), unit(2, 1, 4, 6, seed=1)
    exact = mix_listwise(q, negatives, all_of(negatives), 0.01)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(mix_listwise(q, negatives, all_of(negatives), 0.01), exact)
    assert (
        mix_pairwise(q[:, None].bfloat16(), q[:, None].bfloat16(), torch.ones(2, 1)).dtype
        == torch.float32
    )


def test_gradcheck():
    first, second = (unit(2, 3, 4, seed=s, dtype=torch.float64).requires_grad_() for s in (0, 1))
    share = torch.tensor([[0.1, 0.5, 1.0], [0.3, 0.0, 0.7]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda a, b: mix_pairwise(a, b, share), (first, second))


def test_gradcheck_of_lists_at_equal_scores():
    """Weights are constants only in name where scores do not move: every negative orthogonal to the
    query.
    """
    q = torch.tensor([[1.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    head = torch.zeros(1, 1, 3, 1, dtype=torch.float64)
    tails = unit(1, 1, 3, 3, dtype=torch.float64).requires_grad_()
    present = torch.tensor([[[True, True, False]]])
    assert torch.autograd.gradcheck(
        lambda t: mix_listwise(q, torch.cat([head, t], dim=-1), present, 0.3), (tails,)
    )
