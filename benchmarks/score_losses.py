"""What terms over scores cost a student's training on a processor, beside L2 alone.

    python benchmarks/score_losses.py [--threads 2] [--steps 30] [--turns 5]

The 23M student in bf16 on made texts at the recipe's batches, every text scored over 32 nearest
and 32 random documents of 20,000. All ways take turns in one process; the time of a step is over
that of L2 alone in the same turn, medians. Searching the nearest documents is not in it: that is
done once, before the training. `benchmarks/gpu.py` runs the same on a card. Writes a dated report.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from gpu_parts.part import Setting
from gpu_parts.scores import TINY, Sizes, judge, measure_terms
from lib.arguments import make_parser
from lib.machine import describe
from lib.report import command, publish, table, title


def main() -> None:
    """Measure and write the report."""
    parser = make_parser(__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=30, help="of a training; a third warms up")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--tiny", action="store_true", help="no size; figures mean nothing")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    sizes = TINY if options.tiny else Sizes(4000, 20_000, options.steps, options.turns)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        measure_terms(Setting("cpu", options.tiny, None, Path(folder)), sizes, rows.append)
    lines = [
        [
            str(row["way"]),
            f"{row['steps_per_s']:.2f}",
            f"{row['time']:.2f} [{row['least']:.2f}, {row['most']:.2f}]",
        ]
        for row in rows
    ]
    (verdict,) = judge(rows)
    said = "reached" if verdict.is_reached else "**missed**"
    report = [
        *title("What terms over scores cost"),
        f"{command()}, {describe()}, {options.threads} thread(s), bfloat16.",
        "",
        "The 23M student on made texts at the recipe's batches, every text scored over 32 nearest "
        f"and 32 random documents of {sizes.num_documents:,}. {sizes.turns} turns; the time of a "
        "step is over that of L2 alone in the same turn, median [smallest, largest].",
        "",
        *table(["terms", "steps/s", "time of a step, times L2 alone"], lines),
        f"{verdict.what}: {verdict.found}; bar: {verdict.bar}, {said}.",
    ]
    publish(report, "score_losses", print_only=options.tiny)


if __name__ == "__main__":
    main()
