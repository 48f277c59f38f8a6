"""The whole inheritance grid: what it takes in time and memory, beside the bare faiss calls inside
it.

    python benchmarks/inheritance.py                  12,557 documents of 768 dimensions, the
                                                      size of builtin:pydocs
    python benchmarks/inheritance.py --size 1000000   1,000,000 documents of 384 dimensions,
                                                      1,000 queries

Vectors are made for the purpose: clustered, most of their length in the first dimensions, a student
that is the teacher with noise. They are written into vector stores first, as every run of leafkit
does, and the grid reads them from there. Bare calls are faiss.knn, faiss.knn_hamming and PQ's
training, encoding and decoding with the same queries, precisions, dimensions and candidates, on
arrays prepared beforehand, in the same process right after. Writes a dated report.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
from lib.arguments import make_parser
from lib.machine import describe, peak_mib
from lib.report import command, publish, title

from leafkit.config import VECTOR_PRECISIONS, InheritConfig
from leafkit.core.system import release_memory
from leafkit.core.truncate import truncate_then_normalize
from leafkit.data.vector_store import Space, VectorStore
from leafkit.evaluation.inheritance.cells import plan_cells
from leafkit.evaluation.inheritance.grid import DEPTH, run_grid
from leafkit.evaluation.metrics import Judgments
from leafkit.index.codecs.fit import fit_codecs
from leafkit.index.exact import SPARE

PYDOCS = (12_557, 768, 1037)  # documents, dimensions, test queries
PART = 65_536  # documents made at a time
NUM_CENTRES = 2000
CALIBRATION = "calibration of the other precisions, not faiss's"


@dataclass(frozen=True)
class Made:
    """Stores of documents, queries and judgments."""

    vectors: dict[str, tuple[np.ndarray, VectorStore]]
    judgments: Judgments
    dim: int


def rows_of(centers: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Documents start to stop of the teacher: near one of the centres, dimension i with weight 1 /
    sqrt(1 + i / 32).
    """
    generator = np.random.default_rng([1, start])
    chosen = centers[generator.integers(len(centers), size=stop - start)]
    noise = generator.standard_normal((stop - start, centers.shape[1]), dtype=np.float32)
    return (chosen + noise) / np.sqrt(1 + np.arange(centers.shape[1], dtype=np.float32) / 32)


def make_vectors(folder: Path, num_documents: int, dim: int, num_queries: int) -> Made:
    """Teacher and student documents in stores on disk, queries that are noisy documents."""
    generator = np.random.default_rng(0)
    centers = generator.standard_normal((NUM_CENTRES, dim), dtype=np.float32)
    ids = [f"d{i}" for i in range(num_documents)]
    stores = {
        name: VectorStore(
            folder / name,
            Space(teacher=name, dim=dim, prompt="", max_tokens=64, pooling="mean", normalized=True),
            ids,
        )
        for name in ("teacher", "student")
    }
    weights = 1 / np.sqrt(1 + np.arange(dim, dtype=np.float32) / 32)
    relevant = np.sort(generator.choice(num_documents, num_queries, replace=False))
    queries = np.empty((num_queries, dim), dtype=np.float32)
    cache: tuple[int, np.ndarray] = (-1, np.empty(0))
    for shards in zip(*(store.missing() for store in stores.values()), strict=True):
        first = shards[0].start // PART * PART
        if cache[0] != first:
            cache = (
                first,
                truncate_then_normalize(rows_of(centers, first, min(first + PART, num_documents))),
            )
        part = cache[1][shards[0].start - first : shards[0].stop - first]
        noise = np.random.default_rng([2, shards[0].number]).standard_normal(
            part.shape, dtype=np.float32
        )
        stores["teacher"].write(shards[0], part)
        stores["student"].write(
            shards[1], truncate_then_normalize(part + 0.15 * noise * weights / np.sqrt(dim / 8))
        )
        here = (relevant >= shards[0].start) & (relevant < shards[0].stop)
        queries[here] = part[relevant[here] - shards[0].start]
    teacher_queries, student_queries = (
        truncate_then_normalize(
            queries
            + scale
            * generator.standard_normal(queries.shape, dtype=np.float32)
            * weights
            / dim**0.5
        )
        for scale in (2.0, 2.2)
    )
    names = [f"q{i}" for i in range(num_queries)]
    judgments = Judgments(
        names, ids, {q: {f"d{d}": 1} for q, d in zip(names, relevant.tolist(), strict=True)}
    )
    return Made(
        {
            "teacher": (teacher_queries, stores["teacher"]),
            "symmetric": (student_queries, stores["student"]),
            "asymmetric": (student_queries, stores["teacher"]),
        },
        judgments,
        dim,
    )


class Resident:
    """Largest resident memory while it runs, sampled: what was made before it does not count."""

    def __init__(self) -> None:
        self.peak_gib = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Resident:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        page = os.sysconf("SC_PAGE_SIZE")
        while not self._stop.wait(0.05):
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            self.peak_gib = max(self.peak_gib, pages * page / 2**30)


def bare_calls(made: Made, config: InheritConfig, dims: list[int]) -> Iterator[tuple[str, float]]:
    """Seconds of each kind of faiss call that the grid stands on, on arrays prepared beforehand."""
    depth = {
        p: (DEPTH if p == "float32" else max(1, *config.rescoring) * DEPTH) + SPARE
        for p in config.precisions
    }
    for systems in (("teacher", "asymmetric"), ("symmetric",)):
        documents = made.vectors[systems[0]][1]
        codecs = {}
        for what, precisions in (
            ("PQ's own training, by faiss", ["pq"]),
            (CALIBRATION, [p for p in config.precisions if p != "pq"]),
        ):
            started_s = time.perf_counter()
            codecs |= fit_codecs(documents, dims, precisions, config, seed=42)
            yield what, time.perf_counter() - started_s
        for dim in dims:
            queries = np.concatenate(
                [truncate_then_normalize(made.vectors[s][0], dim) for s in systems]
            )
            unit = np.empty((len(documents), dim), dtype=np.float32)
            for start, raw in documents.chunks(PART):
                unit[start : start + len(raw)] = truncate_then_normalize(raw, dim)
            for precision in config.precisions:
                codec = codecs[dim, precision]
                parts = []
                started_s = time.perf_counter()
                for start in range(0, len(unit), PART):
                    parts.append(codec.round_trip(unit[start : start + PART]))
                stored = np.concatenate(parts) if precision != "float32" else unit
                if precision == "pq":
                    yield (
                        "PQ's own encoding and decoding, by faiss",
                        time.perf_counter() - started_s,
                    )
                rows = queries
                if precision not in ("float32", "binary") and "quantized" in config.queries:
                    rows = np.concatenate([queries, codec.round_trip(queries)])
                started_s = time.perf_counter()
                faiss.knn(rows, stored, depth[precision], metric=faiss.METRIC_INNER_PRODUCT)
                yield "faiss.knn", time.perf_counter() - started_s
                if precision == "binary" and "quantized" in config.queries:
                    bits, wanted = codec.encode(unit), codec.encode(queries)
                    started_s = time.perf_counter()
                    faiss.knn_hamming(wanted, bits, depth[precision])
                    yield "faiss.knn_hamming", time.perf_counter() - started_s
                del stored, parts


def main() -> None:
    """Make vectors, measure the grid and the bare calls, write the report."""
    parser = make_parser(__doc__)
    parser.add_argument(
        "--size",
        type=int,
        default=0,
        help="documents of 384 dimensions; 0 is a collection like pydocs",
    )
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument(
        "--folder", type=Path, help="where the vectors are written; default: a temporary folder"
    )
    parser.add_argument("--no-report", action="store_true", help="print only")
    arguments = parser.parse_args()
    num_documents, dim, num_queries = (
        (arguments.size, 384, arguments.queries) if arguments.size else PYDOCS
    )
    dims = [768, 512, 256, 128, 64] if dim == 768 else [384, 256, 128, 64]
    config = InheritConfig(
        dims=dims,
        precisions=list(VECTOR_PRECISIONS),
        queries=["float", "quantized"],
        rescoring=[0, 4],
    )
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        made = make_vectors(Path(folder), num_documents, dim, num_queries)
        release_memory()
        with Resident() as resident:
            started_s = time.perf_counter()
            grid = run_grid(made.vectors, made.judgments, config, num_resamples=10_000, seed=42)
            grid_s = time.perf_counter() - started_s
        seconds: dict[str, float] = {}
        for what, value in bare_calls(made, config, dims):
            seconds[what] = seconds.get(what, 0.0) + value
    knn_s = sum(value for what, value in seconds.items() if what.startswith("faiss.knn"))
    bare_s = sum(seconds.values()) - seconds[CALIBRATION]
    verdicts = [cell.verdict for cell in grid.result.cells]
    machine = describe("faiss", "numpy", num_threads=faiss.omp_get_max_threads())
    lines = [
        *title("The inheritance grid"),
        f"{command()}, {machine}.",
        f"{num_documents:,} documents x {dim} dimensions in float16 stores, {num_queries:,} "
        f"queries, {len(dims)} dimensions x"
        f" {len(config.precisions)} precisions x float and quantised queries, plain and rescored "
        f"x4:"
        f" {len(plan_cells(dims, config))} settings x 2 modes, 10,000 resamples.",
        "",
        "| what | value |",
        "|---|---|",
        f"| the whole grid | {grid_s:.1f} s |",
        f"| the bare faiss calls in it, on prepared arrays | {bare_s:.1f} s |",
        f"| overhead over those | {grid_s / bare_s - 1:+.1%} |",
        f"| overhead over faiss.knn and faiss.knn_hamming alone | {grid_s / knn_s - 1:+.1%} |",
        f"| peak resident memory of the grid | {resident.peak_gib:.2f} GiB |",
        f"| peak of the process, bare calls on whole arrays included |"
        f" {peak_mib() / 1024:.2f} GiB |",
        *(f"| {what} | {value:.1f} s |" for what, value in seconds.items()),
        f"| verdicts | {', '.join(f'{verdicts.count(v)} {v}' for v in dict.fromkeys(verdicts))} |",
        "",
    ]
    name = f"inheritance-{arguments.size}" if arguments.size else "inheritance"
    publish(lines, name, print_only=arguments.no_report)


if __name__ == "__main__":
    main()
