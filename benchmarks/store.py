"""The vector store against a bare numpy memmap: random batches, memory, and what writing costs over
bare encoding.

    python benchmarks/store.py [--rows 10000 100000 1000000 2000000] [--turns 5] [--folder FOLDER]

Reading: batches of random rows out of stores of several sizes and out of one float16 file with the
same bytes, as float32; both are in the page cache if they fit in memory. Writing: the same texts
embedded with and without a store. Every measurement runs in a process of its own, taking turns;
medians. FOLDER holds twice the largest store's bytes for the time of the run. Writes a dated
report.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from lib.arguments import make_parser
from lib.children import median, ratio, take_turns
from lib.machine import describe
from lib.report import command, publish, title

from leafkit.core.system import memory_gib, resident_mib
from leafkit.data.vector_store import Space, VectorStore

DIM, BATCH_SIZE, NUM_BATCHES, NUM_WARM = 896, 256, 400, 100
NUM_TEXTS = 4096  # two shards
TEXTS_FILE = "texts.json"


def open_store(folder: Path, num_rows: int) -> VectorStore:
    """The store of ``num_rows`` texts; empty until it is filled."""
    space = Space(
        teacher="benchmark", dim=DIM, prompt="", max_tokens=512, pooling="mean", normalized=True
    )
    return VectorStore(folder / str(num_rows), space, [f"text {i}" for i in range(num_rows)])


def block(number: int, num_rows: int) -> np.ndarray:
    """(num_rows, DIM) float16 numbers of shard ``number``; each shard has its own."""
    return (
        np.random.default_rng(number)
        .standard_normal((num_rows, DIM), dtype=np.float32)
        .astype(np.float16)
    )


def write_files(folder: Path, sizes: list[int]) -> list[str]:
    """A store of each size and one flat file of the largest; lines of the table on writing."""
    lines = []
    for num_rows in sizes:
        store = open_store(folder, num_rows)
        seconds = 0.0
        with (folder / "flat").open("wb") as stream:
            for shard in store.missing():
                vectors = block(shard.number, shard.stop - shard.start)
                stream.write(vectors.data)
                started_s = time.perf_counter()
                store.write(shard, vectors)
                seconds += time.perf_counter() - started_s
        started_s = time.perf_counter()
        store.missing()
        opened_s = time.perf_counter() - started_s
        mib = num_rows * DIM * 2 / 2**20
        lines.append(
            f"| {num_rows:,} | {mib:,.0f} | {seconds:.1f} | {mib / seconds:,.0f} | {opened_s:.2f} |"
        )
        print(lines[-1], flush=True)
    return lines


def read(folder: Path, num_rows: int, way: str) -> dict[str, float]:
    """Rate of random batches through one way, and memory above what the process held before."""
    texts_mib = resident_mib()
    if way == "store":
        store: Any = open_store(folder, num_rows)
        store.missing()
    else:
        flat = np.memmap(folder / "flat", dtype=np.float16, mode="r", shape=(num_rows, DIM))
    generator = np.random.default_rng(0)
    batches = [generator.integers(0, num_rows, BATCH_SIZE) for _ in range(NUM_WARM + NUM_BATCHES)]
    total, most, seconds = 0.0, 0.0, []
    for rows in batches:
        started_s = time.perf_counter()
        found = store[rows] if way == "store" else flat[rows].astype(np.float32)
        seconds.append(time.perf_counter() - started_s)
        total += float(found[0, 0])
        most = max(most, resident_mib())
    rate = NUM_BATCHES / sum(seconds[NUM_WARM:])
    return {
        "batches_per_s": rate,
        "mb_per_s": rate * BATCH_SIZE * DIM * 2 / 1e6,
        "p50_ms": 1e3 * statistics.median(seconds),
        "own_mib": most - texts_mib,
        "mapped_mib": resident_mib("RssFile"),
        "check": total,
    }


def encode(folder: Path, num_texts: int) -> dict[str, float]:
    """Seconds of bare encoding and through a store, one after the other in an order that changes
    from process to process.
    """
    import torch
    from speed_ways import read_texts

    from leafkit.embedders.fill_store import fill_store
    from leafkit.embedders.transformer import TransformerEmbedder
    from leafkit.models.checkpoint import load_encoder
    from leafkit.models.precision import choose_precision

    cpu = torch.device("cpu")
    texts = read_texts(folder / TEXTS_FILE, num_texts)
    embedder = TransformerEmbedder(
        load_encoder("builtin:minilm"), cpu, choose_precision("auto", cpu)
    )
    embedder.embed(texts[:256], "document", 256)
    found: dict[str, float] = {}

    def bare() -> None:
        embedder.embed(texts, "document", 256)

    def stored() -> None:
        with tempfile.TemporaryDirectory(dir=folder) as name:
            store = VectorStore(Path(name), embedder.space("document", 256), texts)
            fill_store(store, embedder, texts, "document", title="store")

    ways = [("bare_s", bare), ("stored_s", stored)]
    for name, work in ways if os.getpid() % 2 else ways[::-1]:
        started_s = time.perf_counter()
        work()
        found[name] = time.perf_counter() - started_s
    vectors = block(0, len(texts))[:, : embedder.dim].astype(np.float32)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        started_s = time.perf_counter()
        store = VectorStore(Path(name), embedder.space("document", 256), texts)
        for shard in store.missing():
            store.write(shard, vectors[shard.start : shard.stop])
        found["writing_s"] = time.perf_counter() - started_s
    return found


def reading_lines(folder: Path, sizes: list[int], turns: int) -> list[str]:
    """The table on reading."""
    lines = [
        "| rows | way | batches/s | MB/s | store / memmap | memory of its own, MiB | mapped "
        "pages, MiB |",
        "|---|---|---|---|---|---|---|",
    ]
    for num_rows in sizes:
        words = ["--folder", str(folder), "--rows", str(num_rows)]
        found = take_turns(
            __file__, {way: ["--child", way, *words] for way in ("store", "memmap")}, turns
        )
        assert found["store"][0]["check"] == found["memmap"][0]["check"], (
            "the store and the file hold different numbers"
        )
        for way, runs in found.items():
            compared = (
                ratio(found["store"], found["memmap"], "batches_per_s") if way == "store" else ""
            )
            lines.append(
                f"| {num_rows:,} | {way} | {median(runs, 'batches_per_s'):,.0f} | "
                f"{median(runs, 'mb_per_s'):,.0f} | {compared}"
                f" | {max(r['own_mib'] for r in runs):,.0f} | {median(runs, 'mapped_mib'):,.0f} |"
            )
    return lines


def encoding_lines(folder: Path, num_texts: int, turns: int) -> list[str]:
    """What the store costs over bare encoding, in two ways."""
    from speed_ways import write_texts

    write_texts(folder / TEXTS_FILE)
    words = ["--child", "encode", "--folder", str(folder), "--texts", str(num_texts)]
    found = take_turns(__file__, {"encode": words}, turns)["encode"]
    shares = [f["stored_s"] / f["bare_s"] - 1 for f in found]
    alone = [f["writing_s"] / f["bare_s"] for f in found]
    return [
        f"| {num_texts:,} texts of builtin:pydocs, MiniLM | {median(found, 'bare_s'):.1f} | "
        f"{median(found, 'stored_s'):.1f}"
        f" | {statistics.median(shares):+.1%} [{min(shares):+.1%}, {max(shares):+.1%}]"
        f" | {statistics.median(alone):.2%} [{min(alone):.2%}, {max(alone):.2%}] | 3% |"
    ]


def report(options: argparse.Namespace, folder: Path) -> list[str]:
    """Everything, as lines of Markdown."""
    written = write_files(folder, sorted(options.rows))
    reading = reading_lines(folder, sorted(options.rows), options.turns)
    encoding = encoding_lines(folder, options.texts, options.turns)
    return [
        *title("Vector store"),
        f"{command()}, {describe('numpy')}, {memory_gib():.0f} GiB. Load average at the end: "
        f"{os.getloadavg()[0]:.1f}.",
        "",
        "## Random batches",
        "",
        f"{NUM_BATCHES} batches of {BATCH_SIZE} random rows of {DIM} float16 numbers, given "
        f"as float32, after {NUM_WARM} that"
        f" are not timed; medians of {options.turns} alternating turns, ratio with the "
        f"smallest and largest turn. MB/s count"
        " float16 bytes. Memory of its own (RssAnon) is the most of all turns above that of "
        "the process before it opened"
        " anything, the list of texts included; mapped pages (RssFile) are the file's in the "
        "page cache, which the system takes"
        " back at will.",
        "",
        *reading,
        "",
        "## Writing",
        "",
        "Every shard is flushed to disk and hashed. Opening looks at each shard's record, "
        "sizes and text hashes.",
        "",
        "| rows | MiB | seconds | MiB/s | opening, s |",
        "|---|---|---|---|---|",
        *written,
        "",
        "## Writing over bare encoding",
        "",
        "Both in one process, in changing order. The difference of two encodings has their "
        "noise; the last share has not:"
        " making the store and writing the same number of vectors, over bare encoding.",
        "",
        "| texts | bare, s | with a store, s | difference | the store's part alone | bar |",
        "|---|---|---|---|---|---|",
        *encoding,
    ]


def main() -> None:
    """Measure and write the report; with --child, one measurement as JSON."""
    parser = make_parser(__doc__, turns=5, can_print=True)
    parser.add_argument(
        "--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000, 2_000_000]
    )
    parser.add_argument(
        "--texts", type=int, default=NUM_TEXTS, help="texts of the comparison with bare encoding"
    )
    parser.add_argument(
        "--folder", help="where the files lie meanwhile; a temporary one unless said"
    )
    parser.add_argument("--child", choices=("store", "memmap", "encode"))
    options = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    if options.child:
        folder = Path(options.folder)
        way = options.child
        print(
            json.dumps(
                encode(folder, options.texts)
                if way == "encode"
                else read(folder, options.rows[0], way)
            )
        )
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder_name:
        lines = report(options, Path(folder_name))
    publish(lines, "store", print_only=options.print_only)


if __name__ == "__main__":
    main()
