"""LeafModule and ContrastiveModule in a user's own Trainer: what it logs, saves, resumes and
accumulates, and that it trains what ``fit`` trains.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from dataclasses import replace

import lightning
import numpy as np
import own_trainer as case
import pytest
import tiny
import torch
from lightning.pytorch.callbacks import Callback, LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger

from leafkit.config import StudentLosses
from leafkit.core.errors import UsageError
from leafkit.data.batching import token_budget_batches
from leafkit.train.batch_list import BatchList
from leafkit.train.fit import fit
from leafkit.train.leaf_module import LeafBatch, LeafModule
from leafkit.train.optimizer import lr_share
from leafkit.train.trainer_options import TrainerOptions

CPU = torch.device("cpu")
PARTS = pytest.mark.parametrize("parts", case.PARTS.values(), ids=case.PARTS)


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def weights(module: lightning.LightningModule) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in module.encoder.parameters()])


@PARTS
def test_a_trainer_with_logger_and_callbacks_trains(parts, tmp_path):
    module, data = parts()
    before = weights(module)
    trainer = case.make_trainer(
        tmp_path,
        max_epochs=4,
        logger=CSVLogger(tmp_path, name="logs", version=""),
        callbacks=[LearningRateMonitor("step")],
        log_every_n_steps=1,
    )
    trainer.fit(module, data)
    num_steps = 4 * data.num_batches
    assert trainer.global_step == len(module.losses) == num_steps
    assert not torch.equal(weights(module), before)
    assert np.mean(module.losses[-data.num_batches :]) < np.mean(module.losses[: data.num_batches])
    rows = list(csv.DictReader((tmp_path / "logs" / "metrics.csv").open()))
    for name, expected in {
        "train/loss": module.losses,
        "train/lr": [1e-3 * lr_share(i, case.OPTIMIZER, num_steps) for i in range(num_steps)],
    }.items():
        found = [float(row[name]) for row in rows if row[name]]
        assert found == pytest.approx(expected, rel=1e-5)
    norms = [float(row["train/grad_norm"]) for row in rows if row["train/grad_norm"]]
    assert len(norms) == num_steps
    assert min(norms) > 0
    assert "lr: 0.001" in (tmp_path / "logs" / "hparams.yaml").read_text()


def test_distance_and_cosine_are_logged_whatever_trains(tmp_path):
    rows = {}
    for term in ("l2", "cosine", "in_batch"):
        module, data = case.distillation()
        losses = StudentLosses(**({"l2": 0.0} | {term: 1.0}))
        module = LeafModule(module.encoder, case.OPTIMIZER, losses=losses)
        logger = CSVLogger(tmp_path, name=term, version="")
        trainer = case.make_trainer(tmp_path, max_epochs=1, logger=logger, log_every_n_steps=1)
        trainer.fit(module, data)
        rows[term] = next(csv.DictReader((tmp_path / term / "metrics.csv").open()))
    for row in rows.values():  # of the first step, which nothing has moved yet
        for name in ("train/l2", "train/cosine"):
            assert float(row[name]) == pytest.approx(float(rows["l2"][name]), rel=1e-5)
    # of unit vectors |s - t|^2 = 2 (1 - cos)
    assert float(rows["l2"]["train/l2"]) == pytest.approx(2 * float(rows["l2"]["train/cosine"]))
    assert "train/in_batch" in rows["in_batch"]
    assert "train/in_batch" not in rows["l2"]


def test_it_trains_what_fit_trains_bit_for_bit(tmp_path):
    module, data = case.distillation()
    case.make_trainer(tmp_path, max_epochs=1).fit(module, data)

    student = tiny.make_encoder(dim=48, seed=3)
    ids = student.tokenize(case.DOCUMENTS, "document") + student.tokenize(case.QUERIES, "query")
    vectors = np.concatenate(
        [case.teacher_vectors(len(case.DOCUMENTS), 0), case.teacher_vectors(len(case.QUERIES), 1)]
    )
    batches = token_budget_batches([len(i) for i in ids], 200, 8, 42, epoch=0)

    def make(step: int) -> LeafBatch:
        rows = batches[step]
        return LeafBatch([ids[r] for r in rows], torch.from_numpy(vectors[rows]), len(rows))

    other = LeafModule(student, case.OPTIMIZER)
    losses = fit(
        other,
        BatchList(len(batches), make),
        title="test",
        device=CPU,
        precision=torch.float32,
        seed=42,
    )
    assert module.losses == losses
    assert len(losses) > 5
    assert torch.equal(weights(module), weights(other))


class SaveAt(Callback):
    """Saves a checkpoint after some steps, and stops there if asked."""

    def __init__(self, step: int, path, stop: bool = False) -> None:
        self.step, self.path, self.stop = step, path, stop

    def on_train_batch_end(self, trainer, *args) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)
            if self.stop:
                raise KeyboardInterrupt


@PARTS
@pytest.mark.parametrize("place", ["first", "inside", "end of a pass", "second pass"])
def test_a_run_that_resumes_ends_where_an_uninterrupted_one_does(parts, place, tmp_path):
    module, data = parts()
    case.make_trainer(tmp_path).fit(module, data)
    n = data.num_batches
    step = {"first": 1, "inside": n // 2, "end of a pass": n, "second pass": n + 2}[place]

    stopped, path = parts(), tmp_path / "at.ckpt"
    with pytest.raises(SystemExit):
        case.make_trainer(tmp_path, callbacks=[SaveAt(step, path, stop=True)]).fit(*stopped)
    assert len(stopped[0].losses) == step

    resumed = parts()
    case.make_trainer(tmp_path).fit(*resumed, ckpt_path=path)
    assert resumed[0].losses == module.losses
    assert torch.equal(weights(resumed[0]), weights(module))


def test_lightnings_own_checkpoint_loads_as_plain_numbers(tmp_path):
    module, data = case.contrastive()
    saver = ModelCheckpoint(tmp_path, filename="last")
    case.make_trainer(tmp_path, enable_checkpointing=True, callbacks=[saver]).fit(module, data)
    found = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert found["hyper_parameters"]["optimizer"]["lr"] == 1e-3
    assert found["hyper_parameters"]["loss"]["temperature"] == 0.1
    assert found["losses"] == module.losses


# --- accumulation


def gradient(module: LeafModule, batches: BatchList, accumulate: int) -> torch.Tensor:
    """What the first optimizer step moves the weights by, with plain SGD in AdamW's place."""
    module.configure_optimizers = lambda: torch.optim.SGD(module.parameters(), lr=1.0)
    module.optimizer_config = replace(module.optimizer_config, max_grad_norm=1e9)
    before = weights(module)
    fit(
        module,
        batches,
        title="test",
        device=CPU,
        precision=torch.float32,
        seed=0,
        options=TrainerOptions(accumulate_grad_batches=accumulate),
    )
    return weights(module) - before


@pytest.mark.parametrize("cuts", [[6, 18], [3, 4, 11, 18], [1, 18]])
def test_accumulated_leaf_gradients_are_those_of_one_larger_batch(cuts):
    """Batches of different sizes; Lightning divides by their number, the weights put that right."""

    def parts(ends: list[int]) -> tuple[LeafModule, BatchList]:
        student = tiny.make_encoder(dim=48, seed=3)
        ids = student.tokenize(case.DOCUMENTS[:18], "document")
        targets = torch.from_numpy(case.teacher_vectors(18, 0))
        starts = [0, *ends[:-1]]

        def make(step: int) -> LeafBatch:
            rows = slice(starts[step], ends[step])
            return LeafBatch(ids[rows], targets[rows], ends[step] - starts[step])

        sizes = [end - start for start, end in zip(starts, ends, strict=True)]
        return LeafModule(student, case.OPTIMIZER), BatchList(len(ends), make, rows=sizes)

    whole = gradient(*parts([18]), accumulate=1)
    assert torch.allclose(gradient(*parts(cuts), accumulate=len(cuts)), whole, atol=2e-6)
    assert float(whole.abs().max()) > 1e-2


def test_the_last_window_of_a_pass_may_be_short():
    """Three batches in windows of two: the third steps alone, as if it were not accumulated."""
    ids = tiny.make_encoder(dim=48, seed=3).tokenize(case.DOCUMENTS[:9], "document")
    targets = torch.from_numpy(case.teacher_vectors(9, 0))

    def make(step: int) -> LeafBatch:
        rows = slice(3 * step, 3 * step + 3)
        return LeafBatch(ids[rows], targets[rows], 3)

    batches = BatchList(3, make, rows=[3, 3, 3]).accumulated(2)
    assert [batches[i].loss_weight for i in range(3)] == [1.0, 1.0, 2.0]


@PARTS
def test_warm_up_and_decay_count_optimizer_steps(parts, tmp_path):
    module, data = parts()
    trainer = case.make_trainer(tmp_path, accumulate_grad_batches=3)
    trainer.fit(module, data)
    per_pass = -(-data.num_batches // 3)
    assert trainer.global_step == 2 * per_pass == module.planned_steps()
    assert len(module.losses) == 2 * data.num_batches
    last = trainer.optimizers[0].param_groups[0]["lr"]
    assert last == pytest.approx(1e-3 * lr_share(2 * per_pass, case.OPTIMIZER, 2 * per_pass))


def test_fit_accumulates_what_the_own_trainer_does(tmp_path):
    module, data = case.distillation()
    trainer = case.make_trainer(tmp_path, max_epochs=1, accumulate_grad_batches=2)
    trainer.fit(module, data)
    batches, (other, _) = data.make_pass(0), case.distillation()
    fit(
        other,
        batches,
        title="test",
        device=CPU,
        precision=torch.float32,
        seed=42,
        options=TrainerOptions(accumulate_grad_batches=2),
    )
    assert other.losses == module.losses
    assert other.num_steps == trainer.global_step


def test_batches_of_unknown_size_cannot_be_accumulated():
    with pytest.raises(UsageError, match="accumulate_grad_batches=2 needs the rows"):
        BatchList(3, lambda step: None).accumulated(2)


# --- steps


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({"max_epochs": 3}, lambda n: 3 * n),
        ({"max_epochs": -1, "max_steps": 5}, lambda n: 5),
        ({"max_epochs": 2, "max_steps": 5}, lambda n: 5),
        ({"max_epochs": 2, "limit_train_batches": 3}, lambda n: 6),
        ({"max_epochs": 2, "limit_train_batches": 0.5}, lambda n: 2 * (n // 2)),
        ({"max_epochs": 2, "limit_train_batches": 3, "accumulate_grad_batches": 2}, lambda n: 4),
    ],
)
def test_the_schedule_has_as_many_steps_as_the_trainer_takes(settings, steps, tmp_path):
    module, data = case.distillation()
    trainer = case.make_trainer(tmp_path, **settings)
    trainer.fit(module, data)
    assert trainer.global_step == module.planned_steps() == steps(data.num_batches)


def test_a_training_without_an_end_is_refused(tmp_path):
    module, data = case.distillation()
    with pytest.raises(UsageError, match="this Trainer has no end"):
        case.make_trainer(tmp_path, max_epochs=-1).fit(module, data)


def test_a_loader_without_data_module_needs_num_steps(tmp_path):
    module, _ = case.distillation()
    loader = torch.utils.data.DataLoader(BatchList(1, lambda step: None), batch_size=None)
    with pytest.raises(UsageError, match="nothing says how many") as caught:
        case.make_trainer(tmp_path).fit(module, loader)
    assert "num_steps" in caught.value.hint


def test_the_trainers_own_clipping_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"gradient_clip_val=0\.5") as caught:
        case.make_trainer(tmp_path, gradient_clip_val=0.5).fit(*case.distillation())
    assert "max_grad_norm" in caught.value.hint


def test_loaders_that_are_reloaded_are_refused(tmp_path):
    trainer = case.make_trainer(tmp_path, reload_dataloaders_every_n_epochs=1)
    with pytest.raises(UsageError, match="reload_dataloaders_every_n_epochs"):
        trainer.fit(*case.distillation())


# --- processes


@pytest.mark.slow
def test_two_processes_train_what_one_does(tmp_path):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    script = str(tiny.ROOT / "tests" / "support" / "own_trainer.py")
    done = subprocess.run(
        [*launcher, "--nproc-per-node", "2", script, str(tmp_path)],
        env=os.environ | tiny.environment(),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert one == two
    for name, parts in case.PARTS.items():
        module, data = parts()
        case.make_trainer(tmp_path).fit(module, data)
        assert one[name] == pytest.approx(module.losses, rel=1e-3)
        assert len(set(one[name])) > 5
