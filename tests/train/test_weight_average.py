"""The moving average of the weights: by hand, in checks, in a training."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import tiny
import torch
from lightning.pytorch.callbacks import Callback

from leafkit.config import OptimizerConfig
from leafkit.train.batch_list import BatchList
from leafkit.train.fit import fit
from leafkit.train.keep_best import KeepBest
from leafkit.train.leaf_module import LeafBatch, LeafModule
from leafkit.train.trainer_options import TrainerOptions
from leafkit.train.weight_average import WeightAverage


@dataclass(frozen=True)
class Height:
    value: float

    def is_better(self, other: Height) -> bool:
        return self.value > other.value


def trainer(step: int) -> SimpleNamespace:
    strategy = SimpleNamespace(broadcast=lambda value: value)
    return SimpleNamespace(global_step=step, strategy=strategy)


class Layer(torch.nn.Linear):
    """One weight, and a bias that nothing trains."""

    def __init__(self) -> None:
        super().__init__(1, 1)
        self.bias.requires_grad_(False)
        self.set(0.0)

    def set(self, value: float) -> None:
        with torch.no_grad():
            self.weight.fill_(value)
            self.bias.fill_(value)


def follow(layer: Layer, decay: float, values: list[float]) -> WeightAverage:
    """An average of a weight that has these values, a step each."""
    average = WeightAverage(layer, decay)
    average.on_fit_start(trainer(0), None)
    for step, value in enumerate(values, start=1):
        layer.set(value)
        average.on_train_batch_end(trainer(step), None, None, None, step - 1)
    return average


def test_two_steps_by_hand():
    layer = Layer()
    # 2/11 of 0 and 9/11 of 11 are 9; 3/12 of 9 and 9/12 of 5 are 6
    follow(layer, 0.9, [11.0, 5.0]).keep()
    assert layer.weight.item() == pytest.approx(6.0)
    assert layer.bias.item() == 5.0


def test_decay_is_what_is_asked_for_once_it_is_reached():
    layer, values = Layer(), [1.0, 4.0, -2.0, 10.0, 3.0, 8.0, 8.0, 1.0, 2.0]
    expected = 0.0
    for value, decay in zip(values, [2 / 11, 3 / 12, 4 / 13, *[5 / 14] * 6], strict=True):
        expected = decay * expected + (1 - decay) * value
    average = follow(layer, 5 / 14, values)
    with average.in_place():
        assert layer.weight.item() == pytest.approx(expected)
    assert layer.weight.item() == 2.0


def test_a_batch_that_ends_no_optimizer_step_counts_nothing():
    layer = Layer()
    average = WeightAverage(layer, 0.9)
    average.on_fit_start(trainer(0), None)
    for index, (step, value) in enumerate([(0, 3.0), (1, 11.0), (1, 4.0), (2, 5.0)]):
        layer.set(value)
        average.on_train_batch_end(trainer(step), None, None, None, index)
    average.keep()
    assert layer.weight.item() == pytest.approx(6.0)


def test_a_look_that_fails_gives_the_weights_back():
    layer = Layer()
    average = follow(layer, 0.9, [7.0])
    with pytest.raises(KeyError), average.in_place():
        raise KeyError
    assert layer.weight.item() == 7.0


@pytest.mark.parametrize("sign", [1, -1])
def test_checks_measure_the_average_and_it_is_kept(sign):
    layer, seen = Layer(), []
    average = WeightAverage(layer, 0.5)

    def measure() -> Height:
        seen.append(layer.weight.item())
        return Height(sign * seen[-1])

    callbacks = [average, KeepBest(layer, measure, 3, 3, average=average)]
    for callback in callbacks:
        callback.on_fit_start(trainer(0), None)
    for step, value in ((1, 11.0), (2, 5.0), (3, 100.0)):
        layer.set(value)
        for callback in callbacks:
            callback.on_train_batch_end(trainer(step), None, None, None, step - 1)
        assert layer.weight.item() == value
    last = 4 / 13 * 6 + 9 / 13 * 100
    assert seen == pytest.approx([0.0, 9.0, 6.0, last])
    average.keep()
    callbacks[1].restore()
    assert layer.weight.item() == pytest.approx(last if sign == 1 else 0.0)


class Diary(Callback):
    """The weights after every batch."""

    def __init__(self, encoder) -> None:
        self.encoder, self.weights = encoder, []

    def on_train_batch_end(self, *_) -> None:
        self.weights.append(flat(self.encoder))


def flat(encoder) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in encoder.parameters()]).clone()


@pytest.mark.parametrize("accumulated", [1, 2])
def test_a_training_takes_the_same_steps_and_ends_as_their_average(accumulated):
    ends = []
    texts = [document for _, document in tiny.make_pairs(30)]
    targets = torch.randn(30, 32, generator=torch.Generator().manual_seed(0))
    for decay in (0.0, 0.3):
        module = LeafModule(tiny.make_encoder(), OptimizerConfig(lr=1e-3))
        ids = module.encoder.tokenize(texts, "document")
        batches = BatchList(
            5,
            lambda i, ids=ids: LeafBatch(ids[6 * i :][:6], targets[6 * i :][:6], 6),
            rows=[6] * 5,
        )
        expected, diary = flat(module.encoder), Diary(module.encoder)
        average = WeightAverage(module.encoder, decay)
        options = TrainerOptions(callbacks=[diary, average], accumulate_grad_batches=accumulated)
        fit(
            module,
            batches,
            title="test",
            device=torch.device("cpu"),
            precision=torch.float32,
            seed=0,
            options=options,
        )
        ends.append(flat(module.encoder))
        # the last step may be of fewer batches
        last = [min(i + accumulated, len(diary.weights)) - 1 for i in range(0, 5, accumulated)]
        for t, weights in enumerate([diary.weights[i] for i in last], start=1):
            d = min(decay, (1 + t) / (10 + t))
            expected = d * expected + (1 - d) * weights
        average.keep()
        assert torch.allclose(flat(module.encoder), expected, atol=1e-6)
        assert torch.equal(flat(module.encoder), ends[-1]) == (decay == 0)
    assert torch.equal(*ends)
