"""Whether torch.compile pays here: encoding and training steps of MiniLM's shape with and without
it, warm-up beside them.

    python benchmarks/compiled.py [--steps 12] [--device cuda]

Packed batches of real lengths differ from step to step, so shapes are dynamic. Two parts are
compiled: the feed-forward half of each layer (what packing leaves as plain matrices), and
transformers' own padded forward, which is what other tools compile. The same batches through all
ways, each in a process of its own and without caches, so that a warm-up is a whole one. Writes a
dated report.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from lib.arguments import make_parser
from lib.children import median, ratio, take_turns
from lib.machine import describe
from lib.report import command, save, title

from leafkit.models import text_encoder as encoder_module
from leafkit.models.checkpoint import load_encoder
from leafkit.models.text_encoder import TextEncoder

NUM_TEXTS = 64
WAYS = ("packed", "packed, feed-forward compiled", "padded groups", "padded groups, compiled")


def make_batches(count: int) -> list[list[list[int]]]:
    """Batches of texts of 10 to 60 random tokens, none like another."""
    generator = np.random.default_rng(0)
    return [
        [
            [101, *generator.integers(1000, 20000, int(n)).tolist(), 102]
            for n in generator.integers(10, 60, NUM_TEXTS)
        ]
        for _ in range(count)
    ]


def prepare(way: str, device: torch.device) -> TextEncoder:
    """MiniLM, with what the way compiles compiled."""
    encoder = load_encoder("builtin:minilm").to(device)
    encoder.disable_dropout()
    if way.startswith("padded"):
        encoder_module.can_pack = lambda backbone: False
    if way == "padded groups, compiled":
        encoder.backbone.compile(dynamic=True)
    if way == "packed, feed-forward compiled":
        for layer in encoder.backbone.encoder.layer:
            layer.intermediate.compile(dynamic=True)
            layer.output.compile(dynamic=True)
    return encoder


def run_way(way: str, task: str, num_steps: int, device: torch.device) -> dict[str, float]:
    """Seconds that steps of more than twice the later median took beyond it, and the later
    tokens/s.
    """
    os.environ["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] = (
        "1"  # a turn would find what the turn before compiled
    )
    encoder, batches = prepare(way, device), make_batches(2 * num_steps)

    def train(batch: list[list[int]]) -> None:
        with torch.autocast(device.type, torch.bfloat16):
            vectors = encoder(batch)
        vectors.square().sum().backward()
        encoder.zero_grad()

    def encode(batch: list[list[int]]) -> None:
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16):
            encoder(batch)

    step: Callable[[list[list[int]]], None] = train if task == "train" else encode
    seconds, rates = [], []
    for batch in batches:
        started_s = time.perf_counter()
        step(batch)
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started_s)
        rates.append(sum(map(len, batch)) / seconds[-1])
    steady = statistics.median(seconds[num_steps:])
    return {
        "warm_up_s": sum(s - steady for s in seconds if s > 2 * steady),
        "tokens_per_s": statistics.median(rates[num_steps:]),
    }


def main() -> None:
    """Measure every way and write the report; with --way, one of them as JSON."""
    parser = make_parser(__doc__, turns=3)
    parser.add_argument("--steps", type=int, default=12, help="measured steps, after as many")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--way", choices=WAYS)
    parser.add_argument("--task", choices=("train", "encode"), default="train")
    options = parser.parse_args()
    if options.way:
        print(
            json.dumps(
                run_way(options.way, options.task, options.steps, torch.device(options.device))
            )
        )
        return
    machine = describe(
        "torch",
        num_threads=torch.get_num_threads(),
        hardware=torch.cuda.get_device_name() if options.device == "cuda" else "",
    )
    lines = [
        *title("torch.compile"),
        f"{command()}, {machine}, bf16 autocast. MiniLM's shape,"
        f" {NUM_TEXTS} texts of 10 to 60 tokens a step, every step other lengths; median"
        f" of {options.steps} steps after as many, median of {options.turns} alternating turns. "
        f"Warm-up: what the first steps"
        " took beyond later ones.",
        "",
        "| task | way | tokens/s | share of leafkit's | warm-up, s |",
        "|---|---|---|---|---|",
    ]
    for task in ("encode", "train"):
        words = ["--task", task, "--steps", str(options.steps), "--device", options.device]
        found = take_turns(__file__, {way: ["--way", way, *words] for way in WAYS}, options.turns)
        lines += [
            f"| {task} | {way} | {median(found[way], 'tokens_per_s'):,.0f}"
            f" | {ratio(found[way], found[WAYS[0]], 'tokens_per_s')} | "
            f"{median(found[way], 'warm_up_s'):.1f} |"
            for way in WAYS
        ]
    suffix = "" if options.device == "cpu" else f"-{options.device}"
    print(save(lines, f"compiled{suffix}"))


if __name__ == "__main__":
    main()
