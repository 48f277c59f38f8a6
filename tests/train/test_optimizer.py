"""The schedule by hand; decay on matrices only."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import tiny
import torch
from torch import nn

from leafkit.config import OptimizerConfig
from leafkit.train.optimizer import build_optimizer, lr_share

SETTINGS = OptimizerConfig(
    lr=0.1, warmup_ratio=0.2, final_lr_ratio=0.1, weight_decay=0.01, max_grad_norm=1.0
)


def test_the_rate_climbs_to_the_peak_and_falls_to_the_final_share():
    expected = [0.5, 1.0, *(1 - 0.9 * k / 8 for k in range(1, 9))]
    assert [lr_share(step, SETTINGS, 10) for step in range(10)] == pytest.approx(expected)


def test_in_every_cycle_the_rate_falls_from_the_peak_and_it_climbs_once():
    cycles = replace(SETTINGS, warmup_ratio=0.2, num_cycles=3)
    # 10 steps are cycles of 3, 4 and 3; two of the first three climb
    expected = [0.5, 1.0, 0.1, 1.0, 0.7, 0.4, 0.1, 1.0, 0.55, 0.1]
    assert [lr_share(step, cycles, 10) for step in range(10)] == pytest.approx(expected)
    assert lr_share(50, cycles, 10) == pytest.approx(0.1)


def test_the_schedule_of_leaf():
    leaf = OptimizerConfig(lr=1e-4, warmup_ratio=0.0, final_lr_ratio=0.1, num_cycles=3)
    rates = [leaf.lr * lr_share(step, leaf, 3000) for step in range(3000)]
    for cycle in range(3):
        part = rates[1000 * cycle : 1000 * (cycle + 1)]
        assert (part[0], part[-1]) == pytest.approx((1e-4, 1e-5))
        steps = {round(a - b, 12) for a, b in itertools.pairwise(part)}
        assert steps == {round(9e-5 / 999, 12)}


def test_fewer_steps_than_cycles_are_all_at_the_peak():
    assert [lr_share(step, replace(SETTINGS, num_cycles=9), 2) for step in range(2)] == [1.0, 1.0]


@pytest.mark.parametrize("final", [0.0, 0.1, 1.0])
def test_the_last_step_has_the_final_share(final):
    assert lr_share(9, replace(SETTINGS, final_lr_ratio=final), 10) == pytest.approx(final)


def test_without_warmup_the_first_step_is_at_the_peak():
    assert lr_share(0, replace(SETTINGS, warmup_ratio=0.0), 10) == 1.0


def test_all_warmup_never_falls():
    shares = [lr_share(step, replace(SETTINGS, warmup_ratio=1.0), 10) for step in range(10)]
    assert shares == pytest.approx([(i + 1) / 10 for i in range(10)])


def test_one_step_runs_at_the_peak():
    assert lr_share(0, SETTINGS, 1) == 1.0


def test_the_share_stays_in_bounds_past_the_last_step():
    assert lr_share(50, SETTINGS, 10) == pytest.approx(0.1)


def test_optimizer_and_schedule_apply_the_shares():
    layer = nn.Linear(2, 2)
    optimizer, schedule = build_optimizer(layer, SETTINGS, 10)
    rates = []
    for _ in range(10):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([0.1 * lr_share(step, SETTINGS, 10) for step in range(10)])


def test_biases_and_norms_have_no_decay_and_nothing_is_left_out():
    encoder = tiny.make_encoder(dim=48)
    decayed, free = build_optimizer(encoder, SETTINGS, 10)[0].param_groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.01, 0.0)
    names = {id(p): name for name, p in encoder.named_parameters()}
    free_names = {names[id(p)] for p in free["params"]}
    assert free_names == {n for n in names.values() if n.endswith("bias") or "LayerNorm" in n}
    assert len(decayed["params"]) + len(free["params"]) == len(names)


def test_decay_shrinks_matrices_alone():
    layer = nn.Linear(2, 2)
    with torch.no_grad():
        layer.weight.fill_(1.0)
        layer.bias.fill_(1.0)
    optimizer, _ = build_optimizer(layer, replace(SETTINGS, weight_decay=0.5, warmup_ratio=0.0), 10)
    (layer.weight.sum() * 0 + layer.bias.sum() * 0).backward()
    optimizer.step()
    assert layer.weight.detach().unique().tolist() == pytest.approx([1 - 0.1 * 0.5])
    assert layer.bias.detach().unique().tolist() == [1.0]


def test_frozen_weights_are_not_trained():
    layer = nn.Linear(2, 2)
    layer.bias.requires_grad_(False)
    groups = build_optimizer(layer, SETTINGS, 10)[0].param_groups
    assert [p.shape for g in groups for p in g["params"]] == [torch.Size([2, 2])]
