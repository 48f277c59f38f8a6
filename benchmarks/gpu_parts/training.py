"""Training a 23M student on cached vectors, beside sentence-transformers on the same texts."""

from __future__ import annotations

import copy
import os
import statistics
import time
from collections.abc import Sequence
from typing import Any

from gpu_parts.arithmetic import peak_tflops, share_of_peak, training_flops
from gpu_parts.loop import Budget, train_student
from gpu_parts.made import (
    device_of,
    fake_targets,
    make_lengths,
    make_student,
    make_texts,
    peak_gib,
    profile,
)
from gpu_parts.part import PROFILE, Emit, Part, Row, Setting, Verdict, at_least, of_way, quotient
from leafkit.config import StudentConfig
from leafkit.core.devices import kind_of
from leafkit.models.checkpoint import write_encoder
from leafkit.models.text_encoder import TextEncoder

BAR_MFU, BAR_RATIO = 0.4, 2.0
MAX_TOKENS, MEDIAN = 128, 48
BIG = 65_536  # tokens of a batch that fills a card
OURS, PEER = "leafkit, batches that fill the card", "sentence-transformers, as many texts"
_PROFILED_STEPS = 3


def run(setting: Setting, emit: Emit) -> None:
    """Both sizes of batch by leafkit, then by sentence-transformers."""
    device, config = device_of(setting), StudentConfig()
    student = make_student(setting)
    count = 200 if setting.is_tiny else 40_000
    texts = make_texts(student.tokenizer, make_lengths(count, MEDIAN, MAX_TOKENS))
    ids = student.tokenize(texts, "document", MAX_TOKENS)
    mean = statistics.mean(map(len, ids))
    big, num_big, num_small = (1024, 6, 6) if setting.is_tiny else (BIG, 120, 300)
    peak = setting.peak_tflops or peak_tflops(kind_of(device).model_name())
    budgets = {
        OURS: Budget(big, big, num_big, num_big // 3),
        "leafkit, the recipe's batches": Budget(
            config.tokens_per_batch, config.max_texts_per_batch, num_small, num_small // 3
        ),
    }
    for way, budget in budgets.items():
        timed = train_student(copy.deepcopy(student), ids, budget, device)
        flops = training_flops(student, timed.lengths)
        mfu = share_of_peak(flops, timed.seconds, peak)
        emit(
            {
                "way": way,
                "texts_per_step": len(timed.lengths) / timed.num_steps,
                "tokens_per_s": sum(timed.lengths) / timed.seconds,
                "texts_per_s": len(timed.lengths) / timed.seconds,
                "steps_per_s": timed.num_steps / timed.seconds,
                "mfu": mfu,
                "peak_gib": peak_gib(device),
            }
        )
        if way == OURS and mfu is not None and mfu < BAR_MFU:
            few = Budget(big, big, _PROFILED_STEPS, 1)
            table = profile(lambda few=few: train_student(student, ids, few, device), device)
            emit({PROFILE: table, "what": f"{_PROFILED_STEPS} steps, {way}"})
    peers = {
        PEER: max(2, round(big / mean)),
        "sentence-transformers, texts of a recipe's batch": 32,
    }
    for way, size in peers.items():
        emit({"way": way} | _train_peer(setting, student, texts, size, mean_tokens=mean, peak=peak))


def _train_peer(
    setting: Setting,
    student: TextEncoder,
    texts: Sequence[str],
    batch_size: int,
    *,
    mean_tokens: float,
    peak: float | None,
) -> Row:
    """Its trainer with MSELoss on the same model, bf16, batches made by worker processes."""
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.losses import MSELoss
    from transformers import TrainerCallback

    device = device_of(setting)
    num_steps = min(len(texts) // batch_size, 4 if setting.is_tiny else 120)

    class Clock(TrainerCallback):
        started_s = seconds = 0.0

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step in (num_steps // 3, num_steps):
                kind_of(device).wait()
                now_s = time.perf_counter()
                self.started_s, self.seconds = now_s, now_s - self.started_s

    folder = setting.folder / "student"
    write_encoder(student, folder, {})
    model = SentenceTransformer(str(folder), device=setting.device)
    model.max_seq_length = MAX_TOKENS
    rows = Dataset.from_dict({"text": list(texts), "label": list(fake_targets(len(texts)))})
    # lists of Python's own floats would take longer to read than the step takes
    rows = rows.with_format("numpy", columns=["label"], output_all_columns=True)
    clock, is_host = Clock(), kind_of(device).is_host
    arguments = SentenceTransformerTrainingArguments(
        str(setting.folder / "trainer"),
        per_device_train_batch_size=batch_size,
        max_steps=num_steps,
        use_cpu=is_host,
        bf16=True,
        dataloader_num_workers=0 if is_host else min(4, max(1, (os.cpu_count() or 1) - 1)),
        save_strategy="no",
        report_to=[],
        logging_strategy="no",
        disable_tqdm=True,
    )
    SentenceTransformerTrainer(
        model=model, args=arguments, train_dataset=rows, loss=MSELoss(model), callbacks=[clock]
    ).train()
    timed = num_steps - num_steps // 3
    texts_per_s = timed * batch_size / clock.seconds
    flops = training_flops(student, [round(mean_tokens)]) * timed * batch_size
    return {
        "texts_per_step": batch_size,
        "tokens_per_s": texts_per_s * mean_tokens,
        "texts_per_s": texts_per_s,
        "steps_per_s": timed / clock.seconds,
        "mfu": share_of_peak(flops, clock.seconds, peak),
        "peak_gib": peak_gib(device),
    }


def judge(rows: Sequence[Row]) -> list[Verdict]:
    """The bars of training."""
    ours, theirs = (of_way(rows, way, "texts_per_s") for way in (OURS, PEER))
    return [
        at_least("MFU, training a 23M student", BAR_MFU, of_way(rows, OURS, "mfu")),
        at_least(
            "training, times sentence-transformers bf16", BAR_RATIO, quotient(ours, theirs), ".2f"
        ),
    ]


TRAINING = Part(
    "training",
    "Training a 23M student",
    "all-MiniLM-L6-v2 with a head onto 768 dimensions, bf16 autocast, made texts of"
    f" {MEDIAN} tokens in the median, cut at {MAX_TOKENS}. leafkit: batches by tokens, without"
    " padding, tokenized beforehand as its pipeline does. sentence-transformers: its trainer with"
    " MSELoss on the same model and texts, bf16, batches of as many texts, made by worker"
    " processes. The last two thirds of the steps are timed. MFU of the peer is by its mean length."
    " Memory is the most so far in this process.",
    75,
    run,
    {
        "way": ("way", ""),
        "texts_per_step": ("texts a step", ",.0f"),
        "steps_per_s": ("steps/s", ",.1f"),
        "tokens_per_s": ("tokens/s", ",.0f"),
        "mfu": ("MFU", ".1%"),
        "peak_gib": ("peak memory, GiB", ".1f"),
    },
    judge,
)
