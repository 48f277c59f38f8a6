"""Numbers that have to be finite, seen at once or one step later."""

from __future__ import annotations

import math

import pytest
import torch

from leafkit.core.errors import LeafkitError
from leafkit.train.devices.watched import WatchedNumbers


def number(value: float) -> torch.Tensor:
    return torch.tensor(float(value), requires_grad=True)


def test_a_processor_is_not_run_ahead_of():
    watched, found = WatchedNumbers(), []
    for step in range(3):
        watched.watch("loss", step, number(step), found.append)
        assert found == list(range(step + 1))
    with pytest.raises(LeafkitError, match="the gradient of step 2 is not finite") as caught:
        watched.watch("gradient", 2, number(math.inf))
    assert "precision=float32" in caught.value.hint


def test_a_device_is_read_one_step_late_and_to_the_end_when_all_is_settled(ahead):
    ahead(True)
    watched, found = WatchedNumbers(), []
    for step in range(3):
        watched.watch("loss", step, number(step), found.append)
        watched.watch("gradient", step, number(1.0))
        assert found == list(range(step))  # the gradient's numbers push out no loss
    watched.settle()
    assert found == [0, 1, 2]
    watched.settle()
    assert found == [0, 1, 2]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_named_by_its_own_step(ahead, value):
    ahead(True)
    watched, found = WatchedNumbers(), []
    watched.watch("loss", 6, number(1.0), found.append)
    watched.watch("loss", 7, number(value), found.append)
    with pytest.raises(LeafkitError, match="the loss of step 7 is not finite"):
        watched.watch("loss", 8, number(1.0), found.append)
    assert found == [1.0]


def test_settling_finds_what_is_not_finite(ahead):
    ahead(True)
    watched = WatchedNumbers()
    watched.watch("gradient", 0, number(math.nan))
    with pytest.raises(LeafkitError, match="the gradient of step 0 is not finite"):
        watched.settle()
