"""The probe that a time budget is planned by."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from leafkit.core.devices import DeviceKind
from leafkit.pipeline.student import time_budget
from leafkit.pipeline.student.time_budget import Stopwatch


def probe(enough_s: float) -> tuple[Stopwatch, int]:
    """A training of eight batches, and how many of them were made."""
    strategy = SimpleNamespace(broadcast=lambda value: value, root_device=torch.device("cpu"))
    trainer = SimpleNamespace(should_stop=False, strategy=strategy)
    watch, done = Stopwatch(enough_s), 0
    while done < 8 and not trainer.should_stop:
        watch.on_train_batch_end(trainer, None, None, None, done)
        done += 1
    watch.on_train_end(trainer, None)
    return watch, done


@pytest.mark.parametrize(("enough_s", "num_probed"), [(0.0, 3), (1000.0, 8)])
def test_a_slow_machine_s_probe_ends_early_but_measures_two_batches(enough_s, num_probed):
    watch, done = probe(enough_s)
    assert done == num_probed
    assert watch.seconds_per_batch >= 0


def test_a_device_that_is_run_ahead_of_is_waited_for_at_both_ends(monkeypatch):
    """A clock that only waiting moves: seven batches took what the second wait took."""
    now = [0.0]
    monkeypatch.setattr(time_budget.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(DeviceKind, "wait", lambda self: now.__setitem__(0, now[0] + 7.0))
    watch, done = probe(1000.0)
    assert (done, watch.seconds_per_batch) == (8, 1.0)
