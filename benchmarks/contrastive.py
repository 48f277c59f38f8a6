"""Contrastive training of a 23M encoder on pairs with hard negatives: leafkit against
sentence-transformers' trainer.

    python benchmarks/contrastive.py [--data BEIR_FOLDER] [--batch-size 8] [--steps 3]

Rows of builtin:pydocs, whose texts have all lengths, and of a collection in BEIR's layout where one
is given. Same rows, same batches, same loss (temperature .05, the positive against every row's
positive and hard negatives), same optimiser, same arithmetic; each trainer as it comes, so
sentence-transformers trains with MiniLM's dropout. Each runs in a process of its own, taking turns.
Then GradCache: peak memory of one step at growing batch sizes. Writes a dated report.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from lib.arguments import make_parser
from lib.children import measure, median, take_turns
from lib.machine import describe, peak_mib
from lib.report import command, save, title

QUERY_TOKENS, DOCUMENT_TOKENS, NUM_NEGATIVES = 32, 128, 7
WARMUP_STEPS = 1
GRADCACHE_BATCHES = (4, 8, 16, 32)
CHUNK_TOKENS = 1024


def make_rows(data: Path | None, count: int) -> list[dict[str, str]]:
    """Queries with a positive and random negatives, as they are in the collection."""
    from leafkit.config import DataConfig
    from leafkit.data.sources import read_collection

    collection = read_collection(
        f"beir:{data}" if data else "builtin:pydocs", DataConfig(on_bad_row="skip")
    )
    chooser = random.Random(0)
    texts = [d.full_text for d in collection.documents]
    rows = []
    for query, positions in chooser.sample(collection.pairs("train"), count):
        row = {"anchor": query.text, "positive": texts[positions[0]]}
        row |= {
            f"negative_{k}": text for k, text in enumerate(chooser.sample(texts, NUM_NEGATIVES))
        }
        rows.append(row)
    return rows


def count_tokens(rows: list[dict[str, str]]) -> float:
    """Tokens of a row after cutting, in the mean."""
    from leafkit.models.checkpoint import load_encoder

    encoder = load_encoder("builtin:minilm")
    total = 0
    for column in rows[0]:
        cut = QUERY_TOKENS if column == "anchor" else DOCUMENT_TOKENS
        total += sum(map(len, encoder.tokenize([row[column] for row in rows], "document", cut)))
    return total / len(rows)


def run_leafkit(rows: list[dict[str, str]], batch_size: int, chunk_tokens: int) -> list[float]:
    """Seconds of each step."""
    import numpy as np
    import torch

    from leafkit.config import ContrastiveLossConfig, MixingConfig, OptimizerConfig
    from leafkit.models.checkpoint import load_encoder
    from leafkit.models.precision import choose_precision
    from leafkit.train.batch_list import BatchList
    from leafkit.train.contrastive_batch import TrainingTable, collate
    from leafkit.train.contrastive_module import ContrastiveModule
    from leafkit.train.fit import fit

    encoder = load_encoder("builtin:minilm")
    columns = ["positive", *(f"negative_{k}" for k in range(NUM_NEGATIVES))]
    place: dict[str, int] = {}
    for row in rows:
        for column in columns:
            place.setdefault(row[column], len(place))
    positives = np.array([place[row["positive"]] for row in rows])
    table = TrainingTable(
        queries=encoder.tokenize([row["anchor"] for row in rows], "query", QUERY_TOKENS),
        documents=encoder.tokenize(list(place), "document", DOCUMENT_TOKENS),
        positives=positives,
        negatives=[np.array([place[row[c]] for c in columns[1:]]) for row in rows],
        relevant=[p[None] for p in positives],
        in_batch=np.ones(len(rows), dtype=bool),
        soft=[np.array([]) for _ in rows],
    )
    times = [time.perf_counter()]

    class Timed(BatchList):
        # asked for when its step begins; made while the one before it runs
        def __getitem__(self, index: int) -> object:
            times.append(time.perf_counter())
            return super().__getitem__(index)

    def make(step: int):  # noqa: ANN202
        rows = np.arange(step * batch_size, (step + 1) * batch_size)
        return collate(table, rows, MixingConfig(), seed=0, step=step)

    num_steps = len(rows) // batch_size
    device = torch.device("cpu")
    optimizer = OptimizerConfig(lr=2e-5, warmup_ratio=0.1, final_lr_ratio=0.0)
    loss = ContrastiveLossConfig(false_negative_margin=2.0, anchor_weight=0.0)
    module = ContrastiveModule(encoder, optimizer, loss, chunk_tokens=chunk_tokens)
    fit(
        module,
        Timed(num_steps, make),
        title="leafkit",
        device=device,
        precision=choose_precision("auto", device),
        seed=0,
    )
    times.append(time.perf_counter())
    return [b - a for a, b in itertools.pairwise(times[1:])]


def run_sentence_transformers(rows: list[dict[str, str]], batch_size: int) -> list[float]:
    """Seconds of each step of its trainer with MultipleNegativesRankingLoss."""
    import torch
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.losses import MultipleNegativesRankingLoss
    from transformers import TrainerCallback

    from leafkit.models.builtin.find import find_builtin
    from leafkit.models.precision import choose_precision

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.times: list[float] = []

        def on_step_begin(self, *args: object, **kwargs: object) -> None:
            self.times.append(time.perf_counter())

        def on_train_end(self, *args: object, **kwargs: object) -> None:
            self.times.append(time.perf_counter())

    model = SentenceTransformer(str(find_builtin("builtin:minilm")), device="cpu")
    model.max_seq_length = DOCUMENT_TOKENS
    cut = [{**row, "anchor": _cut(model.tokenizer, row["anchor"])} for row in rows]
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        arguments = SentenceTransformerTrainingArguments(
            folder,
            per_device_train_batch_size=batch_size,
            num_train_epochs=1,
            learning_rate=2e-5,
            use_cpu=True,
            bf16=choose_precision("auto", torch.device("cpu")) == torch.bfloat16,
            save_strategy="no",
            report_to=[],
            logging_strategy="no",
            dataloader_drop_last=True,
            disable_tqdm=True,
        )
        trainer = SentenceTransformerTrainer(
            model=model,
            args=arguments,
            train_dataset=Dataset.from_list(cut),
            loss=MultipleNegativesRankingLoss(model, scale=20.0),
            callbacks=[clock],
        )
        trainer.train()
    return [b - a for a, b in itertools.pairwise(clock.times)]


def _cut(tokenizer: Any, text: str) -> str:
    """The first QUERY_TOKENS tokens of a text: that trainer has one limit for all columns."""
    return tokenizer.decode(
        tokenizer(text, truncation=True, max_length=QUERY_TOKENS)["input_ids"],
        skip_special_tokens=True,
    )


def words_of(
    who: str, data: str, batch_size: int, steps: int, *, chunk_tokens: int = 0
) -> list[str]:
    """The command line that measures one trainer: median seconds per step and peak memory."""
    words = ["--child", who, "--batch-size", str(batch_size), "--steps", str(steps)]
    return [*words, "--chunk-tokens", str(chunk_tokens), *(["--data", data] if data else [])]


def child(who: str, data: Path | None, batch_size: int, steps: int, *, chunk_tokens: int) -> None:
    """Run one trainer and print its figures as the last line."""
    rows = make_rows(data, batch_size * (steps + WARMUP_STEPS))
    if len(rows) < batch_size * (steps + WARMUP_STEPS):
        raise SystemExit(f"only {len(rows)} train queries: lower --batch-size or --steps")
    seconds = (
        run_leafkit(rows, batch_size, chunk_tokens)
        if who == "leafkit"
        else run_sentence_transformers(rows, batch_size)
    )
    peak = peak_mib()
    tokens = count_tokens(rows)
    figures = {
        "step_s": statistics.median(seconds[WARMUP_STEPS:]),
        "peak_mib": peak,
        "tokens_per_row": tokens,
    }
    print(json.dumps(figures))


def main() -> None:
    """Measure and write the report."""
    parser = make_parser(__doc__, turns=3)
    parser.add_argument("--data", default="")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--chunk-tokens", type=int, default=0)
    parser.add_argument("--child", default="")
    options = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    if options.child:
        child(
            options.child,
            Path(options.data) if options.data else None,
            options.batch_size,
            options.steps,
            chunk_tokens=options.chunk_tokens,
        )
        return
    import torch

    from leafkit.models.precision import choose_precision

    dtype = str(choose_precision("auto", torch.device("cpu"))).removeprefix("torch.")
    machine = describe("torch", "sentence_transformers", num_threads=torch.get_num_threads())
    lines = [
        *title("Contrastive training with hard negatives"),
        f"{command()}, {machine}, {dtype} on both sides.",
        f"all-MiniLM-L6-v2 (23M), batches of {options.batch_size} rows: a query cut at "
        f"{QUERY_TOKENS} tokens, a positive and"
        f" {NUM_NEGATIVES} negatives cut at {DOCUMENT_TOKENS}. {options.steps} timed steps per "
        f"turn after {WARMUP_STEPS},"
        f" {options.turns} turns each, alternating; sentence-transformers with its dropout, as "
        f"it comes.",
        "",
        "| rows of | tokens per row | trainer | texts/s | seconds per step, each turn | peak MiB "
        "| leafkit / theirs |",
        "|---|---|---|---|---|---|---|",
    ]
    for data in dict.fromkeys(["", options.data]):
        lines += compare(data, options)
        # what is measured is kept if the rest is cut short
        save(lines, "contrastive")
    lines += [
        "",
        f"## GradCache, chunks of {CHUNK_TOKENS:,} tokens, rows of builtin:pydocs",
        "",
        "| rows per batch | texts | peak MiB, GradCache | without | s per step, GradCache | "
        "without |",
        "|---|---|---|---|---|---|",
    ]
    for size in GRADCACHE_BATCHES:
        cached, direct = (
            measure(__file__, words_of("leafkit", "", size, 1, chunk_tokens=chunk))
            for chunk in (CHUNK_TOKENS, 0)
        )
        lines.append(
            f"| {size} | {size * (2 + NUM_NEGATIVES)} | {cached['peak_mib']:,.0f} | "
            f"{direct['peak_mib']:,.0f}"
            f" | {cached['step_s']:.2f} | {direct['step_s']:.2f} |"
        )
    print(save(lines, "contrastive"))


def compare(data: str, options: argparse.Namespace) -> list[str]:
    """Both trainers on the rows of one collection, as lines of the table."""
    ways = {
        who: words_of(who, data, options.batch_size, options.steps)
        for who in ("leafkit", "sentence-transformers")
    }
    turns = take_turns(__file__, ways, options.turns)
    texts = options.batch_size * (2 + NUM_NEGATIVES)
    ratios = [
        a["step_s"] / b["step_s"]
        for a, b in zip(turns["sentence-transformers"], turns["leafkit"], strict=True)
    ]
    each = f"{statistics.median(ratios):.2f} ({', '.join(f'{ratio:.2f}' for ratio in ratios)})"
    lines = []
    for who, found in turns.items():
        steps = [f["step_s"] for f in found]
        peak = median(found, "peak_mib")
        lines.append(
            f"| {Path(data).name or 'builtin:pydocs'} | {found[0]['tokens_per_row']:.0f} | {who}"
            f" | {texts / statistics.median(steps):.1f} | {', '.join(f'{s:.2f}' for s in steps)} "
            f"| {peak:,.0f}"
            f" | {each if who == 'leafkit' else ''} |"
        )
        print(lines[-1], flush=True)
    return lines


if __name__ == "__main__":
    main()
