"""One process of two threads, or two processes of one thread each: which trains a student faster?

    python benchmarks/data_parallel.py [--turns 3] [--steps 40] [--precision float32 bfloat16]

The built-in start with a head onto 768 dimensions, trained on the recipe's own token-budget batches
of made token ids, as `leafkit distill` trains: one process, and two under torchrun that share every
batch and average their gradients (DDP over gloo). All ways see the same global batches, so their
losses must be equal up to rounding. A single thread on whole batches shows what the second core
brings; a single thread on half of every batch is what two processes would reach if the exchange of
gradients cost nothing. Writes a dated report.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from lib.arguments import make_parser
from lib.children import Figures, median, ratio, ratios, take_turns
from lib.machine import describe
from lib.report import command, publish, table, title
from million_texts import DIM, make_student

TWO_THREADS, TWO_PROCESSES = "one process, two threads", "two processes, a thread each"
ONE_THREAD, HALF = "one process, one thread", "one thread, half of each batch"
# processes, threads of each, share of each batch that they train on
WAYS = {
    TWO_THREADS: (1, 2, 1.0),
    TWO_PROCESSES: (2, 1, 1.0),
    ONE_THREAD: (1, 1, 1.0),
    HALF: (1, 1, 0.5),
}
NUM_TEXTS = 4096  # of which the batches are made
MEAN_LOG_LENGTH, LOG_SPREAD, LONGEST = 3.8, 0.7, 256  # of a text's tokens: a median of 45
NUM_WARM = 3  # steps that are not timed
BAR = 1.6
MOST_APART = 1e-3  # of a loss, between the ways; Adam makes steps of what rounding leaves


def make_batches(num_steps: int, share: float) -> Any:
    """The batches of a student's recipe over made texts, this process's share of each.

    Args:
        num_steps: batches.
        share: of the rows of each batch; the others are left out.
    """
    import torch

    from leafkit.config import StudentConfig
    from leafkit.data.batching import share_of_rank, token_budget_batches
    from leafkit.train.batch_list import BatchList
    from leafkit.train.leaf_module import LeafBatch
    from leafkit.train.world import read_world

    config, world, generator = StudentConfig(), read_world(), np.random.default_rng(0)
    lengths = np.exp(generator.normal(MEAN_LOG_LENGTH, LOG_SPREAD, NUM_TEXTS))
    lengths = np.clip(lengths.astype(int), 4, LONGEST)
    ids = [generator.integers(1000, 20_000, length).tolist() for length in lengths]
    targets = generator.standard_normal((NUM_TEXTS, DIM), dtype=np.float32)
    targets /= np.linalg.norm(targets, axis=1, keepdims=True)
    planned: list[np.ndarray] = []
    while len(planned) < num_steps:
        planned += token_budget_batches(
            lengths, config.tokens_per_batch, config.max_texts_per_batch, 0, epoch=len(planned)
        )

    def make(step: int) -> Any:
        batch = planned[step][:: round(1 / share)]
        rows = share_of_rank(batch, world.rank, world.size)
        weight = 1.0 if len(rows) else 0.0
        rows = rows if len(rows) else batch[:1]
        vectors = torch.from_numpy(targets[rows])
        return LeafBatch([ids[row] for row in rows], vectors, len(batch), weight)

    return BatchList(num_steps, make)


def note_times(starts: list[float], ends: list[float]) -> Any:
    """A callback that notes when each step starts and ends."""
    from lightning.pytorch.callbacks import Callback

    class Noting(Callback):
        def on_train_batch_start(self, *args: Any) -> None:
            starts.append(time.perf_counter())

        def on_train_batch_end(self, *args: Any) -> None:
            ends.append(time.perf_counter())

    return Noting()


def train(options: argparse.Namespace) -> Figures:
    """Train as one of the processes of a way; steps a second and every loss."""
    import torch

    from leafkit.config import OptimizerConfig
    from leafkit.train.fit import fit
    from leafkit.train.launch import join_processes
    from leafkit.train.leaf_module import LeafModule
    from leafkit.train.trainer_options import TrainerOptions

    torch.set_num_threads(options.threads)
    join_processes("cpu")
    torch.manual_seed(0)
    student = make_student(options.tiny)
    starts: list[float] = []
    ends: list[float] = []
    losses = fit(
        LeafModule(student, OptimizerConfig()),
        make_batches(options.steps, options.share),
        title="training",
        device=torch.device("cpu"),
        precision=getattr(torch, options.precision[0]),
        seed=0,
        options=TrainerOptions(callbacks=[note_times(starts, ends)]),
    )
    timed_s = ends[-1] - ends[NUM_WARM - 1]
    return {
        "steps_per_s": (len(ends) - NUM_WARM) / timed_s,
        "losses": losses,
        "gradient_mb": sum(p.numel() for p in student.parameters()) * 4 / 1e6,
    }


def words_of(way: str, precision: str, options: argparse.Namespace) -> list[str]:
    """The command line of a way, for ``python -m``."""
    processes, threads, share = WAYS[way]
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    figures = ["--threads", str(threads), "--share", str(share), "--steps", str(options.steps)]
    words = [*launcher, __file__, "--child", *figures, "--precision", precision]
    return words + ["--tiny"] * options.tiny


def largest_difference(one: Sequence[float], other: Sequence[float]) -> float:
    """Of two loss curves, as a share of the loss.

    >>> largest_difference([1.0, 0.5], [1.0, 0.55]) < 0.11
    True
    """
    first, second = np.array(one), np.array(other)
    return float(np.max(np.abs(first - second) / np.abs(first)))


def make_section(precision: str, found: dict[str, list[Figures]]) -> list[str]:
    """A precision's table and what it says of the bars."""
    rows = [
        [
            way,
            f"{median(runs, 'steps_per_s'):.2f}",
            ratio(runs, found[TWO_THREADS], "steps_per_s"),
        ]
        for way, runs in found.items()
    ]
    gain = ratios(found[TWO_PROCESSES], found[TWO_THREADS], "steps_per_s")[0]
    free = ratios(found[HALF], found[TWO_THREADS], "steps_per_s")[0]
    apart = max(
        largest_difference(one["losses"], two["losses"])
        for one, two in zip(found[TWO_THREADS], found[TWO_PROCESSES], strict=True)
    )
    exchanged = found[TWO_PROCESSES][0]["gradient_mb"]
    return [
        f"## {precision}",
        "",
        *table(["way", "steps/s", "times two threads"], rows),
        f"Two processes train {gain:.2f} times as fast as two threads (bar: {BAR}); {free:.2f} "
        f"times would be what is to be had without exchanging {exchanged:.0f} MB of gradients a "
        f"step. Largest difference of a loss: {apart:.1e} (bar: {MOST_APART:.0e}), "
        f"{'equal' if apart <= MOST_APART else '**not equal**'}.",
        "",
    ]


def main() -> None:
    """Let the ways take turns and write the report; with --child, be a process of one."""
    parser = make_parser(__doc__, turns=3, can_print=True)
    parser.add_argument("--steps", type=int, default=40, help="of each training")
    parser.add_argument(
        "--precision", nargs="+", choices=["float32", "bfloat16"], default=["float32"]
    )
    parser.add_argument("--tiny", action="store_true", help="a student of two narrow layers")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--share", type=float, default=1.0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.steps <= NUM_WARM + 1:
        parser.error(f"--steps {options.steps}: {NUM_WARM} are not timed")
    os.environ["HF_HUB_OFFLINE"] = "1"
    if options.child:
        found = train(options)
        if os.environ.get("RANK", "0") == "0":
            print(json.dumps(found), flush=True)
        return
    lines = [
        *title("Data-parallel training on a processor"),
        f"{command()}, {describe('torch', 'lightning')}. Medians of {options.turns} turn(s) of "
        f"{options.steps} steps, of which the first {NUM_WARM} are not timed; ratios of the same "
        "turn, with the smallest and the largest.",
        "",
    ]
    for precision in options.precision:
        ways = {way: words_of(way, precision, options) for way in WAYS}
        found = take_turns("-m", ways, options.turns, is_alternating=True)
        lines += make_section(precision, found)
    lines += [f"Load average at the end: {os.getloadavg()[0]:.1f}.", ""]
    publish(lines, "data_parallel", print_only=options.print_only)


if __name__ == "__main__":
    main()
