"""A student within a budget: the clock, the stop, and how large a closed form may be."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))
from lib.timed import Clock, Stop, plan_start, size_start, tokens_of_start

from leafkit.config import StudentConfig, StudentLosses
from leafkit.pipeline.student.targets import Target
from leafkit.pipeline.student.text_groups import DOCUMENTS, MADE_QUERIES, QUERIES


def target(count: int, origin: str, role: str = "document") -> Target:
    texts = [f"{origin} {i}" for i in range(count)]
    return Target(texts, role, np.zeros((count, 2)), origin=origin)


def test_pauses_do_not_count():
    clock = Clock(100.0)
    with clock.paused():
        time.sleep(0.2)
    assert clock.seconds < 0.15
    assert 99.8 < clock.left_s <= 100


def test_a_training_ends_when_the_time_is_up():
    batch = SimpleNamespace(num_global_rows=7)
    for budget_s, is_over in ((100.0, False), (0.0, True)):
        stop, trainer = Stop(Clock(budget_s)), SimpleNamespace(should_stop=False)
        for index in range(2):
            stop.on_train_batch_end(trainer, None, None, batch, index)
        assert trainer.should_stop is is_over
        assert (stop.num_stopped, stop.num_texts) == (int(is_over), 14)


def test_the_closed_form_reads_so_many_texts_of_each_origin_and_an_eighth_more():
    targets = [target(100, DOCUMENTS), target(4, QUERIES), target(4, QUERIES)]
    lengths = [[10] * 100, [5] * 4, [5] * 4]
    config = StudentConfig(num_ridge_texts=16)
    assert tokens_of_start(config, targets, lengths) == 18 * 10 + 8 * 5
    made = [*targets, target(50, MADE_QUERIES)]
    assert tokens_of_start(config, made, [*lengths, [3] * 50]) == 18 * 10 + 8 * 5
    assert tokens_of_start(replace(config, num_ridge_texts=1000), targets, lengths) == 1040


@pytest.mark.parametrize(("num_tokens", "count"), [(1e9, 4096), (46_080, 4096), (23_040, 2048)])
def test_a_short_budget_has_a_smaller_closed_form(num_tokens, count):
    targets, lengths = [target(10_000, DOCUMENTS)], [[10] * 10_000]
    found = size_start(StudentConfig(num_ridge_texts=4096), targets, lengths, num_tokens)
    assert found.num_ridge_texts == count
    assert size_start(found, targets, lengths, 1.0).num_ridge_texts == 256


@pytest.mark.parametrize(
    ("num_tokens", "weight", "ridge_texts", "planned"),
    # 10,000 tokens of documents and 2,000 of queries are scored
    [
        (20_000, 1.0, 640, 12_000),
        (19_999, 0.0, 556, 625 * 10 + 400 * 5),
        (12_000, 0.0, 333, 374 * 10 + 374 * 5),
    ],
)
def test_the_start_s_own_scores_are_left_out_where_they_take_too_long(
    num_tokens, weight, ridge_texts, planned
):
    targets = [target(1000, DOCUMENTS), target(400, QUERIES, "query")]
    lengths = [[10] * 1000, [5] * 400]
    losses = StudentLosses(score_kl=1)
    config = StudentConfig(start_weight=1, losses=losses, num_ridge_texts=640)
    found, tokens = plan_start(config, targets, lengths, num_tokens)
    assert (found.start_weight, found.num_ridge_texts, tokens) == (weight, ridge_texts, planned)


def test_a_student_that_follows_no_scores_reads_nothing_for_them():
    targets = [target(100, DOCUMENTS), target(40, QUERIES, "query")]
    config = StudentConfig(start_weight=1, num_ridge_texts=64)
    assert plan_start(config, targets, [[10] * 100, [5] * 40], 1e9) == (config, 72 * 10 + 40 * 5)
