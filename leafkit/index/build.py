"""Building faiss indexes, in bounded memory and alike each time.

Documents have length one and the inner product ranks them, so that the order is that of the cosine
and of the Euclidean distance; IVF clusters are found on the sphere, HNSW graphs with the inner
product. Binary codes are the signs of the components (above 0 is one), whatever the length.

What is random has a seed: the clusters of IVF, the codebooks of PQ and the rows they are trained on
take the recipe's; the levels of an HNSW graph and the rotations of OPQ and RaBitQ start from
faiss's own constants. With the number of threads given, all kinds but one are built alike each
time: several threads link an HNSW graph in the order in which they happen to run. Graphs of up to
MAX_SERIAL documents are therefore linked by one thread; larger ones by all, and their recall may
then differ a little from build to build (``build_threads`` says which it was).

Shapes: N documents, D dimensions.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import faiss
import numpy as np

from leafkit.core.console import log
from leafkit.core.errors import LeafkitError
from leafkit.index.kinds.registry import Plan
from leafkit.index.vectors import Vectors, as_floats, dimension, read_blocks

MAX_SERIAL = 20_000  # documents that one thread links into a graph


@dataclass(frozen=True, slots=True)
class VectorIndex:
    """A built index.

    Attributes:
        plan: what it is made of.
        index: faiss's object.
        dim: D.
        num_documents: N.
        build_s: wall-clock seconds of reading, training and adding.
        build_threads: threads that built it.
        device: "cpu" or "gpu".
        resources: faiss's GPU memory, which must live as long as the index.
    """

    plan: Plan
    index: Any
    dim: int
    num_documents: int
    build_s: float
    build_threads: int
    device: str = "cpu"
    resources: Any = None


def build_index(documents: Vectors, plan: Plan, seed: int) -> VectorIndex:
    """Train an index and fill it, a block of documents at a time.

    Memory is the index, the rows it trains on and one block; an array of float32 is read in place.

    Args:
        documents: (N, D) of length one, N > 0.
        plan: from ``plan_indexes`` for N and D.
        seed: of the rows it trains on, of clusters and of codebooks.

    Raises:
        LeafkitError: a number is not finite, or faiss cannot build it.
    """
    started_s, num_documents, dim = time.perf_counter(), len(documents), dimension(documents)
    kind = plan.about
    is_serial = kind.is_serial and num_documents <= MAX_SERIAL
    threads = 1 if is_serial else faiss.omp_get_max_threads()
    try:
        with _threads(threads):
            index = kind.make(plan.factory, dim)
            if plan.num_training:
                kind.train(index, _training_rows(documents, plan.num_training, seed), seed)
            for _, block in read_blocks(documents):
                kind.add(index, block)
    except RuntimeError as err:
        message = (
            f"faiss cannot build the index {plan.kind} ({plan.factory}) of {num_documents:,} x "
            f"{dim} vectors: {err}"
        )
        raise LeafkitError(message, f"take another kind of index than {plan.kind}") from err
    return VectorIndex(
        plan=plan,
        index=index,
        dim=dim,
        num_documents=num_documents,
        build_s=time.perf_counter() - started_s,
        build_threads=threads,
    )


def _training_rows(documents: Vectors, count: int, seed: int) -> np.ndarray:
    if count == len(documents):
        return as_floats(documents, slice(None), "document")
    rows = np.random.default_rng(seed).choice(len(documents), count, replace=False)
    return as_floats(documents, np.sort(rows), "document")


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(count)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def copy_to_gpu(built: VectorIndex) -> VectorIndex | None:
    """The same index on the first GPU; None, and a line that says why, where faiss has no such
    form.

    Look-up tables of PQ are float16 there, since those of float32 outgrow a GPU's shared memory.
    """
    kind = built.plan.about
    if not kind.has_gpu_form:
        log(f"  index {built.plan.kind} is measured on the CPU alone: faiss has no GPU form of it")
        return None
    started_s = time.perf_counter()
    index: Any
    resources: Any
    try:
        resources = faiss.StandardGpuResources()
        if kind.is_binary:
            index = faiss.index_binary_cpu_to_gpu(resources, 0, built.index)
        else:
            options = faiss.GpuClonerOptions()
            options.useFloat16 = kind.has_pq_tables
            index = faiss.index_cpu_to_gpu(resources, 0, built.index, options)
    except RuntimeError as err:
        log(f"  index {built.plan.kind} is measured on the CPU alone: {err}")
        return None
    build_s = built.build_s + time.perf_counter() - started_s
    return replace(built, index=index, build_s=build_s, device="gpu", resources=resources)
