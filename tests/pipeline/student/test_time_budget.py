"""The probe that a time budget is planned by."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from leafkit.pipeline.student.time_budget import Stopwatch


@pytest.mark.parametrize(("enough_s", "num_probed"), [(0.0, 3), (1000.0, 8)])
def test_a_slow_machine_s_probe_ends_early_but_measures_two_batches(enough_s, num_probed):
    trainer = SimpleNamespace(
        should_stop=False, strategy=SimpleNamespace(broadcast=lambda value: value)
    )
    watch, done = Stopwatch(enough_s), 0
    while done < 8 and not trainer.should_stop:
        watch.on_train_batch_end(trainer, None, None, None, done)
        done += 1
    watch.on_train_end(trainer, None)
    assert done == num_probed
    assert watch.seconds_per_batch >= 0
