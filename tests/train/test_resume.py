"""A training that is cut short goes on where it was, and ends in the same bits."""

from __future__ import annotations

import csv
import errno
import os
import signal
from dataclasses import dataclass, replace

import pytest
import tiny
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger

from leafkit.config import OptimizerConfig, StudentLosses
from leafkit.core.devices import KINDS
from leafkit.core.errors import LeafkitError
from leafkit.core.process.stop_signals import Terminated, stop_signals
from leafkit.train import resume
from leafkit.train.batch_list import BatchList
from leafkit.train.fit import fit
from leafkit.train.keep_best import KeepBest
from leafkit.train.leaf_module import LeafBatch, LeafModule
from leafkit.train.resume import Checkpoints, find_state
from leafkit.train.trainer_options import TrainerOptions
from leafkit.train.weight_average import WeightAverage

NUM_BATCHES = 11
TEXTS = [document for _, document in tiny.make_pairs(4 * NUM_BATCHES)]
STOPS = {signal.SIGTERM: Terminated, signal.SIGINT: KeyboardInterrupt}


@dataclass(frozen=True)
class Nearness:
    value: float

    def is_better(self, other) -> bool:
        return self.value > other.value


class Signal(Callback):
    """The process gets a signal within a batch."""

    def __init__(self, batch: int, number: int) -> None:
        self.batch, self.number = batch, number

    def on_train_batch_start(self, trainer, module, batch, batch_idx) -> None:
        if batch_idx == self.batch:
            os.kill(os.getpid(), self.number)


class Kill(Callback):
    """The process ends at a batch without a word: nothing is saved of it."""

    def __init__(self, batch: int) -> None:
        self.batch = batch

    def on_train_batch_start(self, trainer, module, batch, batch_idx) -> None:
        if batch_idx == self.batch:
            raise SystemError("killed")


class Training:
    """A student with averaged weights that are checked, from its start."""

    def __init__(
        self,
        place: Checkpoints | None,
        *extra,
        accumulate: int = 1,
        patience: int = 0,
        losses: StudentLosses | None = None,
    ):
        student = tiny.make_encoder(dim=48, seed=3)
        targets = torch.nn.functional.normalize(
            torch.randn(len(TEXTS), 48, generator=torch.Generator().manual_seed(0)), dim=1
        )
        token_ids = student.tokenize(TEXTS, "document")

        def make(step: int) -> LeafBatch:
            rows = slice(4 * step, 4 * step + 4)
            return LeafBatch(token_ids[rows], targets[rows], 4)

        def measure() -> Nearness:
            with torch.no_grad():
                found = student.finish(student(token_ids[:8]))
            return Nearness(-float((found - targets[:8]).norm()))

        average = WeightAverage(student, 0.5)
        self.best = KeepBest(
            student,
            measure,
            NUM_BATCHES,
            4,
            patience=patience,
            average=average,
            pack=lambda found: found.value,
            unpack=Nearness,
        )
        self.student = student
        self.module = LeafModule(student, OptimizerConfig(lr=1e-3), losses=losses)
        self.batches = BatchList(NUM_BATCHES, make, rows=[4] * NUM_BATCHES)
        self.options = TrainerOptions(
            callbacks=[*extra, average, self.best],
            accumulate_grad_batches=accumulate,
            checkpoints=place,
        )

    def run(self) -> dict[str, torch.Tensor]:
        self.losses = fit(
            self.module,
            self.batches,
            title="test",
            device=torch.device("cpu"),
            precision=torch.float32,
            seed=1,
            options=self.options,
        )
        self.best.restore()
        return {name: value.clone() for name, value in self.student.state_dict().items()}


def is_same(first, second) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) for name in first
    )


@pytest.fixture
def place(tmp_path) -> Checkpoints:
    return Checkpoints(tmp_path / "state", "this training", 1e9)


@pytest.mark.parametrize("number", STOPS)
@pytest.mark.parametrize(("batch", "accumulate"), [(0, 1), (4, 1), (10, 1), (3, 2), (4, 3)])
def test_a_signal_stops_after_the_step_and_nothing_is_lost(number, batch, accumulate, place):
    whole = Training(None, accumulate=accumulate)
    weights = whole.run()
    stopped = Training(place, Signal(batch, number), accumulate=accumulate)
    with pytest.raises(STOPS[number]), stop_signals():
        stopped.run()
    num_done = min(NUM_BATCHES, -(-(batch + 1) // accumulate) * accumulate)
    assert find_state(place).num_batches == num_done
    again = Training(place, accumulate=accumulate)
    assert is_same(again.run(), weights)
    assert again.losses == whole.losses
    assert (again.best.checks, again.best.best) == (whole.best.checks, whole.best.best)


@pytest.mark.parametrize(("batch", "accumulate"), [(2, 1), (6, 1), (5, 2)])
def test_a_schedule_of_terms_goes_on_where_it_was(batch, accumulate, place):
    """Cut short before one term ends and the other begins, and behind that."""
    losses = StudentLosses(cosine=2.0, begin={"cosine": 0.4}, end={"l2": 0.5})
    whole = Training(None, accumulate=accumulate, losses=losses)
    weights = whole.run()
    assert not is_same(weights, Training(None, accumulate=accumulate).run())
    with pytest.raises(Terminated), stop_signals():
        Training(place, Signal(batch, signal.SIGTERM), accumulate=accumulate, losses=losses).run()
    again = Training(place, accumulate=accumulate, losses=losses)
    assert is_same(again.run(), weights)
    assert again.losses == whole.losses


def test_after_a_kill_it_goes_on_from_the_last_save(place, caplog):
    whole = Training(None)
    weights = whole.run()
    often = replace(place, every_s=0)
    for batch in (3, 4, 9):
        with pytest.raises(SystemError):
            Training(often, Kill(batch)).run()
        assert find_state(often).num_batches == batch
    assert sorted(path.name for path in place.folder.iterdir()) == ["last.ckpt", "previous.ckpt"]
    with caplog.at_level("INFO", logger="leafkit"):
        again = Training(often)
        assert is_same(again.run(), weights)
    assert f"test: goes on after 9 of {NUM_BATCHES} batches" in caplog.text
    assert again.losses == whole.losses
    # and what is saved at the end is not trained again
    over = Training(often)
    assert is_same(over.run(), weights)
    assert over.losses == whole.losses


def test_what_had_ended_early_stays_ended(place):
    whole = Training(None, patience=1)
    whole.module.optimizer_config = OptimizerConfig(lr=0.5)
    weights = whole.run()
    assert len(whole.losses) < NUM_BATCHES
    for _ in range(2):
        again = Training(replace(place, every_s=0), patience=1)
        again.module.optimizer_config = OptimizerConfig(lr=0.5)
        assert is_same(again.run(), weights)
        assert again.losses == whole.losses


def test_what_the_csv_logger_wrote_before_stays(place, tmp_path):
    def train(*extra) -> None:
        training = Training(replace(place, every_s=0), *extra)
        logger = CSVLogger(tmp_path, name="logs", version="")
        training.options = replace(training.options, loggers=[logger])
        training.run()

    with pytest.raises(SystemError):
        train(Kill(6))
    train()
    found = [tmp_path / "logs" / name for name in ("metrics_before_6.csv", "metrics.csv")]
    steps = []
    for path in found:
        with path.open() as lines:
            steps += [int(row["step"]) for row in csv.DictReader(lines)]
    assert sorted(set(steps)) == list(range(NUM_BATCHES))


def test_what_killed_processes_left_of_a_save_goes_with_the_next_one(place):
    """Else a large model that is killed while it saves would fill the disk, state by state."""
    often = replace(place, every_s=0)
    place.folder.mkdir()
    for process in (4711, 4712):
        (place.folder / f".last.ckpt.{process}.tmp").write_bytes(b"half a state")
    (place.folder / "mine.tmp").touch()
    with pytest.raises(SystemError):
        Training(often, Kill(2)).run()
    left = ["last.ckpt", "mine.tmp", "previous.ckpt"]
    assert sorted(path.name for path in place.folder.iterdir()) == left


@pytest.mark.parametrize("harm", ["truncated", "empty", "text", "code"])
def test_a_damaged_state_gives_way_to_the_one_before(harm, place, caplog):
    often = replace(place, every_s=0)
    with pytest.raises(SystemError):
        Training(often, Kill(5)).run()
    path = place.folder / "last.ckpt"
    content = path.read_bytes()
    if harm == "code":
        torch.save({"leafkit": Training}, path)
    else:
        path.write_bytes({"truncated": content[:-999], "empty": b"", "text": b"x" * 999}[harm])
    with caplog.at_level("INFO", logger="leafkit"):
        assert find_state(often).num_batches == 4
    assert "last.ckpt is damaged" in caplog.text
    assert is_same(Training(often).run(), Training(None).run())


def test_a_state_of_other_settings_is_not_gone_on_from(place, caplog):
    with pytest.raises(SystemError):
        Training(replace(place, every_s=0), Kill(5)).run()
    other = replace(place, identity="another training")
    with caplog.at_level("INFO", logger="leafkit"):
        assert find_state(other) is None
    assert "is of other settings" in caplog.text
    assert is_same(Training(other).run(), Training(None).run())


@pytest.mark.parametrize("kind", ["disk", "torch"])
def test_a_full_disk_stops_with_one_line_and_keeps_the_state_before(kind, place, monkeypatch):
    often = replace(place, every_s=0)
    with pytest.raises(SystemError):
        Training(often, Kill(3)).run()

    def full(content, stream) -> None:
        stream.write(b"half")
        if kind == "disk":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        raise RuntimeError("[enforce fail at inline_container.cc:603] . unexpected pos 64 vs 0")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(LeafkitError, match=r"No space left|cannot be written into"):
        Training(often).run()
    monkeypatch.undo()
    assert sorted(path.name for path in place.folder.iterdir()) == ["last.ckpt", "previous.ckpt"]
    assert find_state(often).num_batches == 3
    assert is_same(Training(often).run(), Training(None).run())


def test_a_second_signal_does_not_wait(place):
    class Twice(Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Terminated), stop_signals():
        Training(place, Twice()).run()
    assert not place.folder.exists()


def test_random_numbers_go_on_where_they_were():
    import random

    import numpy as np

    def draw() -> list[float]:
        return [float(torch.rand(1)), random.random(), float(np.random.normal())]  # noqa: NPY002

    torch.manual_seed(5)
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    draw()
    state = resume._random_state(KINDS["cpu"])
    first = draw()
    resume._set_random_state(state, KINDS["cpu"])
    assert draw() == first
