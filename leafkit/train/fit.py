"""The only place that builds a Trainer: one process or many, CPU or GPU, from the environment."""

from __future__ import annotations

import logging
import math
import secrets
import signal
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.strategies import DDPStrategy, Strategy

from leafkit.config import STRATEGIES
from leafkit.core.console import Bar, log, progress_bar
from leafkit.core.devices import kind_of
from leafkit.core.errors import UsageError
from leafkit.core.process.stop_signals import wait_with_stops
from leafkit.core.system import release_memory
from leafkit.models.text_encoder import TextEncoder
from leafkit.train.batch_data import PassLoader
from leafkit.train.batch_list import BatchList
from leafkit.train.devices.npu import NpuAccelerator, npu_precision, npu_strategy
from leafkit.train.devices.sharded import ShardedStrategy
from leafkit.train.encoder_module import EncoderModule
from leafkit.train.freed_memory import give_back_on_growth
from leafkit.train.launch import LaunchEnvironment
from leafkit.train.resume import DurableIO, SaveState, find_state
from leafkit.train.trainer_options import METRICS_FILE, TrainerOptions
from leafkit.train.world import World, read_world

_RECENT_BATCHES = 20  # whose mean loss the progress bar shows
_ROWS_PER_LOG = 50  # of the curve that loggers get, at least, of however few steps


class _ShowProgress(Callback):
    """Advances a bar by one batch and shows the loss."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar

    def on_train_batch_end(  # noqa: PLR0917 - Lightning's signature
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        recent = module.losses[-_RECENT_BATCHES:]  # none of the first batch on a GPU
        self._bar.advance(1, f"loss {sum(recent) / len(recent):.4f}" if recent else "")


def fit(
    module: EncoderModule,
    batches: BatchList,
    *,
    title: str,
    device: torch.device,
    precision: torch.dtype,
    seed: int,
    metrics: dict[str, Any] | None = None,
    options: TrainerOptions | None = None,
) -> list[float]:
    """Train on every batch once, in order, and return the loss of each (of the global batch).

    Args:
        module: the method; its encoder is trained in place and left on the CPU, in evaluation mode.
        batches: this process's shares.
        title: what the progress bar says.
        device: from ``choose_device``.
        precision: torch.bfloat16 runs under autocast, weights stay float32.
        seed: of everything random inside training.
        metrics: of the step; gets, under "loader", how long the model waited for its batches.
        options: loggers, callbacks, strategy and gradient accumulation; None takes the defaults.

    Raises:
        LeafkitError: a loss or gradient is not finite.
        UsageError: the options cannot be had on this device or in this launch.
    """
    options = options or TrainerOptions()
    world = read_world()
    if options.strategy == "fsdp" and not isinstance(module.encoder, TextEncoder):
        log(f"  {title}: a table of vectors is small, ddp stands in for trainer.strategy=fsdp")
        options = replace(options, strategy="ddp")
    batches = batches.accumulated(options.accumulate_grad_batches)
    num_steps = math.ceil(len(batches) / options.accumulate_grad_batches)
    if module.num_steps is None:
        module.num_steps = num_steps
    lightning.seed_everything(seed, workers=True, verbose=False)
    for name in ("lightning.pytorch", "lightning.fabric"):
        # what it says of devices is said in our own words
        logging.getLogger(name).setLevel(logging.WARNING)
    place = options.checkpoints
    begun = find_state(place) if place is not None else None
    if begun is not None:
        log(f"  {title}: goes on after {begun.num_batches:,} of {len(batches):,} batches")
        _set_aside_metrics(options, begun.num_batches)
    num_left = len(batches) - (begun.num_batches if begun is not None else 0)
    with progress_bar(title, num_left, "steps") as bar, warnings.catch_warnings():
        # Lightning's hints about loaders and batch sizes do not fit lists of batches
        warnings.simplefilter("ignore")
        trainer = build_trainer(num_steps, device, precision, world=world, options=options)
        trainer.callbacks += [_ShowProgress(bar), *give_back_on_growth()]
        before_s, started_s = batches.waited_s, time.perf_counter()
        loader = PassLoader(len(batches), lambda epoch: batches)
        with _stopping_well(trainer, options):
            trainer.fit(module, loader, ckpt_path=begun.path if begun is not None else None)
        waited_s, training_s = batches.waited_s - before_s, time.perf_counter() - started_s
    log(
        f"  loader: the model waited {waited_s / training_s:.1%} of {training_s:.0f} s", style="dim"
    )
    if metrics is not None:
        add_loader(metrics, waited_s, training_s)
    module.zero_grad(set_to_none=True)
    # module and trainer know each other, so their memory would stay a while
    trainer.strategy.optimizers = []
    release_memory()
    module.encoder.to("cpu").eval()
    return module.losses


@contextmanager
def _stopping_well(trainer: lightning.Trainer, options: TrainerOptions) -> Iterator[None]:
    """A training whose state is kept, and whose Ctrl-C is one."""
    on_interrupt, place = signal.getsignal(signal.SIGINT), options.checkpoints
    with wait_with_stops() if place is not None else nullcontext() as stop:
        if place is not None:
            trainer.callbacks.append(SaveState(place, stop, options.accumulate_grad_batches))
        try:
            yield
        except SystemExit as ended:
            # Lightning ends Ctrl-C with exit status 1 and ignores SIGINT from then on
            signal.signal(signal.SIGINT, on_interrupt)
            raise KeyboardInterrupt from ended


def _set_aside_metrics(options: TrainerOptions, num_batches: int) -> None:
    """Keep what a csv logger has written of a training that goes on: Lightning's deletes it."""
    for logger in options.loggers:
        if isinstance(logger, CSVLogger) and read_world().rank == 0:
            written = Path(logger.log_dir) / METRICS_FILE
            if written.is_file():
                written.replace(written.with_name(f"metrics_before_{num_batches}.csv"))


def add_loader(metrics: dict[str, Any], waited_s: float, training_s: float) -> None:
    """Put how long the model waited for its loader into a step's metrics; the phases of a step
    add up.

    >>> metrics = {}
    >>> add_loader(metrics, 1.0, 10.0)
    >>> add_loader(metrics, 2.0, 10.0)
    >>> metrics["loader"]
    {'waited_s': 3.0, 'training_s': 20.0, 'share': 0.15}
    """
    before = metrics.get("loader", {"waited_s": 0.0, "training_s": 0.0})
    waited_s, training_s = before["waited_s"] + waited_s, before["training_s"] + training_s
    metrics["loader"] = {
        "waited_s": waited_s,
        "training_s": training_s,
        "share": waited_s / training_s,
    }


def build_trainer(
    num_steps: int,
    device: torch.device,
    precision: torch.dtype,
    *,
    world: World,
    options: TrainerOptions,
) -> lightning.Trainer:
    """A Trainer of one pass, without checkpoints or samplers of its own.

    Raises:
        UsageError: a device or a strategy that is not supported.
    """
    kind = kind_of(device)
    plugins: list[Any] = [LaunchEnvironment(world), DurableIO(kind)]
    if not kind.lightning:
        plugins.append(npu_precision(precision))
    trainer = lightning.Trainer(
        accelerator=kind.lightning or NpuAccelerator(),
        devices=world.num_local,
        num_nodes=world.num_nodes,
        strategy=_choose_strategy(options.strategy, device, world),
        plugins=plugins,
        # out of any other folder it would load a hpc_ckpt_N.ckpt that lies there, whatever it is of
        default_root_dir=Path(tempfile.gettempdir()) / f"leafkit-{secrets.token_hex(8)}",
        precision=_name_precision(precision) if kind.lightning else None,
        max_steps=num_steps,
        max_epochs=1,
        accumulate_grad_batches=options.accumulate_grad_batches,
        log_every_n_steps=max(1, min(50, num_steps // _ROWS_PER_LOG)),
        callbacks=list(options.callbacks),
        logger=list(options.loggers) or False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        inference_mode=False,
    )
    # Lightning's SIGTERM handler broadcasts to the other processes from within, which may hang, and
    # the command's own one ends it
    trainer._signal_connector.register_signal_handlers = _keep_signal_handlers
    return trainer


def _name_precision(precision: torch.dtype) -> str:
    return "bf16-mixed" if precision == torch.bfloat16 else "32-true"


def _keep_signal_handlers() -> None:
    """In place of Lightning's registration."""


def _choose_strategy(strategy: str | Strategy, device: torch.device, world: World) -> Any:
    """The strategy of this launch.

    Raises:
        UsageError: it is not known, or not for this device, or needs more processes than there are.
    """
    if isinstance(strategy, Strategy):
        return strategy
    if strategy not in STRATEGIES:
        raise UsageError(
            f"trainer.strategy={strategy} is not supported", f"one of {', '.join(STRATEGIES)}"
        )
    kind = kind_of(device)
    if strategy != "auto" and world.size == 1:
        raise UsageError(
            f"trainer.strategy={strategy} and this launch has one process",
            "torchrun --nproc-per-node=N -m leafkit.cli ..., or trainer.strategy=auto",
        )
    if strategy == "fsdp":
        if not kind.lightning:
            raise UsageError(
                f"trainer.strategy=fsdp is not for {kind.title}s",
                "trainer.strategy=ddp; where memory is short: gradient_checkpointing, "
                "chunk_tokens, accumulate_grad_batches or lora",
            )
        return ShardedStrategy(world.size, kind.backend)
    if world.size > 1 and kind.lightning:
        return DDPStrategy(process_group_backend=kind.backend)
    return "auto" if kind.lightning else npu_strategy(world.size)
