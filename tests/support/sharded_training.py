"""Trainings whose weights are shared out among processes, and the same ones whole. Run by two
processes (``python sharded_training.py FOLDER``), each writes what it computed.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import contrastive_case
import numpy as np
import tiny
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import ModelParallelStrategy, Strategy

from leafkit.config import OptimizerConfig
from leafkit.core.process.stop_signals import Terminated, stop_signals
from leafkit.data.batching import share_of_rank
from leafkit.embedders.transformer import TransformerEmbedder
from leafkit.models.configure import enable_gradient_checkpointing
from leafkit.models.lora import add_adapters, merge_adapters
from leafkit.models.text_encoder import TextEncoder
from leafkit.models.tiny import tiny_encoder
from leafkit.train.batch_list import BatchList
from leafkit.train.contrastive_module import ContrastiveModule
from leafkit.train.encoder_module import EncoderModule
from leafkit.train.fit import fit
from leafkit.train.keep_best import KeepBest
from leafkit.train.launch import join_processes
from leafkit.train.leaf_module import LeafBatch, LeafModule
from leafkit.train.resume import Checkpoints
from leafkit.train.trainer_options import TrainerOptions
from leafkit.train.weight_average import WeightAverage
from leafkit.train.world import read_world

NUM_BATCHES, ROWS = 6, 7  # two processes get three and four
STOP_AT = 2  # the batch during which a training is stopped
OPTIMIZER = OptimizerConfig(lr=1e-3, warmup_ratio=0.2, max_grad_norm=0.5)
TEXTS = [document for _, document in tiny.make_pairs(NUM_BATCHES * ROWS)]
# method, architecture, settings
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "leaf, bert": ("leaf", "bert", {}),
    "leaf, qwen2": ("leaf", "qwen2", {}),
    "leaf, mistral, recomputed": ("leaf", "mistral", {"recomputes": True}),
    "leaf, mpnet": ("leaf", "mpnet", {}),
    "leaf, bert, accumulated": ("leaf", "bert", {"accumulate": 2}),
    "leaf, bert, bf16, recomputed": (
        "leaf",
        "bert",
        {"precision": torch.bfloat16, "recomputes": True},
    ),
    "leaf, bert, checked": ("leaf", "bert", {"is_checked": True}),
    "contrastive, qwen2": ("contrastive", "qwen2", {}),
    "contrastive, bert, chunks": ("contrastive", "bert", {"chunk_tokens": 40}),
    "contrastive, mistral, chunks, recomputed": (
        "contrastive",
        "mistral",
        {"chunk_tokens": 60, "recomputes": True},
    ),
    "contrastive, mistral, lora, chunks": (
        "contrastive",
        "mistral",
        {"chunk_tokens": 60, "has_adapters": True},
    ),
}
OWN = "leaf, bert: a strategy of the user's own"
STOPPED = ["leaf, bert, checked", "contrastive, mistral, lora, chunks"]


class Seen(Callback):
    """What each process holds of the weights, and how often a layer was computed."""

    def __init__(self) -> None:
        self.num_held, self.num_weights = 0, 0

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        self.num_weights = sum(w.numel() for w in module.parameters())
        self.num_held = sum(
            (w.to_local() if hasattr(w, "to_local") else w).numel() for w in module.parameters()
        )


class Stop(Callback):
    """A signal comes to the first process in the middle of the training."""

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == STOP_AT and read_world().rank == 0:
            os.kill(os.getpid(), signal.SIGTERM)


def make_encoder(architecture: str, recomputes: bool) -> TextEncoder:
    encoder = tiny_encoder(architecture, tiny.make_tokenizer(), seed=1, max_tokens=64)
    if recomputes:
        enable_gradient_checkpointing(encoder)
    return encoder


def leaf_batches(encoder: TextEncoder) -> BatchList:
    world = read_world()
    targets = torch.randn(len(TEXTS), encoder.dim, generator=torch.Generator().manual_seed(0))
    targets = torch.nn.functional.normalize(targets, dim=1)
    token_ids = encoder.tokenize(TEXTS, "document")

    def make(step: int) -> LeafBatch:
        rows = np.arange(ROWS * step, ROWS * (step + 1))
        mine = share_of_rank(rows, world.rank, world.size)
        return LeafBatch([token_ids[i] for i in mine], targets[mine], ROWS)

    return BatchList(NUM_BATCHES, make, rows=[ROWS] * NUM_BATCHES)


def contrastive_batches(encoder: TextEncoder) -> BatchList:
    world, num_steps = read_world(), len(contrastive_case.BATCHES)

    def make(step: int) -> object:
        return contrastive_case.make_batch(encoder, "full", step, world.rank, world.size)

    return BatchList(num_steps, make, rows=[8] * num_steps)


def make_module(case: str, encoder: TextEncoder) -> tuple[EncoderModule, BatchList]:
    method, _, settings = CASES[case]
    if method == "leaf":
        return LeafModule(encoder, OPTIMIZER), leaf_batches(encoder)
    chosen = contrastive_case.CASES["full"]
    module = ContrastiveModule(
        encoder,
        OPTIMIZER,
        replace(chosen.loss, mrl_dims=[encoder.dim, encoder.dim // 2]),
        soft_labels=chosen.soft_labels,
        mixing=chosen.mixing,
        chunk_tokens=settings.get("chunk_tokens", 0),
    )
    return module, contrastive_batches(encoder)


def checks_of(encoder: TextEncoder, precision: torch.dtype) -> list[Callback]:
    """An average of the weights, and checks of it; the encoder is the one that was given."""
    ids = encoder.tokenize(TEXTS[:5], "document")

    def measure() -> Level:
        vectors = TransformerEmbedder(encoder, torch.device("cpu"), precision).embed_ids(ids)
        return Level(-abs(float(vectors[:, 0].mean()) + 0.042))  # the best is not the last

    average = WeightAverage(encoder, 0.5)
    pack = {"pack": float, "unpack": Level}
    return [average, KeepBest(encoder, measure, NUM_BATCHES, 3, average=average, **pack)]


class Level(float):
    """A figure, of which more is better."""

    def is_better(self, other: Level) -> bool:
        return self > other


def train(
    case: str,
    strategy: str | Strategy,
    place: Path | None = None,
    extra: Sequence[Callback] = (),
) -> dict[str, Any]:
    """Losses, the weights that are left, and what was held."""
    _, architecture, settings = CASES[case]
    encoder = make_encoder(architecture, settings.get("recomputes", False))
    if settings.get("has_adapters"):
        add_adapters(encoder, 4, 8.0, ["q_proj", "down_proj"], seed=0)
    module, batches = make_module(case, encoder)
    seen, precision = Seen(), settings.get("precision", torch.float32)
    checks = checks_of(encoder, precision) if settings.get("is_checked") else []
    options = TrainerOptions(
        strategy=strategy,
        callbacks=[*checks, seen, *extra],
        accumulate_grad_batches=settings.get("accumulate", 1),
        checkpoints=None if place is None else Checkpoints(place, case, 1e9),
    )
    losses = fit(
        module,
        batches,
        title="test",
        device=torch.device("cpu"),
        precision=precision,
        seed=7,
        options=options,
    )
    found: dict[str, Any] = {"losses": losses, "held": [seen.num_held, seen.num_weights]}
    if checks:
        average, best = checks
        found["checks"] = [(done, float(level)) for done, level in best.checks]
        average.keep()
        found["average"] = flat(encoder)
        best.restore()
    if settings.get("has_adapters"):
        merge_adapters(encoder)
    assert module.encoder is encoder
    assert type(encoder) is TextEncoder
    return found | {"weights": flat(encoder)}


def flat(encoder: TextEncoder) -> torch.Tensor:
    return torch.cat([weight.detach().flatten() for weight in encoder.parameters()])


def main(folder: Path) -> None:
    join_processes("cpu")
    found = {
        f"{case}: {strategy}": train(case, strategy)
        for case in CASES
        for strategy in ("ddp", "fsdp")
    }
    own = ModelParallelStrategy(read_world().size, 1, process_group_backend="gloo")
    found[OWN] = train("leaf, bert", own)
    for case in STOPPED:
        place = folder / case
        try:
            with stop_signals():
                train(case, "fsdp", place, [Stop()])
        except Terminated:
            found |= {f"{case}: {s}, again": train(case, s, place) for s in ("fsdp", "ddp")}
    torch.save(found, folder / f"{read_world().rank}.pt")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
