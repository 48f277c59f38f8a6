"""Mining hard negatives against a bare faiss search of the same depth: throughput and memory.

    python benchmarks/mining.py --size 100000 --repeats 1

Clustered random unit vectors, 384-d, one positive per query. Each measurement runs in a process of
its own, so that its peak memory is its own; the two ways take turns. Writes a dated report.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import resource
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path

import faiss
import numpy as np

from leafkit.config.schema import MiningConfig
from leafkit.core.system import cpu_name
from leafkit.mining.hard_negatives import mine

DIM, DEPTH, CLUSTER_SIZE, BLOCK = 384, 100, 60, 10_000
WAYS = {
    "bare": f"faiss.IndexFlatIP.search, k = {DEPTH}, all queries at once",
    "leafkit": "leafkit.mining.hard_negatives.mine",
}
SETTINGS = MiningConfig(
    num_negatives=7, first_rank=50, last_rank=DEPTH, max_positive_share=0.95, filter_rank=50
)


def peak_mib() -> float:
    """Most memory this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def make_vectors(size: int, centers: np.ndarray, seed: int) -> np.ndarray:
    """(size, DIM) unit float32 vectors; row i lies near centre i % len(centres)."""
    generator = np.random.default_rng(seed)
    out = np.empty((size, DIM), dtype=np.float32)
    for start in range(0, size, BLOCK):
        part = out[start : start + BLOCK]
        part[:] = centers[np.arange(start, start + len(part)) % len(centers)]
        part += generator.standard_normal(part.shape, dtype=np.float32) * 0.05
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return out


def measure(way: str, num_queries: int, num_documents: int) -> dict[str, float]:
    """Seconds and peak memory of one way, in this process; making the vectors and the bare index is
    not timed.
    """
    centers = np.random.default_rng(0).standard_normal(
        (max(1, num_documents // CLUSTER_SIZE), DIM), dtype=np.float32
    )
    centers /= np.linalg.norm(centers, axis=1, keepdims=True)
    documents, queries = (
        make_vectors(num_documents, centers, 1),
        make_vectors(num_queries, centers, 2),
    )
    rows = np.arange(num_queries)
    positives = rows % num_documents
    relevant = [frozenset([p]) for p in positives.tolist()]
    index = faiss.IndexFlatIP(DIM)
    before_mib = peak_mib()
    if way == "bare":
        index.add(documents)
        started_s, cpu_s = time.perf_counter(), time.process_time()
        index.search(queries, DEPTH)
        seconds, cpu_s = time.perf_counter() - started_s, time.process_time() - cpu_s
        return {
            "seconds": seconds,
            "cpu_s": cpu_s,
            "before_mib": before_mib,
            "peak_mib": peak_mib(),
        }
    started_s, cpu_s = time.perf_counter(), time.process_time()
    mined = mine(queries, documents, rows, positives, relevant, SETTINGS, 0)
    seconds, cpu_s = time.perf_counter() - started_s, time.process_time() - cpu_s
    found = {"kept": float(mined.kept.mean()), "found": float((mined.negatives >= 0).mean())}
    return {
        "seconds": seconds,
        "cpu_s": cpu_s,
        "before_mib": before_mib,
        "peak_mib": peak_mib(),
        **found,
    }


def measure_apart(way: str, num_queries: int, num_documents: int) -> dict[str, float]:
    """The same in a fresh process."""
    command = [
        sys.executable,
        __file__,
        "--way",
        way,
        "--queries",
        str(num_queries),
        "--size",
        str(num_documents),
    ]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def report(results: dict[str, list[dict[str, float]]], num_queries: int, num_documents: int) -> str:
    """The measurements as Markdown; medians of the repeats, the ratio as the median of each turn's
    ratio.
    """
    median = {
        way: {key: statistics.median(r[key] for r in runs) for key in runs[0]}
        for way, runs in results.items()
    }
    ratios = [
        bare["seconds"] / ours["seconds"]
        for bare, ours in zip(results["bare"], results["leafkit"], strict=True)
    ]
    ours = median["leafkit"]
    lines = [
        f"# Mining, {datetime.date.today().isoformat()}",
        "",
        f"`python benchmarks/mining.py {shlex.join(sys.argv[1:])}`, {cpu_name()}, "
        f"{faiss.omp_get_max_threads()} threads,"
        f" faiss {faiss.__version__}, numpy {np.__version__}, Python {platform.python_version()}.",
        f"{num_queries:,} queries against {num_documents:,} documents, {DIM}-d float32, clusters "
        f"of {CLUSTER_SIZE};"
        f" {len(ratios)} alternating repetition(s), each in a process of its own; medians.",
        f"leafkit: window {SETTINGS.first_rank} to {SETTINGS.last_rank}, "
        f"{SETTINGS.num_negatives} negatives,"
        f" max_positive_share {SETTINGS.max_positive_share}, filter_rank {SETTINGS.filter_rank};"
        f" kept {ours['kept']:.1%} of the rows, found {ours['found']:.1%} of the negatives.",
        "",
        "| way | seconds | CPU seconds | queries/s | peak memory, MiB | of it above the vectors "
        "themselves |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {WAYS[way]} | {m['seconds']:.1f} | {m['cpu_s']:.1f} | "
        f"{num_queries / m['seconds']:,.0f} | {m['peak_mib']:,.0f} |"
        f" {m['peak_mib'] - m['before_mib']:,.0f} |"
        for way, m in median.items()
    ]
    turns = ", ".join(f"{ratio:.3f}" for ratio in ratios)
    lines += [
        "",
        f"Throughput of leafkit as a share of the bare search's: "
        f"**{statistics.median(ratios):.3f}** (turns: {turns}).",
    ]
    return "\n".join([*lines, ""])


def main() -> None:
    """Take turns, then write the report; with --way, one measurement as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=100_000, help="documents")
    parser.add_argument(
        "--queries", type=int, default=0, help="queries; as many as documents unless said"
    )
    parser.add_argument("--repeats", type=int, default=3, help="turns of each way")
    parser.add_argument("--way", choices=WAYS, help="measure this way here and print it")
    parser.add_argument("--print-only", action="store_true", help="write no report")
    options = parser.parse_args()
    num_queries = options.queries or options.size
    if options.way:
        print(json.dumps(measure(options.way, num_queries, options.size)))
        return
    results: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for repeat in range(options.repeats):
        for way in list(WAYS) if repeat % 2 == 0 else list(WAYS)[::-1]:
            results[way].append(measure_apart(way, num_queries, options.size))
    text = report(results, num_queries, options.size)
    print(text)
    if not options.print_only:
        path = Path(__file__).parent / "reports" / f"{datetime.date.today().isoformat()}-mining.md"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(path)


if __name__ == "__main__":
    main()
