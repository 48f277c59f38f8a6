"""The index table on real and on made vectors, and what leafkit's table costs over the bare faiss
calls.

    OMP_NUM_THREADS=1 python benchmarks/indexes.py --size 100000 [--run FOLDER --teacher FOLDER]

Real: all documents and test queries of builtin:pydocs. With --run, the folder of a finished run,
and --teacher, its teacher's model folder, that run's index and student are used; without,
all-MiniLM-L6-v2 embeds all, and its queries moved by noise stand for a student's. Made: clustered
random unit vectors, 384-d; there the same indexes are also built and searched through faiss alone,
as often, in a process of its own. Writes a dated report.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from lib.arguments import make_parser
from lib.children import measure
from lib.machine import Cost, describe
from lib.report import command, publish, title
from lib.report import table as markdown_table

from leafkit.config import INDEX_KINDS, DataConfig, IndexConfig
from leafkit.core.checkpoint_layout import INDEX, INDEX_VECTORS_FILE, STUDENT
from leafkit.data.records import Collection
from leafkit.data.sources import read_collection
from leafkit.embedders.transformer import TransformerEmbedder
from leafkit.evaluation.ann_indexes import K, compare_indexes
from leafkit.evaluation.metrics import Judgments
from leafkit.index.kinds.ivf_pq import OPQ_ITERATIONS
from leafkit.index.kinds.registry import Plan, plan_indexes
from leafkit.index.quantization import quantize_binary
from leafkit.models.checkpoint import load_encoder, read_encoder
from leafkit.models.precision import choose_precision
from leafkit.models.text_encoder import TextEncoder
from leafkit.results import EvaluationResult, IndexRow

DIM, CLUSTER_SIZE, BLOCK, NUM_QUERIES, MAX_TOKENS = 384, 60, 10_000, 1_000, 64
# standard deviation per component of made queries around their document
NOISE = {
    "teacher": 0.03,
    "student": 0.045,
}
CONFIG = IndexConfig(kinds=list(INDEX_KINDS))
NUM_RESAMPLES, SEED = 10_000, 42
COLUMNS = [
    "kind",
    "setting",
    "queries",
    "bytes/vector",
    "build, s",
    "queries/s",
    "recall@10",
    "nDCG@10",
    "cheapest at target",
]


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows of length one, float32."""
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def make_case(size: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """(size, DIM) clustered documents, and both sides' queries: each lies near a document, the
    student's further away.
    """
    generator = np.random.default_rng(0)
    centers = unit(generator.standard_normal((max(1, size // CLUSTER_SIZE), DIM), dtype=np.float32))
    documents = np.empty((size, DIM), dtype=np.float32)
    for start in range(0, size, BLOCK):
        part = documents[start : start + BLOCK]
        part[:] = centers[np.arange(start, start + len(part)) % len(centers)]
        part += generator.standard_normal(part.shape, dtype=np.float32) * 0.05
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    asked = documents[generator.choice(size, NUM_QUERIES, replace=False)]
    return documents, {
        side: unit(asked + generator.normal(size=asked.shape, scale=s)) for side, s in NOISE.items()
    }


def run_leafkit(size: int) -> dict[str, Any]:
    """The whole table on made vectors, in this process."""
    documents, sides = make_case(size)
    best = faiss.knn(sides["teacher"], documents, 1, metric=faiss.METRIC_INNER_PRODUCT)[1][:, 0]
    query_ids = [f"q{i}" for i in range(NUM_QUERIES)]
    qrels = {q: {f"d{p}": 1} for q, p in zip(query_ids, best.tolist(), strict=True)}
    document_ids = [f"d{i}" for i in range(size)]
    with Cost() as cost:
        rows = compare_indexes(
            documents,
            sides,
            Judgments(query_ids, document_ids, qrels),
            CONFIG,
            collection_name="made",
            num_resamples=NUM_RESAMPLES,
            seed=SEED,
        )
    return cost.figures() | {"bench": EvaluationResult(indexes=rows).to_json()}


def rows_of(ours: Mapping[str, Any]) -> Sequence[IndexRow]:
    """The table that ``run_leafkit`` measured, as it came back from its process."""
    return EvaluationResult.from_json(ours["bench"]).indexes


def run_bare(size: int, repetitions: Mapping[str, int]) -> dict[str, Any]:
    """The same faiss calls and nothing else, as often; binary_rescored's candidates are found and
    not scored again.
    """
    documents, sides = make_case(size)
    kinds = {}
    with Cost() as cost:
        for plan in plan_indexes(CONFIG, size, DIM):
            with Cost() as building:
                index = build_bare(documents, plan)
            with Cost() as searching:
                for setting in plan.settings:
                    for side, queries in sides.items():
                        times = repetitions[f"{plan.kind}/{plan.label(setting)}/{side}"]
                        search_bare(index, plan, queries, setting, repetitions=times)
            kinds[plan.kind] = {"build_s": building.seconds, "search_s": searching.seconds}
            del index
    return cost.figures() | {"kinds": kinds}


def build_bare(documents: np.ndarray, plan: Plan) -> Any:
    """What faiss's user would write: factory, train on the first rows, add; OPQ with leafkit's
    number of iterations.
    """
    if plan.about.is_binary:
        index = faiss.index_binary_factory(DIM, plan.factory)
        index.add(quantize_binary(documents))
        return index
    index = faiss.index_factory(DIM, plan.factory, faiss.METRIC_INNER_PRODUCT)
    if plan.kind == "opq":
        rotation = faiss.downcast_VectorTransform(index.chain.at(0))
        rotation.niter = rotation.niter_pq_0 = OPQ_ITERATIONS
    if plan.num_training:
        index.train(documents[: plan.num_training])
    index.add(documents)
    return index


def search_bare(
    index: Any, plan: Plan, queries: np.ndarray, setting: int, *, repetitions: int
) -> None:
    """The same search, ``repetitions`` times."""
    k = K * setting if plan.kind == "binary_rescored" else K
    if plan.parameter in ("ef_search", "num_probes"):
        faiss.ParameterSpace().set_index_parameter(index, plan.about.faiss_parameter, setting)
    for _ in range(repetitions):
        index.search(quantize_binary(queries) if plan.about.is_binary else queries, k)


def real_table(run: Path | None, teacher: Path | None) -> tuple[str, Sequence[IndexRow]]:
    """What the vectors are, and the table on builtin:pydocs."""
    collection = read_collection("builtin:pydocs", DataConfig())
    judged = collection.judged("test")
    asked = [q.text for q in judged]
    if run and teacher:
        document_ids = [d.id for d in Collection.load(run / INDEX).documents]
        documents = np.load(run / INDEX / INDEX_VECTORS_FILE, mmap_mode="r")
        sides = {
            side: embed(read_encoder(folder), asked, "query")
            for side, folder in (("teacher", teacher), ("student", run / STUDENT))
        }
        what = f"Teacher {teacher}, student {run / STUDENT}"
    else:
        document_ids = [d.id for d in collection.documents]
        documents = embed(
            load_encoder("builtin:minilm"), [d.full_text for d in collection.documents], "document"
        )
        exact = embed(load_encoder("builtin:minilm"), asked, "query")
        noise = np.random.default_rng(SEED).normal(size=exact.shape) * 0.5 / np.sqrt(exact.shape[1])
        sides = {"teacher": exact, "student": unit(exact + noise)}
        what = "all-MiniLM-L6-v2; for want of a student, student queries are its own moved by noise"
    cosine = float((sides["teacher"] * sides["student"]).sum(axis=1).mean())
    rows = compare_indexes(
        documents,
        sides,
        Judgments([q.id for q in judged], document_ids, collection.qrels),
        CONFIG,
        collection_name="pydocs",
        num_resamples=NUM_RESAMPLES,
        seed=SEED,
    )
    size = f"{len(documents):,} documents, {len(judged):,} queries, {documents.shape[1]}-d"
    return f"{what} (mean cosine to the teacher's {cosine:.3f}). {size}.", rows


def embed(encoder: TextEncoder, texts: list[str], role: str) -> np.ndarray:
    """(n, D) float32."""
    device = torch.device("cpu")
    return TransformerEmbedder(encoder, device, choose_precision("auto", device)).embed(
        texts, role, MAX_TOKENS
    )


def table(rows: Sequence[IndexRow]) -> list[str]:
    """The rows as Markdown."""
    cells = []
    for r in rows:
        read_beside = f" + {r.rescore_bytes_per_vector}" if r.rescore_bytes_per_vector else ""
        cells.append(
            [
                r.kind,
                r.setting,
                r.queries,
                f"{r.bytes_per_vector:,.0f}{read_beside}",
                f"{r.build_s:.1f}",
                f"{r.queries_per_s:,.0f}",
                str(r.recall_at_10),
                str(r.ndcg_at_10),
                "yes" if r.is_cheapest_at_target else "",
            ]
        )
    return markdown_table(COLUMNS, cells)


def cost_table(ours: dict[str, Any], bare: dict[str, Any]) -> list[str]:
    """Build and search seconds per kind, and the ratio of the whole."""
    lines = [
        "| kind | build, leafkit | build, faiss | search, leafkit | search, faiss |",
        "|---|---|---|---|---|",
    ]
    sums = {"build": 0.0, "search": 0.0}
    for kind, theirs in bare["kinds"].items():
        rows = [r for r in rows_of(ours) if r.kind == kind]
        search_s = sum(r.repetitions * NUM_QUERIES / r.queries_per_s for r in rows)
        sums["build"] += rows[0].build_s
        sums["search"] += search_s
        cells = [rows[0].build_s, theirs["build_s"], search_s, theirs["search_s"]]
        lines.append(f"| {kind} | " + " | ".join(f"{seconds:.2f}" for seconds in cells) + " |")
    rest = ours["seconds"] - sums["build"] - sums["search"]
    return [
        *lines,
        "",
        f"Seconds; searches are of both sides, all settings and repetitions. Whole: leafkit "
        f"{ours['seconds']:.1f} s"
        f" (CPU {ours['cpu_s']:.1f}), faiss {bare['seconds']:.1f} s (CPU {bare['cpu_s']:.1f}):"
        f" ratio **{ours['seconds'] / bare['seconds']:.3f}** (CPU "
        f"{ours['cpu_s'] / bare['cpu_s']:.3f}). Of leafkit's,"
        f" {sums['build']:.1f} s are builds, {sums['search']:.1f} s searches and {rest:.1f} s "
        f"the exact search, checks, bytes,"
        " recall, nDCG and intervals.",
        f"Peak memory: leafkit {ours['peak_mib']:,.0f} MiB, faiss {bare['peak_mib']:,.0f} MiB, "
        f"of which the vectors and the"
        f" libraries, before either started, {ours['before_mib']:,.0f} and "
        f"{bare['before_mib']:,.0f} MiB.",
    ]


def main() -> None:
    """Measure and write the report; with --way, one measurement."""
    parser = make_parser(__doc__, can_print=True)
    parser.add_argument("--size", type=int, default=100_000, help="made documents")
    parser.add_argument(
        "--run",
        type=Path,
        help="folder of a finished run on builtin:pydocs, with index/ and student/",
    )
    parser.add_argument("--teacher", type=Path, help="model folder of that run's teacher")
    parser.add_argument("--way", choices=("leafkit", "bare"), help="measure this way here")
    parser.add_argument("--given", default="{}", help="JSON of repetitions, for --way bare")
    options = parser.parse_args()
    if options.way:
        given = json.loads(options.given)
        found = (
            run_leafkit(options.size) if options.way == "leafkit" else run_bare(options.size, given)
        )
        print(json.dumps(found))
        return
    what, real = real_table(options.run, options.teacher)
    words = ["--size", str(options.size)]
    ours = measure(__file__, ["--way", "leafkit", *words])
    repetitions = {f"{r.kind}/{r.setting}/{r.queries}": r.repetitions for r in rows_of(ours)}
    bare = measure(__file__, ["--way", "bare", "--given", json.dumps(repetitions), *words])
    machine = describe("faiss", "numpy", num_threads=faiss.omp_get_max_threads(), python=True)
    lines = [
        *title("Indexes"),
        f"{command()}, {machine}.",
        "Bytes are those of the serialised index, links, centroids and rotations included; '+' are "
        "the float vectors that rescoring reads beside it. queries/s: all queries in one call, "
        "median of at least 3. recall@10 is of each side's own exact search; the target is "
        f"{CONFIG.target_recall}. Brackets: 95% bootstrap intervals.",
        "",
        "## builtin:pydocs",
        "",
        what,
        "",
        *table(real),
        f"## Made vectors, {options.size:,} x {DIM}",
        "",
        f"Clusters of {CLUSTER_SIZE}; {NUM_QUERIES:,} queries a side, each near a document, noise "
        f"per component {NOISE['teacher']} (teacher) and {NOISE['student']} (student); the one "
        "relevant document is the teacher query's nearest.",
        "",
        *table(rows_of(ours)),
        "## The cost over bare faiss calls",
        "",
        *cost_table(ours, bare),
    ]
    publish(lines, "indexes", print_only=options.print_only)


if __name__ == "__main__":
    main()
