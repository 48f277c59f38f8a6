"""faiss's indexes on the card against the same ones on the processor."""

from __future__ import annotations

import time
from collections.abc import Sequence
from importlib.util import find_spec

import numpy as np

from gpu_parts.made import TEACHER_DIM, fake_targets
from gpu_parts.part import SKIPPED, Emit, Part, Row, Setting, Verdict, at_least
from leafkit.config import IndexConfig

BAR = 0.999  # of the first ten that are the same; float32 sums in another order may swap two
K, NUM_PROBES = 10, 32
KINDS = ("flat", "ivf_flat")


def run(setting: Setting, emit: Emit) -> None:
    """Build on the processor, copy to the card, ask both the same."""
    if find_spec("faiss") is None:
        emit({SKIPPED: 'no faiss is installed; pip install "leafkit[gpu]"'})
        return
    import faiss

    from leafkit.index.build import VectorIndex, build_index, copy_to_gpu
    from leafkit.index.kinds.registry import plan_indexes
    from leafkit.index.ranking import Ranking
    from leafkit.index.search import search_index

    num_documents, num_queries = (2000, 50) if setting.is_tiny else (200_000, 2000)
    documents, noise = fake_targets(num_documents), fake_targets(num_queries)
    queries = documents[:num_queries] + 0.5 * noise
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)

    def ask(built: VectorIndex) -> tuple[float, Ranking]:
        search_index(built, queries[:32], K, built.plan.settings[-1])
        started_s = time.perf_counter()
        found = search_index(built, queries, K, built.plan.settings[-1])
        return num_queries / (time.perf_counter() - started_s), found

    num_gpus = faiss.get_num_gpus()
    config = IndexConfig(kinds=list(KINDS), num_probes=[NUM_PROBES])
    for plan in plan_indexes(config, num_documents, TEACHER_DIM):
        built = build_index(documents, plan, 0)
        rate, expected = ask(built)
        row = {"way": plan.kind, "documents": num_documents, "cpu_per_s": rate}
        on_gpu = copy_to_gpu(built) if num_gpus else None
        if on_gpu is not None:
            row["gpu_per_s"], found = ask(on_gpu)
            both = zip(found.positions, expected.positions, strict=True)
            row["same"] = sum(len(set(a) & set(b)) for a, b in both) / expected.positions.size
            row["gap"] = float(np.abs(found.scores - expected.scores).max())
        emit(row)
    if not num_gpus:
        reason = "this faiss sees no GPU, so the processor alone was measured"
        emit({SKIPPED: f'{reason}; pip install "leafkit[gpu]" where there is one'})


def judge(rows: Sequence[Row]) -> list[Verdict]:
    """Equal results of every kind."""
    found = [row["same"] for row in rows if "same" in row]
    least = min(found) if len(found) == len(KINDS) else None
    return [at_least("faiss on the card, share of the same first ten", BAR, least, ".2%")]


INDEXES = Part(
    "indexes",
    "faiss on the card",
    f"Made unit vectors of {TEACHER_DIM} dimensions, queries near some of them, all in one call;"
    f" ivf_flat looks into {NUM_PROBES} lists. Built on the processor, then copied: both hold the"
    " same clusters.",
    60,
    run,
    {
        "way": ("kind", ""),
        "documents": ("documents", ",.0f"),
        "cpu_per_s": ("queries/s, processor", ",.0f"),
        "gpu_per_s": ("queries/s, card", ",.0f"),
        "same": ("same first ten", ".2%"),
        "gap": ("largest difference of a score", ".1e"),
    },
    judge,
)
