"""``leafkit teach WORDS`` whose trainings hold weights, gradients and moments in float64: two ways
of training that differ in float32, and here do not, differ by rounding.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any
from unittest import mock

import torch
from lightning.pytorch.callbacks import Callback

from leafkit.cli.main import main
from leafkit.pipeline.training_logs import recipe_options
from leafkit.train.trainer_options import TrainerOptions


class InDouble(Callback):
    """The encoder in float64 while it trains: from before its weights are shared out until they are
    gathered. Pooled states and the loss stay in float32, where equal weights give equal bits.
    """

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        pl_module.encoder.double()

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        trained = [weight for weight in pl_module.parameters() if weight.grad is not None]
        assert {w.dtype for w in trained} | {w.grad.dtype for w in trained} == {torch.float64}

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        pl_module.encoder.float()


def options_in_double(*args: Any, **settings: Any) -> TrainerOptions:
    found = recipe_options(*args, **settings)
    return replace(found, callbacks=[*found.callbacks, InDouble()])


if __name__ == "__main__":
    with mock.patch("leafkit.pipeline.teacher.teach.recipe_options", options_in_double):
        sys.exit(main(["teach", *sys.argv[1:]]))
