"""InfoNCE: cases by hand, invariances, masks."""

from __future__ import annotations

import doctest
import math

import pytest
import torch

from leafkit.core.truncate import truncate_then_normalize
from leafkit.losses import contrastive
from leafkit.losses.contrastive import info_nce, matryoshka_info_nce


def batch(
    rows: int = 5, candidates: int = 8, dim: int = 6, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Raw queries, raw candidates, and positives that are not the diagonal."""
    generator = torch.Generator().manual_seed(seed)
    q = torch.randn(rows, dim, generator=generator)
    c = torch.randn(candidates, dim, generator=generator)
    return q, c, torch.randperm(candidates, generator=generator)[:rows]


def unit(*tensors: torch.Tensor) -> list[torch.Tensor]:
    return [truncate_then_normalize(t) for t in tensors]


def test_doctests():
    found = doctest.testmod(contrastive)
    assert found.attempted > 0
    assert found.failed == 0


def test_a_case_by_hand():
    """Cosines 1, .6, 0 with the second as the positive, tau = .5: log(e^2 + e^1.2 + 1) - 1.2."""
    q, c = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    expected = math.log(math.exp(2) + math.exp(1.2) + 1) - 1.2
    assert float(info_nce(q, c, torch.tensor([1]), 0.5)) == pytest.approx(expected, rel=1e-6)


def test_it_is_the_mean_over_queries():
    q, c, positives = batch()
    q, c = unit(q, c)
    rows = [float(info_nce(q[i : i + 1], c, positives[i : i + 1], 0.05)) for i in range(len(q))]
    assert float(info_nce(q, c, positives, 0.05)) == pytest.approx(sum(rows) / len(rows), rel=1e-5)


def test_equal_candidates_give_the_logarithm_of_their_number():
    q = truncate_then_normalize(torch.ones(3, 4))
    assert float(info_nce(q, q[:1].repeat(7, 1), torch.tensor([0, 3, 6]), 0.05)) == pytest.approx(
        math.log(7), rel=1e-6
    )


@pytest.mark.parametrize("margin", [None, 0.1])
def test_the_order_of_candidates_and_queries_does_not_matter(margin):
    q, c, positives = batch()
    q, c = unit(q, c)
    moved, rows = (
        torch.randperm(8, generator=torch.Generator().manual_seed(1)),
        torch.tensor([3, 0, 4, 1, 2]),
    )
    back = torch.argsort(moved)
    shuffled = info_nce(q[rows], c[moved], back[positives][rows], 0.1, margin=margin)
    assert float(shuffled) == pytest.approx(
        float(info_nce(q, c, positives, 0.1, margin=margin)), rel=1e-5
    )


def test_rotating_the_space_does_not_matter():
    q, c, positives = batch()
    q, c = unit(q, c)
    rotation = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(2)))[0]
    turned = info_nce(q @ rotation, c @ rotation, positives, 0.1, margin=0.1)
    assert float(turned) == pytest.approx(
        float(info_nce(q, c, positives, 0.1, margin=0.1)), rel=1e-4
    )


def test_margin_masks_what_is_more_than_the_margin_above_the_positive():
    """Positive at cosine .6; candidates at 1, .75 and .65: with a margin of .1 the first two count
    as false negatives.
    """
    q = torch.tensor([[1.0, 0.0]])
    c = torch.tensor([[x, math.sqrt(1 - x * x)] for x in (0.6, 1.0, 0.75, 0.65)])
    positives = torch.tensor([0])
    masked = info_nce(q, c, positives, 0.2, margin=0.1)
    assert float(masked) == pytest.approx(float(info_nce(q, c[[0, 3]], positives, 0.2)), rel=1e-6)
    assert float(info_nce(q, c, positives, 0.2)) > float(masked) + 0.1


def test_a_masked_candidate_changes_nothing_and_gets_no_gradient():
    q, c, positives = batch()
    q, c = unit(q, c)
    same = torch.zeros(5, 8, dtype=torch.bool)
    free = next(i for i in range(8) if i not in positives.tolist())
    same[:, free] = True
    c.requires_grad_()
    loss = info_nce(q, c, positives, 0.05, masked=same)
    loss.backward()
    assert c.grad[free].abs().max() == 0
    assert c.grad.abs().sum(dim=1).count_nonzero() == 7
    moved = c.detach().clone()
    moved[free] = -moved[free]
    assert info_nce(q, moved, positives, 0.05, masked=same).item() == loss.item()
    kept = [i for i in range(8) if i != free]
    index = torch.tensor([kept.index(int(p)) for p in positives])
    assert info_nce(q, c[kept], index, 0.05).item() == pytest.approx(loss.item(), rel=1e-6)


def test_the_positive_is_never_masked():
    q, c, positives = batch()
    q, c = unit(q, c)
    everything = torch.ones(5, 8, dtype=torch.bool)
    loss = info_nce(q, c, positives, 0.05, margin=-2.0, masked=everything)
    assert float(loss) == 0.0
    everything[0, (int(positives[0]) + 1) % 8] = False
    assert float(info_nce(q, c, positives, 0.05, masked=everything)) > 0


def test_a_mask_on_each_row_leaves_the_other_rows_alone():
    q, c, positives = batch()
    q, c = unit(q, c)
    same = torch.zeros(5, 8, dtype=torch.bool)
    same[2, :] = True
    others = [0, 1, 3, 4]
    total = float(info_nce(q[others], c, positives[others], 0.05)) * 4 / 5
    assert float(info_nce(q, c, positives, 0.05, masked=same)) == pytest.approx(total, rel=1e-5)


def test_gradients_stay_finite_at_the_lowest_temperatures():
    q, c, positives = batch()
    q = q.requires_grad_()
    info_nce(
        truncate_then_normalize(q), truncate_then_normalize(c), positives, 0.001, margin=0.1
    ).backward()
    assert torch.isfinite(q.grad).all()


def test_bf16_vectors_are_scored_in_float32():
    q, c, positives = batch()
    q, c = (t.bfloat16() for t in unit(q, c))
    low, high = info_nce(q, c, positives, 0.02), info_nce(q.float(), c.float(), positives, 0.02)
    assert low.dtype == torch.float32
    assert float(low) == float(high)


def test_autocast_does_not_round_the_scores():
    """Cosines in bfloat16 would be wrong by up to .002, a fifth of tau = .01."""
    q, c, positives = batch()
    q, c = unit(q, c)
    extra = truncate_then_normalize(
        torch.randn(5, 2, 6, generator=torch.Generator().manual_seed(3))
    )
    exact = info_nce(q, c, positives, 0.01, extra=extra)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(info_nce(q, c, positives, 0.01, extra=extra), exact)
        rounded = torch.nn.functional.cross_entropy((q @ c.T).float() / 0.01, positives)
    assert abs(float(rounded - info_nce(q, c, positives, 0.01))) > 1e-3


@pytest.mark.parametrize("margin", [None, 0.1])
def test_gradcheck(margin):
    q, c, positives = (t.double() if t.is_floating_point() else t for t in batch())

    def loss(queries: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
        return matryoshka_info_nce(
            queries,
            candidates,
            positives,
            0.2,
            margin=margin,
            masked=None,
            dims=(6, 3),
            weights=(1.0, 0.3),
        )

    assert torch.autograd.gradcheck(loss, (q.requires_grad_(), c.requires_grad_()))


def as_columns(
    c: torch.Tensor, extra: torch.Tensor, masked: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Row-own negatives as further candidates that every other row masks: (C + B E, D) and (B, C +
    B E).
    """
    rows, count = extra.shape[:2]
    foreign = ~torch.eye(rows, dtype=torch.bool).repeat_interleave(count, dim=1)
    return torch.cat([c, extra.flatten(0, 1)]), torch.cat([masked, foreign], dim=1)


@pytest.mark.parametrize("gamma", [0.0, 0.5])
@pytest.mark.parametrize("margin", [None, 0.1])
def test_extra_negatives_are_columns_that_other_rows_mask(margin, gamma):
    q, c, positives = batch()
    q, c = unit(q, c)
    extra = truncate_then_normalize(
        torch.randn(5, 3, 6, generator=torch.Generator().manual_seed(3))
    )
    masked = torch.rand(5, 8, generator=torch.Generator().manual_seed(4)) < 0.3
    results = []
    for use_columns in (False, True):
        leaves = [t.clone().requires_grad_() for t in (q, c, extra)]
        if use_columns:
            columns, mask = as_columns(leaves[1], leaves[2], masked)
            loss = info_nce(
                leaves[0], columns, positives, 0.1, margin=margin, masked=mask, gamma=gamma
            )
        else:
            loss = info_nce(
                leaves[0],
                leaves[1],
                positives,
                0.1,
                margin=margin,
                masked=masked,
                gamma=gamma,
                extra=leaves[2],
            )
        loss.backward()
        results.append([loss.detach(), *(leaf.grad for leaf in leaves)])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert float(results[0][0]) > float(
        info_nce(q, c, positives, 0.1, margin=margin, masked=masked, gamma=gamma)
    )


def test_masked_extra_negatives_change_nothing():
    q, c, positives = batch()
    q, c = unit(q, c)
    extra = torch.zeros(5, 2, 6, requires_grad=True)  # what a row without hard negatives gets
    absent = torch.tensor([[True, True], [False, True], [True, True], [True, True], [True, True]])
    filled = extra + q[:, None] * ~absent[..., None]
    info_nce(q, c, positives, 0.1, extra=filled, extra_masked=absent).backward()
    assert extra.grad[absent].abs().max() == 0 < extra.grad[~absent].abs().max()
    nothing = info_nce(q, c, positives, 0.1, extra=filled, extra_masked=torch.ones_like(absent))
    assert nothing.item() == pytest.approx(float(info_nce(q, c, positives, 0.1)), rel=1e-6)


def test_the_margin_masks_extra_negatives_too():
    """Positive at .6; an extra negative at .75 is a false one under a margin of .1, one at .65 is
    not.
    """
    q, c = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.6, 0.8], [0.0, 1.0]])
    above, below = (torch.tensor([[[x, math.sqrt(1 - x * x)]]]) for x in (0.75, 0.65))
    positives = torch.tensor([0])
    plain = info_nce(q, c, positives, 0.2, margin=0.1)
    assert float(info_nce(q, c, positives, 0.2, margin=0.1, extra=above)) == pytest.approx(
        float(plain), rel=1e-6
    )
    assert float(info_nce(q, c, positives, 0.2, margin=0.1, extra=below)) > float(plain) + 0.1
    assert float(info_nce(q, c, positives, 0.2, margin=None, extra=above)) > float(plain) + 0.1


def test_matryoshka_is_the_weighted_sum_of_its_parts():
    q, c, positives = batch()
    dims, weights = (6, 4, 2), (1.0, 0.3, 0.1)
    parts = [
        weight
        * float(
            info_nce(
                truncate_then_normalize(q, d),
                truncate_then_normalize(c, d),
                positives,
                0.1,
                margin=0.1,
            )
        )
        for d, weight in zip(dims, weights, strict=True)
    ]
    assert float(
        matryoshka_info_nce(
            q, c, positives, 0.1, margin=0.1, masked=None, dims=dims, weights=weights
        )
    ) == pytest.approx(sum(parts), rel=1e-6)


def test_matryoshka_ignores_the_length_of_raw_vectors():
    """Cut, then normalise: scaling a raw vector changes nothing. Normalise, then cut, would weigh
    the head by its share.
    """
    q, c, positives = batch()
    factors = torch.tensor([[0.1], [3.0], [7.0], [0.5], [1.0]])
    first = matryoshka_info_nce(
        q, c, positives, 0.1, margin=None, masked=None, dims=(6, 2), weights=(1.0, 1.0)
    )
    scaled = matryoshka_info_nce(
        q * factors,
        4 * c,
        positives,
        0.1,
        margin=None,
        masked=None,
        dims=(6, 2),
        weights=(1.0, 1.0),
    )
    assert float(scaled) == pytest.approx(float(first), rel=1e-5)


def test_components_behind_the_largest_dimension_get_no_gradient():
    q, c, positives = batch()
    q.requires_grad_()
    matryoshka_info_nce(
        q, c, positives, 0.1, margin=None, masked=None, dims=(3,), weights=(1.0,)
    ).backward()
    assert q.grad[:, 3:].abs().max() == 0 < q.grad[:, :3].abs().max()


def test_dims_and_weights_must_pair_up():
    q, c, positives = batch()
    with pytest.raises(ValueError, match="zip"):
        matryoshka_info_nce(
            q, c, positives, 0.1, margin=None, masked=None, dims=(6, 3), weights=(1.0,)
        )


def test_matryoshka_cuts_extra_negatives_like_the_rest():
    """Mixed at the full dimension, cut, then brought back to length one."""
    q, c, positives = batch()
    extra = 3 * torch.randn(5, 2, 6, generator=torch.Generator().manual_seed(3))
    absent = torch.tensor(
        [[False, True], [True, True], [False, False], [False, False], [True, False]]
    )
    total = 0.0
    for dim, weight in ((6, 1.0), (3, 0.3)):
        head_q, head_c, head_e = (truncate_then_normalize(t, dim) for t in (q, c, extra))
        logits = (
            torch.cat(
                [
                    head_q @ head_c.T,
                    (head_q[:, None] * head_e).sum(dim=-1).masked_fill(absent, -torch.inf),
                ],
                dim=1,
            )
            / 0.1
        )
        p = logits.softmax(dim=1).gather(1, positives[:, None])[:, 0]
        total += weight * float(((1 - p).sqrt() * -p.log()).mean())
    ours = matryoshka_info_nce(
        q,
        c,
        positives,
        0.1,
        margin=None,
        masked=None,
        dims=(6, 3),
        weights=(1.0, 0.3),
        gamma=0.5,
        extra=extra,
        extra_masked=absent,
    )
    assert float(ours) == pytest.approx(total, rel=1e-5)
