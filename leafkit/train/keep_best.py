"""Checks of an encoder in training; the weights of the best one are kept, and training ends where
there is no more to gain. Of a student, ``pipeline.student.validation`` chooses the texts.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Generic, Protocol, Self, TypeVar

import torch
from lightning.pytorch.callbacks import Callback
from torch import nn

from leafkit.train.encoder_module import EncoderModule
from leafkit.train.weight_average import WeightAverage


class Comparable(Protocol):
    """What a check finds."""

    def is_better(self, other: Self, /) -> bool:
        """Whether the other is to be replaced by this one."""


Found = TypeVar("Found", bound=Comparable)


class KeepBest(Callback, Generic[Found]):
    """Measures an encoder before training, every so many batches and after the last one.

    The first process decides for all: they hold the same weights, but another machine may measure
    another last digit.

    Args:
        encoder: in training.
        measure: checks it.
        num_batches: of the training.
        num_checks: at equal distances, the last one after the last batch.
        is_enough: of what was found; training ends there, or does not begin.
        patience: checks in a row without a better one, after which training ends; 0 for none.
        average: of the weights, which is measured and kept in their place; of the Trainer's
            callbacks it comes before this one.
        pack: what was found as plain values, for the training's saved state.
        unpack: the other way.

    Attributes:
        checks: (batches done, what was found), the start first.
        best: number of batches after which the encoder was best.
    """

    def __init__(
        self,
        encoder: nn.Module,
        measure: Callable[[], Found],
        num_batches: int,
        num_checks: int,
        *,
        is_enough: Callable[[Found], bool] = lambda found: False,
        patience: int = 0,
        average: WeightAverage | None = None,
        pack: Callable[[Found], Any] = lambda found: found,
        unpack: Callable[[Any], Found] = lambda plain: plain,
    ) -> None:
        self._pack, self._unpack = pack, unpack
        self._encoder, self._measure, self._average = encoder, measure, average
        self._is_enough, self._patience = is_enough, patience
        count = min(num_checks, num_batches)
        self._due = {round((i + 1) * num_batches / count) for i in range(count)}
        self.checks: list[tuple[int, Found]] = []
        self.best = 0
        self._num_batches_done = 0
        self._kept: dict[str, torch.Tensor] = {}

    def on_fit_start(self, trainer: Any, module: Any) -> None:
        """The start is the first to beat; a training that goes on has checked it, and may have
        ended early.
        """
        if self.checks:
            self._conclude(trainer)
        else:
            self._check(trainer, module, 0)

    def on_train_batch_end(  # noqa: PLR0917 - Lightning's signature
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Check where one is due."""
        self._num_batches_done = batch_idx + 1
        if batch_idx + 1 in self._due:
            self._check(trainer, module, batch_idx + 1)

    def on_train_end(self, trainer: Any, module: Any) -> None:
        """A training that another callback ended between two checks is checked where it ended."""
        if self._num_batches_done != self.num_done:
            self._check(trainer, module, self._num_batches_done)

    def restore(self) -> None:
        """Give the encoder the best weights; it holds those of the last check."""
        if self.best != self.checks[-1][0]:
            self._encoder.load_state_dict(self._kept)
        self._kept = {}

    @property
    def found_best(self) -> Found:
        """What was found of the weights that are kept."""
        return dict(self.checks)[self.best]

    @property
    def num_done(self) -> int:
        """Batches after which the last check was made."""
        return self.checks[-1][0]

    def _check(self, trainer: Any, module: Any, done: int) -> None:
        with self._average.in_place() if self._average else nullcontext():
            if isinstance(module, EncoderModule):
                module.gather()
            found = trainer.strategy.broadcast(self._measure())
            is_best = not self.checks or found.is_better(self.found_best)
            self.checks.append((done, found))
            if is_best:
                self.best = done
                self._kept = {
                    name: value.detach().to("cpu", copy=True)
                    for name, value in self._encoder.state_dict().items()
                }
        self._conclude(trainer)

    def _conclude(self, trainer: Any) -> None:
        """End the training where there is no more to gain."""
        since = [done for done, _ in self.checks].index(self.best)
        is_late = self._patience and len(self.checks) - 1 - since >= self._patience
        if is_late or self._is_enough(self.checks[-1][1]):
            trainer.should_stop = True

    def state_dict(self) -> dict[str, object]:
        """Checks and best weights, for a training that goes on."""
        return {
            "checks": [[done, self._pack(found)] for done, found in self.checks],
            "best": self.best,
            "num_batches_done": self._num_batches_done,
            "kept": self._kept,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with them."""
        self.checks = [(done, self._unpack(plain)) for done, plain in state_dict["checks"]]
        self.best, self._kept = state_dict["best"], state_dict["kept"]
        self._num_batches_done = state_dict["num_batches_done"]
