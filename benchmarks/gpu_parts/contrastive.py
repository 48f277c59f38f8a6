"""A teacher's contrastive stage at its real size: kalm-v2's first stage with GradCache."""

from __future__ import annotations

import copy
import gc
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from gpu_parts.arithmetic import peak_tflops, share_of_peak, training_flops
from gpu_parts.loop import StepClock, run_fit
from gpu_parts.made import (
    device_of,
    make_ids,
    make_lengths,
    make_qwen2,
    peak_gib,
)
from gpu_parts.part import Emit, Part, Row, Setting, Verdict, at_least
from leafkit.config import ContrastiveLossConfig, MixingConfig, StageConfig
from leafkit.config.load import load_recipe
from leafkit.core.devices import kind_of
from leafkit.train.batch_list import BatchList
from leafkit.train.contrastive_batch import TrainingTable, collate
from leafkit.train.contrastive_module import ContrastiveModule

NUM_STEPS, NUM_WARM = 20, 4
QUERY_MEDIAN, DOCUMENT_MEDIAN = 16, 120
_FEWEST_CHUNK_TOKENS = 4096
_TOLD_EVERY = 4  # steps


class _Progress(StepClock):
    """Says how far it is, so that a training that is cut short leaves figures."""

    def __init__(self, device: torch.device, num_warm: int, tell: Any) -> None:
        super().__init__(device, num_warm)
        self._tell = tell

    def on_train_batch_end(  # noqa: PLR0917 - Lightning's signature
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        super().on_train_batch_end(trainer, module, outputs, batch, batch_idx)
        if self.num_steps and self.num_steps % _TOLD_EVERY == 0:
            self.on_train_end(trainer, module)  # waits for the device: once in a few long steps
            self._tell(self.num_steps, self.seconds)


def make_table(num_rows: int, size: int, limits: tuple[int, int]) -> TrainingTable:
    """Rows of made token ids, a document of its own each.

    Args:
        num_rows: rows.
        size: of the vocabulary.
        limits: most tokens of queries and documents.
    """
    nothing = np.zeros(0, dtype=np.int64)
    places = np.arange(num_rows)
    return TrainingTable(
        queries=make_ids(make_lengths(num_rows, QUERY_MEDIAN, limits[0]), 3, size, seed=5),
        documents=make_ids(make_lengths(num_rows, DOCUMENT_MEDIAN, limits[1], 1), 3, size, seed=6),
        positives=places,
        negatives=[nothing] * num_rows,
        relevant=[places[i : i + 1] for i in range(num_rows)],
        in_batch=np.ones(num_rows, dtype=bool),
        soft=[np.zeros(0, dtype=np.float32)] * num_rows,
    )


def run(setting: Setting, emit: Emit) -> None:
    """The recipe's chunk of tokens; half of it, where the card's memory is too small for it."""
    recipe = load_recipe("kalm-v2", [])
    stage, data, encoder = recipe.stages["weak"], recipe.data, make_qwen2(setting)
    chunk, batch, loss = stage.chunk_tokens, stage.batch_size, stage.loss
    if setting.is_tiny:
        chunk, batch, loss = 256, 16, ContrastiveLossConfig(mrl_dims=[64, 32], mrl_weights=[1, 0.3])
    limits = (data.max_query_tokens, data.max_document_tokens)
    table = make_table(4 * batch, encoder.backbone.config.vocab_size, limits)
    while True:
        try:
            _train(
                setting,
                emit,
                copy.deepcopy(encoder),
                (stage, loss),
                table=table,
                sizes=(batch, chunk),
            )
            return
        except torch.OutOfMemoryError as err:
            emit({"way": f"chunks of {chunk:,} tokens", "note": "out of memory"})
            if chunk // 2 < _FEWEST_CHUNK_TOKENS:
                raise
            reason = str(err).splitlines()[0]
            print(reason)
        chunk //= 2
        gc.collect()  # the trainer and its module know each other
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _train(
    setting: Setting,
    emit: Emit,
    encoder: Any,
    told: tuple[StageConfig, ContrastiveLossConfig],
    *,
    table: TrainingTable,
    sizes: tuple[int, int],
) -> None:
    device, (stage, loss), (batch, chunk) = device_of(setting), told, sizes
    peak = setting.peak_tflops or peak_tflops(kind_of(device).model_name())
    num_steps, num_warm = (6, 2) if setting.is_tiny else (NUM_STEPS, NUM_WARM)
    num_rows = len(table.queries)

    def rows_of(step: int) -> np.ndarray:
        return np.arange(step * batch, (step + 1) * batch) % num_rows

    def tell(num_timed: int, seconds: float) -> None:
        rows = np.concatenate([rows_of(num_warm + i) for i in range(num_timed)])
        lengths = [len(t[r]) for t in (table.queries, table.documents) for r in rows]
        emit(
            {
                "way": f"chunks of {chunk:,} tokens",
                "rows": batch,
                "tokens": sum(lengths) / num_timed,
                "steps": num_warm + num_timed,
                "tokens_per_s": sum(lengths) / seconds,
                "mfu": share_of_peak(training_flops(encoder, lengths), seconds, peak),
                "peak_gib": peak_gib(device),
            }
        )

    module = ContrastiveModule(encoder, stage.optimizer, loss, chunk_tokens=chunk)
    batches = BatchList(
        num_steps,
        lambda step: collate(table, rows_of(step), MixingConfig(), seed=0, step=step),
    )
    run_fit(module, batches, device, _Progress(device, num_warm, tell))


def judge(rows: Sequence[Row]) -> list[Verdict]:
    """That all steps were made."""
    made = max((float(row["steps"]) for row in rows if "steps" in row), default=None)
    return [at_least("kalm-v2's first stage at its real size, steps", NUM_STEPS, made, ".0f")]


CONTRASTIVE = Part(
    "kalm-v2",
    "kalm-v2's first stage",
    "Random weights of Qwen2-0.5B's shape, bidirectional; batch, loss, optimizer, lengths and"
    " chunk of the recipe, its whole global batch on one card; bf16 autocast. Queries of"
    f" {QUERY_MEDIAN} tokens in the median, documents of {DOCUMENT_MEDIAN}, cut at the recipe's"
    f" limits. The first {NUM_WARM} steps are not timed. GradCache encodes every text twice; MFU"
    " counts it once: three quarters of what the card does. Where the chunk does not fit, half of"
    " it is taken.",
    100,
    run,
    {
        "way": ("way", ""),
        "rows": ("rows a step", ",.0f"),
        "tokens": ("tokens a step", ",.0f"),
        "steps": ("steps", ".0f"),
        "tokens_per_s": ("tokens/s", ",.0f"),
        "mfu": ("MFU", ".1%"),
        "peak_gib": ("peak memory, GiB", ".1f"),
        "note": ("", ""),
    },
    judge,
)
