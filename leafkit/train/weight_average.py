"""An exponential moving average of an encoder's weights while it trains."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback
from torch import nn

from leafkit.train.devices.sharded import share_like, whole
from leafkit.train.encoder_module import EncoderModule


class WeightAverage(Callback):
    """Averages the trained weights after every optimizer step.

        average <- d_t average + (1 - d_t) weights,    d_t = min(decay, (1 + t) / (10 + t))

    of step t = 1, 2, ...: the first steps count more than ``decay`` would let them, so that a short
    training does not end near its start. Every process averages for itself, over the same weights.

    Args:
        encoder: in training.
        decay: between 0 and 1.
    """

    def __init__(self, encoder: nn.Module, decay: float) -> None:
        self._encoder, self._decay = encoder, decay
        self._trained: Any = encoder  # or its shares
        self._average: list[torch.Tensor] = []
        self._steps = 0

    def on_fit_start(self, trainer: Any, module: Any) -> None:
        """The start is the first average, unless the training goes on with one."""
        if isinstance(module, EncoderModule):
            self._trained = module.encoder
        weights = self._weights()
        if self._average:
            pairs = zip(self._average, weights, strict=True)
            self._average = [
                share_like(average.to(weight.device), weight) for average, weight in pairs
            ]
            return
        self._average = [weight.detach().clone() for weight in weights]
        self._steps = 0

    def on_train_batch_end(  # noqa: PLR0917 - Lightning's signature
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take the weights in where the batch ended an optimizer step."""
        if trainer.global_step == self._steps:
            return
        self._steps = trainer.global_step
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        for average, weight in zip(self._average, self._weights(), strict=True):
            average.lerp_(weight.detach(), 1 - decay)

    def on_fit_end(self, trainer: Any, module: Any) -> None:
        """Nothing trains any more: the average is for the encoder itself, gathered."""
        self._average = [whole(average, in_memory=True) for average in self._average]
        self._trained = self._encoder

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The encoder with the average, for as long as it is looked at."""
        trained = [weight.detach().clone() for weight in self._weights()]
        self._give(self._average)
        try:
            yield
        finally:
            self._give(trained)

    def keep(self) -> None:
        """Give the encoder the average for good."""
        self._give(self._average)
        self._average = []

    def state_dict(self) -> dict[str, object]:
        """The average, for a training that goes on."""
        # one by one into main memory: whole, all of them may not fit the device
        average = [whole(value, in_memory=True) for value in self._average]
        return {"average": average, "steps": self._steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with it."""
        self._average, self._steps = list(state_dict["average"]), state_dict["steps"]

    def _weights(self) -> list[nn.Parameter]:
        return [weight for weight in self._trained.parameters() if weight.requires_grad]

    def _give(self, values: list[torch.Tensor]) -> None:
        with torch.no_grad():
            for weight, value in zip(self._weights(), values, strict=True):
                weight.copy_(value)
