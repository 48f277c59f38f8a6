"""A student trains on the fake NPU: undisturbed, then stopped by a signal and continued. Writes
outcome.json: both curves, both ways' numbers of the device's generator, what the saved state holds.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import tiny
import torch
from lightning.pytorch.callbacks import Callback, DeviceStatsMonitor
from lightning.pytorch.loggers import CSVLogger

from leafkit.config import OptimizerConfig
from leafkit.core.process.stop_signals import Terminated, stop_signals
from leafkit.models.precision import choose_device
from leafkit.train.batch_list import BatchList
from leafkit.train.fit import fit
from leafkit.train.leaf_module import LeafBatch, LeafModule
from leafkit.train.resume import Checkpoints, find_state
from leafkit.train.trainer_options import TrainerOptions

NUM_BATCHES, STOP_AT = 6, 3
TEXTS = [document for _, document in tiny.make_pairs(4 * NUM_BATCHES)]


class Watch(Callback):
    """Draws a number of the device's generator before every batch; may stop the process at one."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.drawn: list[float] = []
        self.seen: set[str] = set()
        self._stop_at = stop_at

    def on_train_batch_start(self, trainer, module, batch, batch_idx) -> None:
        self.drawn.append(torch.npu.draw())
        weight = next(module.parameters())
        self.seen |= {str(weight.device), str(weight.dtype), str(trainer.strategy.root_device)}
        self.seen |= {type(trainer.accelerator).__name__, trainer.precision_plugin.device}
        if batch_idx == self._stop_at:
            os.kill(os.getpid(), signal.SIGTERM)


def train(place: Checkpoints | None, watch: Watch, folder: Path) -> list[float]:
    student = tiny.make_encoder(dim=48, seed=3)
    targets = torch.nn.functional.normalize(
        torch.randn(len(TEXTS), 48, generator=torch.Generator().manual_seed(0)), dim=1
    )
    token_ids = student.tokenize(TEXTS, "document")

    def make(step: int) -> LeafBatch:
        rows = slice(4 * step, 4 * step + 4)
        return LeafBatch(token_ids[rows], targets[rows], 4)

    return fit(
        LeafModule(student, OptimizerConfig(lr=1e-3)),
        BatchList(NUM_BATCHES, make, rows=[4] * NUM_BATCHES),
        title="test",
        device=choose_device("npu"),
        precision=torch.bfloat16,
        seed=1,
        options=TrainerOptions(
            loggers=[CSVLogger(folder)],
            callbacks=[watch, DeviceStatsMonitor()],
            checkpoints=place,
        ),
    )


def main(folder: Path) -> None:
    place = Checkpoints(folder / "state", "this training", 1e9)
    whole, stopped, again = Watch(), Watch(STOP_AT), Watch()
    losses = train(None, whole, folder / "whole")
    try:
        with stop_signals():
            train(place, stopped, folder / "stopped")
    except Terminated:
        state = find_state(place)
    found = torch.load(state.path, weights_only=True)
    resumed = train(place, again, folder / "again")
    outcome = {
        "losses": losses,
        "resumed": resumed,
        "drawn": whole.drawn,
        "drawn_resumed": stopped.drawn + again.drawn,
        "num_batches": state.num_batches,
        "random": sorted(found["leafkit"]["random"]),
        "seen": sorted(whole.seen),
    }
    (folder / "outcome.json").write_text(json.dumps(outcome))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
