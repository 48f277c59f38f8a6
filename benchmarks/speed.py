"""Speed of what leafkit exists for, each as a ratio to a peer in the same run and as a share of the
machine's own limit.

    python benchmarks/speed.py [--turns 5] [--checkpoints checkpoints/kalm-to-23m] [--device cuda]
    [--against OLD.json]

Training a 23M student on cached vectors against sentence-transformers' EmbedDistillLoss (float32,
its default, and bf16); encoding against SentenceTransformer.encode; one query through everything
that can serve it (needs a finished `leafkit distill recipe=kalm-to-23m` and `leafkit export`). Real
text: builtin:pydocs. Every way runs in a process of its own, taking turns; medians. Writes a dated
report and the same figures as JSON. With --against, compares ratios, not times, with an earlier
run's JSON and ends with status 1 where one is clearly worse.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lib.arguments import make_parser
from lib.children import median, ratios, take_turns
from lib.machine import describe
from lib.report import command, save, title, today
from speed_ways import MAX_TOKENS, ST_BATCH, TEACHER_DIM, write_texts

WAYS_FILE = str(Path(__file__).parent / "speed_ways.py")
TOLERANCE = 0.10  # beyond the worst turn of the earlier run: what a busy neighbour does to a ratio


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        what: measured thing, with its unit.
        ours: leafkit's median.
        peer: who it is compared with, empty for none.
        theirs: the peer's median.
        ratio: ours to the peer's in the same turn: median, smallest, largest over the turns.
        bar: what the ratio (without a peer: our value) has to reach.
        is_less_better: a time or a cost.
        share: of the machine's matmul rate.
    """

    what: str
    ours: float
    peer: str = ""
    theirs: float | None = None
    ratio: tuple[float, float, float] | None = None
    bar: float | None = None
    is_less_better: bool = False
    share: float | None = None

    def reaches_bar(self) -> bool | None:
        """Whether the bar is reached; None without one."""
        if self.bar is None:
            return None
        value = self.ratio[0] if self.ratio else self.ours
        return value <= self.bar if self.is_less_better else value >= self.bar

    def to_markdown(self) -> str:
        """The line of the report."""
        ratio = "" if self.ratio is None else "{:.3g} [{:.3g}, {:.3g}]".format(*self.ratio)
        reached = {None: "", True: " reached", False: " **missed**"}[self.reaches_bar()]
        bar = (
            ""
            if self.bar is None
            else f"{'<=' if self.is_less_better else '>='} {self.bar:g}{reached}"
        )
        cells = [
            self.what,
            f"{self.ours:,.4g}",
            self.peer,
            "" if self.theirs is None else f"{self.theirs:,.4g}",
            ratio,
            bar,
            "" if self.share is None else f"{self.share:.0%}",
        ]
        return f"| {' | '.join(cells)} |"


HEADER = [
    "| what | leafkit | peer | theirs | ratio | bar | share of the machine's matmul rate |",
    "|---|---|---|---|---|---|---|",
]


def compare(
    what: str,
    ours: Sequence[Mapping[str, Any]],
    peer: str,
    theirs: Sequence[Mapping[str, Any]],
    *,
    key: str,
    **more: Any,
) -> Row:
    """Row of one figure of leafkit's and of a peer's, turn by turn."""
    return Row(
        what, median(ours, key), peer, median(theirs, key), ratios(ours, theirs, key), **more
    )


def run_ways(
    ways: Mapping[str, Sequence[str]], options: argparse.Namespace
) -> dict[str, list[dict[str, Any]]]:
    """Figures of each way by turn."""
    common = [
        "--device",
        options.device,
        "--precision",
        options.precision,
        "--texts",
        str(options.texts),
    ]
    common += ["--checkpoints", str(options.checkpoints)]
    return take_turns(
        WAYS_FILE, {name: [*words, *common] for name, words in ways.items()}, options.turns
    )


def training(options: argparse.Namespace) -> list[Row]:
    """A 23M student on cached vectors."""
    ways = {
        "leafkit": ["train-leafkit"],
        "st": ["train-st"],
        "st bf16": ["train-st", "--bf16"],
        "matmul": ["matmul"],
    }
    found = run_ways(ways, options)
    ours, limit = found["leafkit"], median(found["matmul"], "tflops")
    what = f"training, texts/s ({median(ours, 'tokens_per_text'):.0f} tokens each)"
    is_gpu = options.device != "cpu"
    return [
        compare(
            what,
            ours,
            "EmbedDistillLoss trainer, float32",
            found["st"],
            key="texts_per_s",
            bar=None if is_gpu else 5.0,
            share=median(ours, "tflops") / limit,
        ),
        compare(
            what,
            ours,
            "EmbedDistillLoss trainer, bf16",
            found["st bf16"],
            key="texts_per_s",
            bar=2.0 if is_gpu else 2.5,
        ),
    ]


def encoding(options: argparse.Namespace) -> list[Row]:
    """Mixed and long texts."""
    rows = []
    for kind, long in (("mixed", []), ("long", ["--long"])):
        ways = {
            "leafkit": ["encode-leafkit", *long],
            "st": ["encode-st", *long],
            "matmul": ["matmul"],
        }
        if options.device == "cpu":
            ways["parts"] = ["encode-parts", *long]
        found = run_ways(ways, options)
        ours, limit = found["leafkit"], median(found["matmul"], "tflops")
        each = median(ours, "tokens_per_text")
        rows.append(
            compare(
                f"encoding {kind} texts ({each:.0f} tokens each), texts/s",
                ours,
                "SentenceTransformer.encode",
                found["st"],
                key="texts_per_s",
                bar=None if long else 3.5,
                share=median(ours, "tflops") / limit,
            )
        )
        parts = found.get("parts", [])
        for name in (
            name
            for name in (parts[0] if parts else [])
            if name not in ("linear_tflops", "peak_mib")
        ):
            rate = median(parts, "linear_tflops") / limit if name == "linear layers" else None
            rows.append(
                Row(f"{kind} texts, share of the time: {name}", median(parts, name), share=rate)
            )
    return rows


def queries(options: argparse.Namespace) -> list[Row]:
    """Single queries, served on the CPU; empty where there is no student, or where a GPU is
    measured.
    """
    folder = options.checkpoints
    if not (folder / "student").is_dir() or options.device != "cpu":
        return []
    labels = {"torch": "leafkit, torch float32"}
    # int8 first: it has a bar, and the next way runs right after the peer
    if (folder / "export").is_dir():
        labels = {"int8": "ONNX graph, int8", "float32": "ONNX graph, float32"} | labels
    if (folder.parent / "kalm-to-static" / "student").is_dir():
        labels["static"] = "static student"
    found = run_ways(
        {way: ["query", "--server", way] for way in ["sentence-transformers", *labels]}, options
    )
    peer = found["sentence-transformers"]
    rows = [
        compare(
            f"one query, p50 ms: {labels[way]}",
            found[way],
            "SentenceTransformer.encode",
            peer,
            key="p50_ms",
            bar=1 / 8 if way == "int8" else None,
            is_less_better=True,
        )
        for way in labels
    ]
    if "static" in labels:
        rows.append(
            Row(
                "one query, p50 ms: static student",
                median(found["static"], "p50_ms"),
                bar=0.15,
                is_less_better=True,
            )
        )
    return rows


PARTS: dict[str, Callable[[argparse.Namespace], list[Row]]] = {
    "training": training,
    "encoding": encoding,
    "queries": queries,
}


def _find_earlier(row: Row, earlier: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The same thing and peer; the number of tokens in its name may differ."""
    wanted = (row.what.split(" (")[0], row.peer)
    return next(
        (old for old in earlier if (old["what"].split(" (")[0], old["peer"]) == wanted), None
    )


def worse_than(rows: Sequence[Row], earlier: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is clearly worse than in an earlier run: the median ratio beyond its worst turn and the
    tolerance.
    """
    found = []
    for row in rows:
        old = _find_earlier(row, earlier)
        if row.ratio is None or old is None or old["ratio"] is None:
            continue
        if row.is_less_better:
            is_worse = row.ratio[0] > old["ratio"][2] * (1 + TOLERANCE)
        else:
            is_worse = row.ratio[0] < old["ratio"][1] * (1 - TOLERANCE)
        if is_worse:
            found.append(
                f"{row.what} against {row.peer}: ratio {row.ratio[0]:.3g}, was "
                f"{old['ratio'][0]:.3g}"
            )
    return found


def main() -> int:
    """Measure, write the report, compare."""
    parser = make_parser(__doc__, turns=5)
    parser.add_argument("--checkpoints", type=Path, default=Path("checkpoints/kalm-to-23m"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", choices=list(PARTS), nargs="*", default=list(PARTS))
    parser.add_argument("--against", type=Path, help="JSON of an earlier run")
    options = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch

    from leafkit.core.system import cpu_name
    from leafkit.core.version import git_commit
    from leafkit.models.precision import choose_precision

    earlier = (
        json.loads(options.against.read_text(encoding="utf-8")) if options.against else {"rows": []}
    )
    hardware = torch.cuda.get_device_name() if options.device == "cuda" else cpu_name()
    dtype = options.precision = str(
        choose_precision("auto", torch.device(options.device))
    ).removeprefix("torch.")
    num_threads = torch.get_num_threads()
    machine = describe("torch", "sentence_transformers", num_threads=num_threads, hardware=hardware)
    head = [
        *title("Speed"),
        f"{command()}, {machine}; leafkit computes in {dtype}.",
        f"all-MiniLM-L6-v2 (23M) on builtin:pydocs; training cuts at {MAX_TOKENS} tokens, "
        f"{TEACHER_DIM}-d targets; peers in"
        f" batches of {ST_BATCH}. The second half of a training and the second pass over texts "
        f"are timed;"
        " linear layers with laid-out weights compute the GELU behind them. Medians of"
        f" {options.turns} alternating turns, each in a process of its own; ratio: ours to"
        " the peer's in the same turn, with the smallest and largest. Share: arithmetic of "
        "linear layers and attention against"
        " one large matrix product in the same precision.",
        "",
    ]
    about = {
        "date": today(),
        "commit": git_commit(),
        "hardware": hardware,
        "dtype": dtype,
        "threads": num_threads,
    }
    parts = [
        "speed",
        *([] if options.device == "cpu" else [options.device]),
        *([] if len(options.only) == 3 else options.only),
    ]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        options.texts = Path(folder) / "texts.json"
        write_texts(options.texts)
        for name in options.only:
            # written after each: what is measured is kept if the rest is cut short
            rows += PARTS[name](options)
            lines = [*head, *HEADER, *(row.to_markdown() for row in rows)]
            path = save(lines, "-".join(parts))
            figures = about | {"rows": [asdict(row) for row in rows]}
            path.with_suffix(".json").write_text(json.dumps(figures, indent=1), encoding="utf-8")
    print(path)
    worse = worse_than(rows, earlier["rows"])
    if options.against and not any(_find_earlier(row, earlier["rows"]) for row in rows):
        worse = [f"{options.against} has no row of this run: nothing was compared"]
    if options.against:
        print(*(worse or ["no ratio is clearly worse"]), sep="\n")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
