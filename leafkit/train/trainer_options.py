"""What a run asks of the Trainer beside the method: loggers, callbacks, strategy, accumulation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from lightning.pytorch.callbacks import Callback, DeviceStatsMonitor, LearningRateMonitor
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.strategies import Strategy

from leafkit.config import TrainerConfig
from leafkit.core.errors import MissingExtra
from leafkit.train.resume import Checkpoints

# a recipe comes from anywhere, so it names callbacks and loggers out of these lists alone
_CALLBACKS: dict[str, Callable[[], Callback]] = {
    "lr_monitor": lambda: LearningRateMonitor("step"),
    "device_stats": lambda: DeviceStatsMonitor(cpu_stats=True),
}
METRICS_FILE = "metrics.csv"  # Lightning's name of what the csv logger writes
# modules of which one must be there, and the extra that brings it
_NEEDED_MODULES = {
    "tensorboard": (("tensorboard", "tensorboardX"), "tensorboard"),
    "wandb": (("wandb",), "wandb"),
    "device_stats": (("psutil",), "monitor"),
}


@dataclass(frozen=True, slots=True)
class TrainerOptions:
    """Lightning's own objects, passed through to the Trainer that ``fit`` builds.

    Attributes:
        loggers: get ``train/loss``, ``train/lr`` and ``train/grad_norm``; none by default.
        callbacks: beside the progress bar.
        strategy: auto, ddp, fsdp or a Lightning strategy; auto takes DDP where several processes
            were launched.
        accumulate_grad_batches: batches per optimizer step.
        checkpoints: where the training's state is kept while it runs; None keeps none, and a
            training that is cut short begins anew.
    """

    loggers: Sequence[Logger] = ()
    callbacks: Sequence[Callback] = ()
    strategy: str | Strategy = "auto"
    accumulate_grad_batches: int = 1
    checkpoints: Checkpoints | None = None


def default_options(training: str) -> TrainerOptions:
    """No loggers and callbacks, one batch per step, whatever is trained."""
    return TrainerOptions()


def make_options(settings: TrainerConfig, folder: Path) -> TrainerOptions:
    """The objects that a recipe's ``trainer`` section names.

    Args:
        settings: the section, validated.
        folder: where loggers write; made when the first of them does.

    Raises:
        MissingExtra: a logger or callback needs a package that is not installed.
    """
    for name in (*settings.loggers, *settings.callbacks):
        _require(name)
    return TrainerOptions(
        loggers=[_make_logger(name, folder) for name in settings.loggers],
        callbacks=[_CALLBACKS[name]() for name in settings.callbacks],
        strategy=settings.strategy,
        accumulate_grad_batches=settings.accumulate_grad_batches,
    )


def _require(name: str) -> None:
    modules, extra = _NEEDED_MODULES.get(name, ((), ""))
    if modules and not any(find_spec(module) for module in modules):
        raise MissingExtra(modules[0], extra, f"{name} of the trainer section")


def _make_logger(name: str, folder: Path) -> Logger:
    if name == "csv":
        # metrics.csv directly in the folder, which belongs to this training alone
        return CSVLogger(folder.parent, name=folder.name, version="")
    if name == "tensorboard":
        return TensorBoardLogger(folder.parent, name=folder.name, version="")
    return WandbLogger(save_dir=folder, project="leafkit")
