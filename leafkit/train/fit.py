"""The only place that builds a Trainer: one process or many, CPU, GPU or NPU, from the environment."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins.environments import (
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from lightning.pytorch.strategies import DDPStrategy
from torch.utils.data import DataLoader, Dataset

from leafkit.core.console import Bar, log, progress_bar
from leafkit.core.errors import UsageError
from leafkit.core.system import release_memory
from leafkit.train.lightning_modules import ContrastiveModule, LeafModule


@dataclass(frozen=True, slots=True)
class World:
    """The processes of this launch, as torchrun or SLURM says."""

    rank: int
    size: int
    num_local: int

    @property
    def local_rank(self) -> int:
        """Number of this process on its node, and so of its GPU."""
        return self.rank % self.num_local

    @property
    def num_nodes(self) -> int:
        return max(1, self.size // self.num_local)


def read_world() -> World:
    """Rank and sizes from torchrun's or SLURM's variables; one process without them."""
    env = os.environ
    if "WORLD_SIZE" in env and "RANK" in env:
        size = int(env["WORLD_SIZE"])
        return World(int(env["RANK"]), size, int(env.get("LOCAL_WORLD_SIZE", size)))
    if (
        "SLURM_NTASKS" in env
        and "SLURM_PROCID" in env
        and env.get("SLURM_JOB_NAME") not in {"bash", "interactive"}
    ):
        size = int(env["SLURM_NTASKS"])
        return World(int(env["SLURM_PROCID"]), size, size // int(env.get("SLURM_NNODES", "1")))
    return World(0, 1, 1)


class BatchList(Dataset[Any]):
    """Batches made on demand: item i is this process's share of global batch i. A pure function, so
    runs can resume.

    Attributes:
        waited_s: seconds that asking for batches took so far; the model waits meanwhile.
    """

    def __init__(self, num_batches: int, make: Callable[[int], Any]) -> None:
        self._num_batches, self._make = num_batches, make
        self._thread: ThreadPoolExecutor | None = None
        self._next: tuple[int, Future[Any]] | None = None
        self.waited_s = 0.0

    def __len__(self) -> int:
        return self._num_batches

    def __getitem__(self, index: int) -> Any:
        started_s = time.perf_counter()
        ready = self._next[1] if self._next is not None and self._next[0] == index else None
        batch = ready.result() if ready is not None else self._make(index)
        self._next = None
        if self._thread is not None and index + 1 < len(self):
            self._next = index + 1, self._thread.submit(self._make, index + 1)
        self.waited_s += time.perf_counter() - started_s
        return batch

    @contextlib.contextmanager
    def made_ahead(self) -> Iterator[None]:
        """Within it one thread makes the batch after the one that was asked for, so that the model
        need not wait for it.

        Making a batch should read with numpy: a torch operation large enough for several threads
        starts a team of its own beside the model's, and training took 1.2 times as long on two
        cores.
        """
        with ThreadPoolExecutor(1, "batches") as self._thread:
            try:
                yield
            finally:
                self._thread.shutdown(wait=True, cancel_futures=True)
                self._thread = self._next = None


class _ShowProgress(Callback):
    """Advances a bar by one step and shows the loss."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        recent = module.losses[-20:]
        self._bar.advance(1, f"loss {sum(recent) / len(recent):.4f}")


def fit(
    module: LeafModule | ContrastiveModule,
    batches: BatchList,
    title: str,
    device: torch.device,
    precision: torch.dtype,
    seed: int,
    metrics: dict[str, Any] | None = None,
) -> list[float]:
    """Train on every batch once, in order, and return the loss of each step (of the global batch).

    Args:
        module: the method; its encoder is trained in place and left on the CPU, in evaluation mode.
        batches: this process's shares.
        title: what the progress bar says.
        device: from ``choose_device``.
        precision: torch.bfloat16 runs under autocast, weights stay float32.
        seed: of everything random inside training.
        metrics: of the stage; gets, under "loader", how long the model waited for its batches.

    Raises:
        LeafkitError: a loss or gradient is not finite.
    """
    world = read_world()
    lightning.seed_everything(seed, workers=True, verbose=False)
    module.encoder.disable_dropout()
    for name in ("lightning.pytorch", "lightning.fabric"):
        # what it says of devices is said in our own words
        logging.getLogger(name).setLevel(logging.WARNING)
    with progress_bar(title, len(batches), "steps") as bar, warnings.catch_warnings():
        # Lightning's hints about loaders and batch sizes do not fit lists of batches
        warnings.simplefilter("ignore")
        trainer = build_trainer(len(batches), device, precision, world, [_ShowProgress(bar)])
        loader = DataLoader(batches, batch_size=None, shuffle=False, num_workers=0)
        on_interrupt = signal.getsignal(signal.SIGINT)
        before_s, started_s = batches.waited_s, time.perf_counter()
        try:
            with batches.made_ahead():
                trainer.fit(module, loader)
        except SystemExit as stop:
            # Lightning ends Ctrl-C with exit status 1 and ignores SIGINT from then on
            signal.signal(signal.SIGINT, on_interrupt)
            raise KeyboardInterrupt from stop
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


def add_loader(metrics: dict[str, Any], waited_s: float, training_s: float) -> None:
    """Put how long the model waited for its loader into a stage's metrics; the phases of a stage
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
    world: World,
    callbacks: Sequence[Callback],
) -> lightning.Trainer:
    """A Trainer without loggers, checkpoints or samplers of its own.

    Raises:
        UsageError: several processes on a device whose strategy is not supported.
    """
    if device.type == "npu":
        raise UsageError(
            "training on an NPU is not part of this version", "device=cpu or device=cuda"
        )
    strategy: Any = "auto"
    plugins: list[Any] = []
    if world.size > 1:
        environment = (
            TorchElasticEnvironment() if TorchElasticEnvironment.detect() else SLURMEnvironment()
        )
        plugins.append(environment)
        strategy = DDPStrategy(process_group_backend="nccl" if device.type == "cuda" else "gloo")
    else:
        plugins.append(LightningEnvironment())
    return lightning.Trainer(
        accelerator={"cuda": "gpu"}.get(device.type, device.type),
        devices=world.num_local,
        num_nodes=world.num_nodes,
        strategy=strategy,
        plugins=plugins,
        precision="bf16-mixed" if precision == torch.bfloat16 else "32-true",
        max_steps=num_steps,
        max_epochs=1,
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        inference_mode=False,
    )
