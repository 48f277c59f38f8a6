"""Where a training stands, kept on disk while it runs, so that the same command goes on from there:
after a kill, a power cut, or a signal, which all processes follow after the same step.
"""

from __future__ import annotations

import glob
import os
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric.plugins.io.checkpoint_io import CheckpointIO
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch.callbacks import Callback

from leafkit.core.artifact import fsync_path
from leafkit.core.console import log
from leafkit.core.devices import DeviceKind, kind_of
from leafkit.core.errors import LeafkitError, explain_write_errors
from leafkit.core.process.stop_signals import PendingStop
from leafkit.train.world import agree, read_world

_LAST, _PREVIOUS = "last.ckpt", "previous.ckpt"
_KEY = "leafkit"  # of what is ours in Lightning's checkpoint
_WORTH_SAVING = 0.1  # of the time between two saves


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """Where a training keeps its state, and how often.

    Attributes:
        folder: of this training alone; it goes when its step is published.
        identity: names everything that decides about the training; a state of another one is not
            gone on from.
        every_s: seconds between two saves; a signal saves at once.
        facts: that the training decided when it began and must not decide anew, such as how many
            batches its time budget holds.
    """

    folder: Path
    identity: str
    every_s: float
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class State:
    """A training as it was saved.

    Attributes:
        path: of Lightning's checkpoint.
        num_batches: done.
        facts: see ``Checkpoints``.
    """

    path: Path
    num_batches: int
    facts: Mapping[str, Any]


class DurableIO(CheckpointIO):
    """Checkpoints that are whole or not there: Lightning's own go through the system's folder for
    temporary files, are not flushed, and swallow a PermissionError.

    Args:
        kind: of the device that trains.
    """

    def __init__(self, kind: DeviceKind) -> None:
        super().__init__()
        self._kind = kind

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Beside the target first; the state before stays as the previous one. What killed
        processes left of a save is removed: each is as large as a state.

        Raises:
            LeafkitError: the disk is full or cannot be written; the last whole state stays.
        """
        if self._kind.package:  # its tensors are written as calls that a safe reader refuses
            checkpoint = move_data_to_device(checkpoint, torch.device("cpu"))
        target = Path(path)
        draft = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        try:
            with explain_write_errors(target.parent):
                target.parent.mkdir(parents=True, exist_ok=True)
                # of processes that were killed while they saved; the folder is this training's
                for left in target.parent.glob(f".{glob.escape(target.name)}.*.tmp"):
                    left.unlink(missing_ok=True)
                try:
                    with draft.open("wb") as stream:
                        torch.save(checkpoint, stream)
                        stream.flush()
                        os.fsync(stream.fileno())
                except RuntimeError as err:  # torch's writer says so of a full disk
                    if not isinstance(err.__context__, OSError):
                        raise LeafkitError(
                            f"the state of the training cannot be written into {target.parent}: "
                            f"{str(err).splitlines()[0]}",
                            "make room there, and the same command goes on from the last state; "
                            "trainer.checkpoint_minutes=0 saves none",
                        ) from err
                    raise err.__context__ from err
                if target.exists():
                    target.replace(target.with_name(_PREVIOUS))
                draft.replace(target)
                fsync_path(target.parent)
        finally:
            draft.unlink(missing_ok=True)

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, object]:
        """Tensors and plain values alone: no file may bring code."""
        found: dict[str, object] = torch.load(path, map_location="cpu", weights_only=True)
        return found

    def remove_checkpoint(self, path: Any) -> None:
        """Delete one."""
        Path(path).unlink(missing_ok=True)


class SaveState(Callback):
    """Saves the training every so often, and where a signal has come to any process; then all leave
    after the same step. Comes last of the Trainer's callbacks, whose state it saves.

    Args:
        place: where.
        stop: what has come to this process; None where signals are not waited for.
        accumulate: batches per optimizer step; gradients of a part of one are not saved.
    """

    def __init__(self, place: Checkpoints, stop: PendingStop | None, accumulate: int) -> None:
        self._place, self._stop, self._accumulate = place, stop, accumulate
        self._saved_s = 0.0
        self._num_batches = 0

    def on_train_start(self, trainer: Any, module: Any) -> None:
        """The clock begins."""
        self._saved_s = time.monotonic()

    def on_train_batch_end(  # noqa: PLR0917 - Lightning's signature
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save where it is time, and leave where a signal has come.

        Raises:
            Terminated, KeyboardInterrupt: after the state was saved.
            LeafkitError: it cannot be saved.
        """
        self._num_batches = batch_idx + 1
        is_last = self._num_batches == trainer.num_training_batches
        if self._num_batches % self._accumulate and not is_last:
            return
        number, is_due = self._agree(trainer, self._place.every_s)
        if number or is_due:
            self._save(trainer)
        if number:
            log(
                f"  stopped after {self._num_batches:,} of {trainer.num_training_batches:,} "
                "batches; the same command goes on from there"
            )
            raise PendingStop.cause(number)

    def on_train_end(self, trainer: Any, module: Any) -> None:
        """A long training is saved at its end too: what follows may be cut short."""
        if self._agree(trainer, _WORTH_SAVING * self._place.every_s)[1]:
            self._save(trainer)

    def _agree(self, trainer: Any, after_s: float) -> tuple[int, bool]:
        """The signal that has come to any process, and whether any has not saved for so long."""
        number = self._stop.number if self._stop is not None else 0
        is_due = time.monotonic() - self._saved_s >= after_s
        if trainer.world_size > 1:  # clocks differ, and all must do the same
            # not in 64 bits, which Ascend's library sums but slowly, if at all
            told = torch.tensor(
                [number, int(is_due)], dtype=torch.int32, device=trainer.strategy.root_device
            )
            torch.distributed.all_reduce(told, op=torch.distributed.ReduceOp.MAX)
            number, is_due = int(told[0]), bool(told[1])
        return number, is_due

    def _save(self, trainer: Any) -> None:
        trainer.save_checkpoint(self._place.folder / _LAST)
        self._saved_s = time.monotonic()

    def on_save_checkpoint(self, trainer: Any, module: Any, checkpoint: dict[str, Any]) -> None:
        """What the state is of, and the generators of random numbers."""
        checkpoint[_KEY] = {
            "identity": self._place.identity,
            "facts": dict(self._place.facts),
            "num_batches": self._num_batches,
            "random": _random_state(kind_of(trainer.strategy.root_device)),
        }

    def on_load_checkpoint(self, trainer: Any, module: Any, checkpoint: dict[str, Any]) -> None:
        """Go on with the generators where they were."""
        self._num_batches = checkpoint[_KEY]["num_batches"]
        _set_random_state(checkpoint[_KEY]["random"], kind_of(trainer.strategy.root_device))


def find_state(place: Checkpoints) -> State | None:
    """The newest whole state of this very training, the same on every process; None where there is
    none. What is damaged, or of other settings, is said and left behind.
    """
    return agree(_find_state(place) if read_world().rank == 0 else None)


def _find_state(place: Checkpoints) -> State | None:
    for name in (_LAST, _PREVIOUS):
        path = place.folder / name
        if not path.exists():
            continue
        try:
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)[_KEY]
            state = State(path, int(found["num_batches"]), dict(found["facts"]))
            identity = found["identity"]
        except Exception:  # whatever a damaged file makes of the reader
            log(f"  {path} is damaged: training does not go on from it", style="yellow")
            continue
        if identity == place.identity:
            return state
        log(f"  {path} is of other settings: training does not go on from it", style="yellow")
    return None


def _random_state(kind: DeviceKind) -> dict[str, object]:
    algorithm, keys, *place = np.random.get_state()  # noqa: NPY002 - the global one
    state: dict[str, object] = {
        "torch": torch.get_rng_state(),
        "numpy": [
            str(algorithm),
            torch.from_numpy(np.asarray(keys).astype(np.int64)),
            *map(float, place),
        ],
        "python": random.getstate(),
    }
    of_device = kind.random_state()
    if of_device is not None:
        state[kind.name] = of_device
    return state


def _set_random_state(state: Mapping[str, Any], kind: DeviceKind) -> None:
    torch.set_rng_state(state["torch"])
    algorithm, keys, place, has_gauss, gauss = state["numpy"]
    words = keys.numpy().astype(np.uint32)
    np.random.set_state((algorithm, words, int(place), int(has_gauss), gauss))  # noqa: NPY002
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    if kind.name in state:  # not where the training began on a device of another kind
        kind.set_random_state(state[kind.name])
