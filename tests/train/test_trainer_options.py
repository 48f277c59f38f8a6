"""Loggers, callbacks, strategy: what ``fit`` passes to Lightning, and what it refuses."""

from __future__ import annotations

import csv
from types import SimpleNamespace

import pytest
import tiny
import torch
from lightning.pytorch.callbacks import Callback, DeviceStatsMonitor, LearningRateMonitor
from lightning.pytorch.strategies import SingleDeviceStrategy

from leafkit.config import OptimizerConfig, TrainerConfig
from leafkit.core.errors import MissingExtra, UsageError
from leafkit.train import trainer_options
from leafkit.train.batch_list import BatchList
from leafkit.train.devices.sharded import ShardedStrategy
from leafkit.train.fit import _choose_strategy, build_trainer, fit
from leafkit.train.leaf_module import LeafBatch, LeafModule
from leafkit.train.trainer_options import TrainerOptions, make_options
from leafkit.train.world import World

CPU = torch.device("cpu")
ONE = World(0, 1, 1)


def build(options: TrainerOptions, world: World = ONE):
    return build_trainer(1, CPU, torch.float32, world=world, options=options)


def train(options: TrainerOptions) -> LeafModule:
    student = tiny.make_encoder(dim=48, seed=3)
    ids = student.tokenize([document for _, document in tiny.make_pairs(12)], "document")
    targets = torch.nn.functional.normalize(torch.ones(12, 48), dim=1)
    module = LeafModule(student, OptimizerConfig(lr=1e-3))
    batches = BatchList(4, lambda i: LeafBatch(ids[3 * i : 3 * i + 3], targets[:3], 3), [3] * 4)
    fit(
        module,
        batches,
        title="test",
        device=CPU,
        precision=torch.float32,
        seed=0,
        options=options,
    )
    return module


def test_a_recipes_names_become_lightnings_objects(tmp_path):
    config = TrainerConfig(
        loggers=["csv"], callbacks=["lr_monitor", "device_stats"], accumulate_grad_batches=2
    )
    options = make_options(config, tmp_path / "logs")
    assert [type(c) for c in options.callbacks] == [LearningRateMonitor, DeviceStatsMonitor]
    assert options.accumulate_grad_batches == 2
    assert list(tmp_path.iterdir()) == []  # nothing is written before something is logged
    module = train(options)
    rows = list(csv.DictReader((tmp_path / "logs" / "metrics.csv").open()))
    losses = [float(row["train/loss"]) for row in rows if row["train/loss"]]
    assert losses == pytest.approx(module.losses[1::2], rel=1e-5)  # once per optimizer step
    assert any(row.get("lr-AdamW/pg1") for row in rows)
    assert any("DeviceStatsMonitor" in name for name in rows[0])


def test_a_users_own_callback_is_called(tmp_path):
    class Count(Callback):
        steps = 0

        def on_train_batch_end(self, trainer, *args) -> None:
            self.steps += 1
            assert {"train/loss", "train/lr"} <= set(trainer.callback_metrics)

    count = Count()
    train(TrainerOptions(callbacks=[count]))
    assert count.steps == 4


@pytest.mark.parametrize(
    ("name", "extra"),
    [("tensorboard", "tensorboard"), ("wandb", "wandb"), ("device_stats", "monitor")],
)
def test_a_missing_package_fails_with_the_install_line(name, extra, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer_options, "find_spec", lambda module: None)
    config = (
        TrainerConfig(loggers=["csv"], callbacks=[name])
        if name == "device_stats"
        else TrainerConfig(loggers=[name])
    )
    with pytest.raises(MissingExtra, match=name) as caught:
        make_options(config, tmp_path)
    assert caught.value.hint == f'pip install "leafkit[{extra}]"'


def test_every_name_of_the_config_has_an_object(tmp_path, monkeypatch):
    from leafkit.config import CALLBACKS, LOGGERS

    assert set(CALLBACKS) == set(trainer_options._CALLBACKS)
    monkeypatch.setattr(trainer_options, "TensorBoardLogger", lambda *a, **k: "tensorboard")
    monkeypatch.setattr(trainer_options, "WandbLogger", lambda *a, **k: "wandb")
    made = [trainer_options._make_logger(name, tmp_path / "x") for name in LOGGERS]
    assert made[1:] == ["tensorboard", "wandb"]


def test_a_lightning_strategy_is_taken_as_it_is():
    strategy = SingleDeviceStrategy(CPU)
    assert build(TrainerOptions(strategy=strategy)).strategy is strategy


def test_several_processes_get_ddp(monkeypatch):
    from lightning.pytorch.strategies import DDPStrategy

    for name in ("auto", "ddp"):
        assert isinstance(_choose_strategy(name, CPU, World(0, 2, 2)), DDPStrategy)


def test_fsdp_shares_out_among_all_processes():
    strategy = _choose_strategy("fsdp", CPU, World(0, 6, 2))
    assert isinstance(strategy, ShardedStrategy)
    assert (strategy._data_parallel_size, strategy._tensor_parallel_size) == (6, 1)


def test_fsdp_on_a_device_without_it_is_refused():
    with pytest.raises(UsageError, match=r"trainer\.strategy=fsdp is not for NPUs"):
        _choose_strategy("fsdp", SimpleNamespace(type="npu"), World(0, 2, 2))


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_strategies_of_several_processes_are_refused_in_one(strategy):
    with pytest.raises(UsageError, match=f"strategy={strategy} and .* one process") as caught:
        build(TrainerOptions(strategy=strategy))
    assert "torchrun" in caught.value.hint


@pytest.mark.parametrize("strategy", ["deepspeed", "nothing"])
def test_other_strategies_are_refused(strategy):
    with pytest.raises(UsageError, match=f"trainer.strategy={strategy} is not supported") as caught:
        build(TrainerOptions(strategy=strategy))
    assert caught.value.hint == "one of auto, ddp, fsdp"
