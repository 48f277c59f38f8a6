"""What saving a training's state costs: seconds of a save, and their share of the time between two.

    python benchmarks/checkpoint_cost.py [--saves 8] [--folder FOLDER]

The 23M student (the built-in start with a head onto 768 dimensions, AdamW's two moments) is trained
by the library's own trainer, which saves after every step: weights, moments, generators, losses and
place, written beside the target, flushed to the disk, renamed, the folder flushed. The same number
of steps without saves says what lies between two steps anyway. FOLDER should lie on the disk that
checkpoints lie on. A plain file of the same size, written and flushed, is the peer. Writes a dated
report.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path

from data_parallel import make_batches, note_times
from lib.arguments import make_parser
from lib.machine import describe
from lib.report import command, publish, table, title
from million_texts import make_student

BAR = 0.01  # of the training time, at the default interval
_BLOCK = 2**24  # bytes that the plain file is written in


def train(folder: Path | None, num_steps: int, is_tiny: bool) -> tuple[list[float], float]:
    """Train with a save after every step, or with none.

    Args:
        folder: of the states; None saves none.
        num_steps: of the training.
        is_tiny: a student of no size.

    Returns:
        Seconds between each step and the next one, and median seconds of a step.
    """
    import torch

    from leafkit.config import OptimizerConfig
    from leafkit.train.fit import fit
    from leafkit.train.leaf_module import LeafModule
    from leafkit.train.resume import Checkpoints
    from leafkit.train.trainer_options import TrainerOptions

    starts: list[float] = []
    ends: list[float] = []
    place = Checkpoints(folder, "benchmark", 0.0) if folder is not None else None
    fit(
        LeafModule(make_student(is_tiny), OptimizerConfig()),
        make_batches(num_steps, 1.0),
        title="training",
        device=torch.device("cpu"),
        precision=torch.float32,
        seed=0,
        options=TrainerOptions(callbacks=[note_times(starts, ends)], checkpoints=place),
    )
    # the trainer's own callbacks come after the noting one: the save lies between two steps
    between_s = [start - end for end, start in zip(ends, starts[1:], strict=False)]
    return between_s, statistics.median(e - s for s, e in zip(starts, ends, strict=True))


def write_plain(path: Path, num_bytes: int) -> float:
    """Seconds to write and flush a file of so many bytes."""
    block = os.urandom(_BLOCK)
    started_s = time.perf_counter()
    with path.open("wb") as stream:
        for start in range(0, num_bytes, _BLOCK):
            stream.write(block[: num_bytes - start])
        stream.flush()
        os.fsync(stream.fileno())
    seconds = time.perf_counter() - started_s
    path.unlink()
    return seconds


def show(seconds: list[float]) -> str:
    """Median, smallest and largest."""
    return f"{statistics.median(seconds):.2f} [{min(seconds):.2f}, {max(seconds):.2f}]"


def judge(share: float) -> str:
    """Whether the bar is reached.

    >>> judge(0.005), judge(0.02)
    ('reached', '**missed**')
    """
    return "reached" if share <= BAR else "**missed**"


def main() -> None:
    """Measure and write the report."""
    parser = make_parser(__doc__, can_print=True)
    parser.add_argument("--saves", type=int, default=8, help="saves, and plain files; at least 3")
    parser.add_argument("--folder", help="where states lie meanwhile; a temporary one unless said")
    parser.add_argument("--tiny", action="store_true", help="a student of two narrow layers")
    options = parser.parse_args()
    if options.saves < 3:
        parser.error(f"--saves {options.saves}: at least 3")
    os.environ["HF_HUB_OFFLINE"] = "1"
    from leafkit.config.trainer import TrainerConfig

    interval_s = 60 * TrainerConfig().checkpoint_minutes
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        # after the last step the trainer ends, so that one more step is needed for the last gap
        between_s, _ = train(Path(name) / "state", options.saves + 1, options.tiny)
        num_bytes = (Path(name) / "state" / "last.ckpt").stat().st_size
        plain_s = [write_plain(Path(name) / "plain", num_bytes) for _ in range(options.saves)]
        without_s, step_s = train(None, options.saves + 1, options.tiny)
    saves_s = [seconds - statistics.median(without_s) for seconds in between_s]
    save_s, slowest_s = statistics.median(saves_s), max(saves_s)
    share, worst = (seconds / (interval_s + seconds) for seconds in (save_s, slowest_s))
    rows = [
        ["a save, seconds", show(saves_s)],
        ["a plain file of this size, written and flushed, seconds", show(plain_s)],
        ["between two steps without a save, seconds", show(without_s)],
        ["a step, seconds", f"{step_s:.2f}"],
        ["a state, MB", f"{num_bytes / 1e6:,.1f}"],
        ["MB/s of a save", f"{num_bytes / 1e6 / save_s:,.0f}"],
        [f"share of the time, a save every {interval_s:,.0f} s", f"{share:.3%}"],
        ["the same with the slowest save", f"{worst:.3%}"],
        [
            "shortest interval within the bar, minutes",
            f"{save_s * (1 - BAR) / BAR / 60:.1f}",
        ],
    ]
    lines = [
        *title("The cost of checkpoints"),
        f"{command()}, {describe('torch', 'lightning')}, float32. Medians of {options.saves} "
        "saves, smallest and largest in brackets.",
        "",
        *table(["", ""], rows),
        f"Bar: {BAR:.0%} of the training time at the default `trainer.checkpoint_minutes` of "
        f"{interval_s / 60:g}: {judge(share)} by the median save, {judge(worst)} by the slowest.",
        "",
        f"Load average at the end: {os.getloadavg()[0]:.1f}.",
        "",
    ]
    publish(lines, "checkpoint_cost", print_only=options.print_only)


if __name__ == "__main__":
    main()
