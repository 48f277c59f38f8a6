"""Mining hard negatives against a bare faiss search of the same depth: throughput and memory.

    python benchmarks/mining.py --size 100000 --repeats 1

Clustered random unit vectors, 384-d, one positive per query. Each measurement runs in a process of
its own, so that its peak memory is its own; the two ways take turns. Writes a dated report.
"""

from __future__ import annotations

import json
import statistics

import faiss
import numpy as np
from lib.arguments import make_parser
from lib.children import Figures, median, take_turns
from lib.machine import Cost, describe
from lib.report import command, publish, table, title

from leafkit.config import MiningConfig
from leafkit.mining.hard_negatives import Rows, mine

DIM, DEPTH, CLUSTER_SIZE, BLOCK = 384, 100, 60, 10_000
WAYS = {
    "bare": f"faiss.IndexFlatIP.search, k = {DEPTH}, all queries at once",
    "leafkit": "leafkit.mining.hard_negatives.mine",
}
SETTINGS = MiningConfig(
    num_negatives=7, first_rank=50, last_rank=DEPTH, max_positive_share=0.95, filter_rank=50
)


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
    wanted = Rows(rows, positives, [frozenset([p]) for p in positives.tolist()])
    if way == "bare":
        index = faiss.IndexFlatIP(DIM)
        index.add(documents)
        with Cost() as cost:
            index.search(queries, DEPTH)
        return cost.figures()
    with Cost() as cost:
        mined = mine(queries, documents, wanted, SETTINGS, seed=0)
    found = {"kept": float(mined.kept.mean()), "found": float((mined.negatives >= 0).mean())}
    return cost.figures() | found


def report(results: dict[str, list[Figures]], num_queries: int, num_documents: int) -> list[str]:
    """The measurements as Markdown; medians of the repeats, the ratio as the median of each turn's
    ratio.
    """
    theirs, ours = results["bare"], results["leafkit"]
    each = [bare["seconds"] / mined["seconds"] for bare, mined in zip(theirs, ours, strict=True)]
    machine = describe("faiss", "numpy", num_threads=faiss.omp_get_max_threads(), python=True)
    lines = [
        *title("Mining"),
        f"{command()}, {machine}.",
        f"{num_queries:,} queries against {num_documents:,} documents, {DIM}-d float32, clusters "
        f"of {CLUSTER_SIZE}; {len(each)} alternating repetition(s), each in a process of its own; "
        f"medians. leafkit: window {SETTINGS.first_rank} to {SETTINGS.last_rank}, "
        f"{SETTINGS.num_negatives} negatives, max_positive_share {SETTINGS.max_positive_share}, "
        f"filter_rank {SETTINGS.filter_rank}; kept {median(ours, 'kept'):.1%} of the rows, found "
        f"{median(ours, 'found'):.1%} of the negatives.",
        "",
    ]
    header = ["way", "seconds", "CPU seconds", "queries/s", "peak memory, MiB"]
    rows = []
    for way, runs in results.items():
        seconds, peak = median(runs, "seconds"), median(runs, "peak_mib")
        rows.append(
            [
                WAYS[way],
                f"{seconds:.1f}",
                f"{median(runs, 'cpu_s'):.1f}",
                f"{num_queries / seconds:,.0f}",
                f"{peak:,.0f}",
                f"{peak - median(runs, 'before_mib'):,.0f}",
            ]
        )
    turns = ", ".join(f"{share:.3f}" for share in each)
    return [
        *lines,
        *table([*header, "of it above the vectors themselves"], rows),
        f"Throughput of leafkit as a share of the bare search's: "
        f"**{statistics.median(each):.3f}** (turns: {turns}).",
    ]


def main() -> None:
    """Take turns, then write the report; with --way, one measurement as JSON."""
    parser = make_parser(__doc__, turns=3, turns_flag="--repeats", can_print=True)
    parser.add_argument("--size", type=int, default=100_000, help="documents")
    parser.add_argument(
        "--queries", type=int, default=0, help="queries; as many as documents unless said"
    )
    parser.add_argument("--way", choices=WAYS, help="measure this way here and print it")
    options = parser.parse_args()
    num_queries = options.queries or options.size
    if options.way:
        print(json.dumps(measure(options.way, num_queries, options.size)))
        return
    words = ["--queries", str(num_queries), "--size", str(options.size)]
    ways = {way: ["--way", way, *words] for way in WAYS}
    results = take_turns(__file__, ways, options.repeats, is_alternating=True)
    publish(report(results, num_queries, options.size), "mining", print_only=options.print_only)


if __name__ == "__main__":
    main()
