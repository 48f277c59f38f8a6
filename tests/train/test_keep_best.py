"""Checks in training, and the weights that are kept."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch

from leafkit.train.keep_best import KeepBest

TRAINER = SimpleNamespace(strategy=SimpleNamespace(broadcast=lambda value: value))


@dataclass(frozen=True)
class Height:
    value: float

    def is_better(self, other: Height) -> bool:
        return self.value > other.value


def run(heights, num_batches=6, num_checks=3):
    """Weight k after k batches, and the figure that a check of it finds."""
    model = torch.nn.Linear(1, 1)

    def set_to(value):
        with torch.no_grad():
            model.weight.fill_(value)

    set_to(0)
    keep = KeepBest(
        model, lambda: Height(heights[int(model.weight.item())]), num_batches, num_checks
    )
    keep.on_fit_start(TRAINER, None)
    for index in range(num_batches):
        set_to(index + 1)
        keep.on_train_batch_end(TRAINER, None, None, None, index)
    keep.on_train_end(TRAINER, None)
    keep.restore()
    return keep, int(model.weight.item())


@pytest.mark.parametrize(
    ("heights", "best"),
    [
        ([0, 9, 1, 9, 2, 9, 3], 6),  # rises: the end
        ([0, 9, 5, 9, 2, 9, 3], 2),  # falls again: the middle
        ([7, 9, 1, 9, 2, 9, 3], 0),  # never above the start: the start
        ([3, 9, 3, 9, 3, 9, 3], 0),  # no better is no reason
    ],
)
def test_the_best_check_is_kept_even_if_it_is_the_start(heights, best):
    keep, weight = run(heights)
    assert (keep.best, weight) == (best, best)
    assert [done for done, _ in keep.checks] == [0, 2, 4, 6]
    assert keep.found_best == Height(heights[best])


@pytest.mark.parametrize(
    ("num_batches", "num_checks", "at"),
    [(6, 1, [0, 6]), (3, 8, [0, 1, 2, 3]), (7, 3, [0, 2, 5, 7]), (1, 8, [0, 1])],
)
def test_checks_lie_at_equal_distances_and_the_last_one_at_the_end(num_batches, num_checks, at):
    keep, _ = run(list(range(10)), num_batches, num_checks)
    assert [done for done, _ in keep.checks] == at


@pytest.mark.parametrize(
    ("heights", "best"),
    [([0, 9, 5, 6], 3), ([0, 9, 5, 4], 2), ([7, 9, 5, 4], 0)],
)
def test_a_training_that_somebody_else_ended_is_checked_where_it_ended(heights, best):
    model = torch.nn.Linear(1, 1)
    torch.nn.init.constant_(model.weight, 0)
    keep = KeepBest(model, lambda: Height(heights[int(model.weight.item())]), 6, 3)
    keep.on_fit_start(TRAINER, None)
    for index in range(3):  # of six
        torch.nn.init.constant_(model.weight, index + 1)
        keep.on_train_batch_end(TRAINER, None, None, None, index)
    keep.on_train_end(TRAINER, None)
    keep.restore()
    assert [done for done, _ in keep.checks] == [0, 2, 3]
    assert (keep.best, int(model.weight.item())) == (best, best)


def test_the_first_process_decides():
    model = torch.nn.Linear(1, 1)
    answers = iter([Height(1), Height(2)])
    told = SimpleNamespace(strategy=SimpleNamespace(broadcast=lambda value: Height(0)))
    keep = KeepBest(model, lambda: next(answers), 1, 1)
    keep.on_fit_start(told, None)
    keep.on_train_batch_end(told, None, None, None, 0)
    assert keep.best == 0


def test_training_ends_where_it_is_enough_or_nothing_better_comes():
    trainer = SimpleNamespace(strategy=TRAINER.strategy, should_stop=False)

    def ends_after(heights, **settings):
        found = iter(heights)
        keep = KeepBest(
            torch.nn.Linear(1, 1),
            lambda: Height(next(found)),
            len(heights) - 1,
            len(heights) - 1,
            **settings,
        )
        trainer.should_stop = False
        keep.on_fit_start(trainer, None)
        for index in range(len(heights) - 1):
            if trainer.should_stop:
                break
            keep.on_train_batch_end(trainer, None, None, None, index)
        return keep.num_done, keep.best

    assert ends_after([1, 2, 3, 4]) == (3, 3)
    assert ends_after([1, 2, 3, 4], is_enough=lambda found: found.value >= 3) == (2, 2)
    assert ends_after([5, 2, 3, 4], is_enough=lambda found: found.value >= 3) == (0, 0)
    assert ends_after([1, 4, 3, 3, 9], patience=2) == (3, 1)
    assert ends_after([1, 4, 3, 5, 3, 9], patience=2) == (5, 5)
    assert ends_after([4, 3, 9], patience=1) == (1, 0)
