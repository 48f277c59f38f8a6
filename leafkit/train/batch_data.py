"""What the data modules share: passes of equal length, shared among processes, that can resume."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import lightning

from leafkit.core.errors import UsageError
from leafkit.train.batch_list import BatchList


class PassLoader:
    """The loader that a data module gives to Lightning: one pass after the other.

    Its state is the pass and how many of its batches were given out, so a run that resumes from a
    checkpoint gets exactly the batches that it has not had.

    Args:
        num_batches: of every pass.
        make_pass: the batches of a pass, counted from 0.
    """

    def __init__(self, num_batches: int, make_pass: Callable[[int], BatchList]) -> None:
        self._num_batches, self._make_pass = num_batches, make_pass
        self._epoch = self._start = self._given = 0

    @property
    def sampler(self) -> PassLoader:
        """Where Lightning looks for ``set_epoch``."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Go to a pass; Lightning says which before each one."""
        if epoch != self._epoch:
            self._epoch, self._start = epoch, 0

    def __len__(self) -> int:
        return self._num_batches

    def __iter__(self) -> Iterator[Any]:
        batches, start = self._make_pass(self._epoch), self._start
        self._start = 0
        with batches.made_ahead():
            for index in range(start, len(batches)):
                self._given = index + 1
                yield batches[index]

    def state_dict(self) -> dict[str, int]:
        """Pass and batches given out of it."""
        return {"epoch": self._epoch, "given": self._given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on behind the batches that a checkpoint has seen."""
        self._epoch, self._start = state["epoch"], state["given"]
        self._given = state["given"]


class BatchData(lightning.LightningDataModule):
    """Batches for an ``EncoderModule`` in any Trainer; a subclass plans a pass as a ``BatchList``.

    Every pass has the same number of batches, on every process; each process encodes its share of
    every batch, so Lightning must not shard them a second time (it does not: they are no
    DataLoader).
    """

    num_batches: int  # of a pass; known after ``setup``

    @abstractmethod
    def make_pass(self, epoch: int) -> BatchList:
        """The batches of a pass, this process's share of each; a pure function of the seed."""

    def train_dataloader(self) -> PassLoader:
        """All passes, weighted for the Trainer's accumulation of gradients.

        Raises:
            UsageError: the Trainer reloads its loaders, which would forget the pass.
        """
        if self.trainer.reload_dataloaders_every_n_epochs:
            raise UsageError(
                "Trainer(reload_dataloaders_every_n_epochs=...) has no use here: every pass is "
                "planned anew",
                "leave it out",
            )
        accumulate = self.trainer.accumulate_grad_batches
        return PassLoader(
            self.num_batches, lambda epoch: self.make_pass(epoch).accumulated(accumulate)
        )

    def count_steps(self) -> int:
        """Optimizer steps of the training, from its batches and the Trainer's settings.

        Raises:
            UsageError: the Trainer has no end.
        """
        trainer = self.trainer
        limit = trainer.limit_train_batches
        per_pass = min(self.num_batches, limit if isinstance(limit, int) else self.num_batches)
        if isinstance(limit, float):
            per_pass = int(self.num_batches * limit)
        steps_per_pass = math.ceil(per_pass / trainer.accumulate_grad_batches)
        ends = []
        if trainer.max_epochs is not None and trainer.max_epochs > 0:
            ends.append(steps_per_pass * trainer.max_epochs)
        if trainer.max_steps > 0:
            ends.append(trainer.max_steps)
        if not ends:
            raise UsageError(
                "the learning rate falls over the whole training, and this Trainer has no end",
                "Trainer(max_epochs=N) or Trainer(max_steps=N)",
            )
        return max(1, min(ends))
