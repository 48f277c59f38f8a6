"""How time and memory grow with the number of texts, their length and the dimension: a table, a
plot, fitted exponents.

    python benchmarks/growth.py [--quick] [--turns 3]

A two-layer encoder of random weights on random token ids, so that what grows is seen within
minutes; every point runs in a process of its own, for its peak memory. Writes a dated report and
beside it the plot as SVG.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from lib.arguments import make_parser
from lib.children import median, take_turns
from lib.machine import describe
from lib.plot import stack
from lib.report import REPORTS, command, save, title, today

from leafkit.core.system import resident_mib
from leafkit.report.charts.plots import Series, line_chart
from leafkit.report.charts.svg import element

BASE = {"texts": 10_000, "length": 16, "dim": 256}  # what stays while another one grows
FULL = {
    "texts": [10_000, 30_000, 100_000, 300_000],
    "length": [16, 32, 64, 128, 256, 512],
    "dim": [64, 128, 256, 512, 1024],
}
QUICK = {"texts": [10_000, 30_000, 100_000], "length": [16, 64, 256], "dim": [64, 256, 1024]}
TEXTS_OF_LENGTHS = (
    512  # embedded and trained on where the length grows, so that 512 tokens take seconds too
)
NUM_STEPS, TOKENS_PER_STEP, TEXTS_PER_STEP = 20, 8192, 16
NUM_QUERIES, NUM_RESAMPLES = 100, 1000
TITLES = {
    "embed": "embedding",
    "train": "LEAF step",
    "store": "store writing",
    "search": "search",
    "bootstrap": "bootstrap",
}
SWEEPS = {
    "texts": ["embed", "train", "store", "search", "bootstrap"],
    "length": ["embed", "train"],
    "dim": ["embed", "train", "store", "search"],
}
PLOT_HEIGHT = 230.0


def make_encoder(dim: int) -> Any:
    """Two layers, H = 64, W_out onto ``dim``."""
    from torch import nn

    from leafkit.models.checkpoint import load_encoder
    from leafkit.models.text_encoder import TextEncoder
    from leafkit.models.tiny import tiny_encoder

    tiny = tiny_encoder("bert", load_encoder("builtin:minilm").tokenizer, seed=0)
    return TextEncoder(tiny.backbone, tiny.tokenizer, tiny.spec, nn.Linear(tiny.hidden_size, dim))


def make_ids(texts: int, length: int) -> np.ndarray:
    """(texts, length) random token ids."""
    return np.random.default_rng(0).integers(1000, 20_000, (texts, length), dtype=np.int32)


def make_vectors(texts: int, dim: int) -> np.ndarray:
    """(texts, dim) float32."""
    return np.random.default_rng(1).standard_normal((texts, dim), dtype=np.float32)


def embed(texts: int, length: int, dim: int) -> float:
    """Seconds to embed all texts."""
    import torch

    from leafkit.embedders.transformer import TransformerEmbedder

    embedder = TransformerEmbedder(make_encoder(dim), torch.device("cpu"), torch.float32)
    ids = make_ids(texts, length).tolist()
    embedder.embed_ids(ids[:64])
    started_s = time.perf_counter()
    embedder.embed_ids(ids)
    return time.perf_counter() - started_s


def train(texts: int, length: int, dim: int) -> float:
    """Median seconds of a training step on a fixed number of texts, out of all."""
    import torch

    from leafkit.config import OptimizerConfig
    from leafkit.data.batching import token_budget_batches
    from leafkit.train.batch_list import BatchList
    from leafkit.train.fit import fit
    from leafkit.train.leaf_module import LeafBatch, LeafModule

    ids, targets = make_ids(texts, length).tolist(), make_vectors(texts, dim)
    batches = token_budget_batches([length] * texts, TOKENS_PER_STEP, TEXTS_PER_STEP, 0, epoch=0)[
        :NUM_STEPS
    ]
    marks: list[float] = []

    def make(step: int) -> LeafBatch:
        marks.append(time.perf_counter())
        rows = batches[step]
        return LeafBatch([ids[r] for r in rows], torch.from_numpy(targets[rows]), len(rows), 1.0)

    settings = OptimizerConfig()
    module = LeafModule(make_encoder(dim), settings)
    fit(
        module,
        BatchList(len(batches), make),
        title="train",
        device=torch.device("cpu"),
        precision=torch.float32,
        seed=0,
    )
    return statistics.median(np.diff(marks)[3:])


def store(texts: int, length: int, dim: int) -> float:
    """Seconds to hash the texts and write all vectors."""
    from leafkit.data.vector_store import Space, VectorStore

    words, vectors = [f"text {i}" for i in range(texts)], make_vectors(texts, dim)
    with tempfile.TemporaryDirectory() as folder:
        started_s = time.perf_counter()
        made = VectorStore(
            Path(folder),
            Space(
                teacher="benchmark",
                dim=dim,
                prompt="",
                max_tokens=length,
                pooling="mean",
                normalized=True,
            ),
            words,
        )
        for shard in made.missing():
            made.write(shard, vectors[shard.start : shard.stop])
        return time.perf_counter() - started_s


def search(texts: int, length: int, dim: int) -> float:
    """Seconds of exact search for some queries."""
    from leafkit.index.exact import search_exact

    documents, queries = make_vectors(texts, dim), make_vectors(NUM_QUERIES, dim)
    search_exact(queries[:4], documents, 10)
    started_s = time.perf_counter()
    search_exact(queries, documents, 10)
    return time.perf_counter() - started_s


def bootstrap(texts: int, length: int, dim: int) -> float:
    """Seconds of an interval over as many judged queries."""
    from leafkit.evaluation.bootstrap import Bootstrap

    values = np.random.default_rng(1).beta(0.6, 0.4, texts)
    started_s = time.perf_counter()
    Bootstrap(texts, NUM_RESAMPLES, 0).mean(values)
    return time.perf_counter() - started_s


WORK: dict[str, Callable[[int, int, int], float]] = {
    "embed": embed,
    "train": train,
    "store": store,
    "search": search,
    "bootstrap": bootstrap,
}


def exponent(xs: list[float], ys: list[float]) -> float:
    """Slope of log y over log x by least squares: y grows as x to this power."""
    return float(np.polyfit(np.log(xs), np.log(ys), 1)[0])


def plot(title: str, x_label: str, curves: dict[str, list[tuple[float, float]]], top: float) -> str:
    """Seconds over what grows, both axes logarithmic: a straight line is a power."""
    drawn = line_chart(
        title,
        f"Seconds against {x_label}",
        [Series(name, points, tone) for tone, (name, points) in enumerate(curves.items(), 1)],
        f"{x_label}; seconds upwards",
        log_x=True,
        log_y=True,
        height=PLOT_HEIGHT,
    )
    return element("g", drawn, transform=f"translate(0 {top:.0f})")


def draw(found: dict[str, dict[str, list[tuple[float, float]]]]) -> str:
    """All plots below one another as one file, with its own style."""
    height = PLOT_HEIGHT + 100
    plots = [
        plot(f"Growth with {x}", x, curves, i * height)
        for i, (x, curves) in enumerate(found.items())
    ]
    return stack(plots, height)


def measure_sweep(
    what: str, values: list[int], turns: int
) -> tuple[list[str], dict[str, list[tuple[float, float]]]]:
    """Lines of the table and the curves of everything that one quantity may slow down."""
    lines, curves = [], {}
    for work, name in itertools.product(SWEEPS[what], [what]):
        seconds, peaks = [], []
        for value in values:
            point = BASE | ({"texts": TEXTS_OF_LENGTHS} if what == "length" else {}) | {name: value}
            words = [
                "--child",
                work,
                *(w for key, number in point.items() for w in (f"--{key}", str(number))),
            ]
            runs = take_turns(__file__, {f"{work}, {what} {value}": words}, turns)
            (found,) = runs.values()
            seconds.append(median(found, "seconds"))
            peaks.append(median(found, "peak_mib"))
        power = exponent([float(v) for v in values], seconds)
        curves[TITLES[work]] = list(zip(map(float, values), seconds, strict=True))
        cells = " | ".join(f"{s:.3g} s, {p:,.0f} MiB" for s, p in zip(seconds, peaks, strict=True))
        lines.append(f"| {TITLES[work]} | {cells} | {power:.2f} |")
    return lines, curves


def main() -> None:
    """Measure every point and write report and plot; with --child, one point as JSON."""
    parser = make_parser(__doc__, turns=3)
    parser.add_argument("--quick", action="store_true", help="fewer points, one turn")
    parser.add_argument("--child", choices=list(WORK))
    parser.add_argument("--out", type=Path, default=REPORTS, help="folder of the report")
    parser.add_argument(
        "--smoke",
        action="store_true",
        help="points so small that they say nothing but that the script works",
    )
    for name, value in BASE.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    if options.child:
        seconds = WORK[options.child](options.texts, options.length, options.dim)
        print(json.dumps({"seconds": seconds, "peak_mib": resident_mib("VmHWM")}))
        return
    sweeps = QUICK if options.quick else FULL
    if options.smoke:
        sweeps = {"texts": [400, 800], "length": [16, 32], "dim": [16, 32]}
    turns = 1 if options.quick or options.smoke else options.turns
    lines = [
        *title("Growth"),
        f"{command()}, {describe('numpy')}, float32. Two layers, H = 64, random ids. Unless it "
        f"grows:"
        f" {BASE['texts']:,} texts ({TEXTS_OF_LENGTHS} where lengths grow), {BASE['length']} "
        f"tokens, {BASE['dim']} dimensions."
        f" A step has {TEXTS_PER_STEP} texts, a search {NUM_QUERIES} queries, a bootstrap "
        f"{NUM_RESAMPLES:,} resamples of as"
        f" many queries as texts. Medians of {turns} run(s), each in a process of its own; peak "
        f"memory with libraries.",
        "The exponent is the slope of log seconds over log of what grows, by least squares: 1 is "
        "linear.",
        "",
    ]
    found = {}
    for what, values in sweeps.items():
        table, found[what] = measure_sweep(what, values, turns)
        heads = " | ".join(f"{v:,}" for v in values)
        lines += [
            f"## {what}",
            "",
            f"| | {heads} | exponent |",
            "|---" * (len(values) + 2) + "|",
            *table,
            "",
        ]
    lines += [
        f"![Growth]({today()}-growth.svg)",
        "",
        f"Load average at the end: {os.getloadavg()[0]:.1f}.",
        "",
    ]
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / f"{today()}-growth.svg").write_text(draw(found), encoding="utf-8")
    print(save(lines, "growth", options.out))


if __name__ == "__main__":
    main()
