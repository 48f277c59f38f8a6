"""Building faiss indexes, in bounded memory and alike each time.

Documents have length one and the inner product ranks them, so that the order is that of the cosine
and of the Euclidean distance; IVF clusters are found on the sphere, HNSW graphs with the inner
product. Binary codes are the signs of the components (above 0 is one), whatever the length.

What is random has a seed: the clusters of IVF, the codebooks of PQ and the rows they are trained on
take the recipe's; the levels of an HNSW graph and the rotations of OPQ and RaBitQ start from
faiss's own constants. With the number of threads given, all kinds but one are built alike each
time: several threads link an HNSW graph in the order in which they happen to run. Graphs of up to
SERIAL_HNSW documents are therefore linked by one thread; larger ones by all, and their recall may
then differ a little from build to build (``build_threads`` says which it was).

Shapes: N documents, D dimensions.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np

from leafkit.core.console import log
from leafkit.core.errors import LeafkitError
from leafkit.index.kinds import PQ_KINDS, Plan
from leafkit.index.quantization import quantize_binary
from leafkit.index.vectors import Vectors, as_floats, dimension, read_blocks

SERIAL_HNSW = 20_000  # documents
# faiss takes 50; at 12,557 x 384 recall@10 was the same to three digits, training CPU time 66, not
# 148 s
OPQ_ITERATIONS = 20
_GPU_KINDS = ("flat", "ivf_flat", "ivf_pq", "opq", "binary")  # faiss has no GPU form of the others


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
    threads = (
        1 if plan.kind == "hnsw" and num_documents <= SERIAL_HNSW else faiss.omp_get_max_threads()
    )
    index: Any  # faiss's own type stubs do not fit its classes
    try:
        with _threads(threads):
            if plan.is_binary:
                index = faiss.index_binary_factory(-(-dim // 8) * 8, plan.factory)
            else:
                index = faiss.index_factory(dim, plan.factory, faiss.METRIC_INNER_PRODUCT)
                if plan.num_training:
                    _train(index, _training_rows(documents, plan.num_training, seed), seed)
            for _, block in read_blocks(documents):
                index.add(quantize_binary(block) if plan.is_binary else block)
    except RuntimeError as err:
        message = (
            f"faiss cannot build the index {plan.kind} ({plan.factory}) of {num_documents:,} x "
            f"{dim} vectors: {err}"
        )
        raise LeafkitError(message, f"take another kind of index than {plan.kind}") from err
    return VectorIndex(plan, index, dim, num_documents, time.perf_counter() - started_s, threads)


def _training_rows(documents: Vectors, count: int, seed: int) -> np.ndarray:
    if count == len(documents):
        return as_floats(documents, slice(None), "document")
    rows = np.random.default_rng(seed).choice(len(documents), count, replace=False)
    return as_floats(documents, np.sort(rows), "document")


def _train(index: Any, vectors: np.ndarray, seed: int) -> None:
    """``index.train`` with our seed, and without faiss's warnings on standard error: the plan has
    said what is too few.
    """
    clusterings: list[Any] = []
    ivf: Any = faiss.try_extract_index_ivf(index)
    if ivf is not None:
        ivf = faiss.downcast_index(ivf)
        clusterings.append(ivf.cp)
        if isinstance(ivf, faiss.IndexIVFPQ):
            clusterings.append(ivf.pq.cp)
    is_rotated = isinstance(index, faiss.IndexPreTransform)
    rotation: Any = faiss.downcast_VectorTransform(index.chain.at(0)) if is_rotated else None
    is_opq = isinstance(rotation, faiss.OPQMatrix)
    if is_opq:
        # faiss's own choice, but with our settings
        quantizer = faiss.ProductQuantizer(rotation.d_out, rotation.M, 8)
        clusterings.append(quantizer.cp)
        rotation.pq, rotation.niter, rotation.niter_pq_0 = quantizer, OPQ_ITERATIONS, OPQ_ITERATIONS
    for clustering in clusterings:
        clustering.seed, clustering.min_points_per_centroid = seed % 2**31, 1
    index.train(vectors)
    if is_opq:
        rotation.pq = None  # it does not own it


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
    if built.plan.kind not in _GPU_KINDS:
        log(f"  index {built.plan.kind} is measured on the CPU alone: faiss has no GPU form of it")
        return None
    started_s = time.perf_counter()
    index: Any
    resources: Any
    try:
        resources = faiss.StandardGpuResources()
        if built.plan.is_binary:
            index = faiss.index_binary_cpu_to_gpu(resources, 0, built.index)
        else:
            options = faiss.GpuClonerOptions()
            options.useFloat16 = built.plan.kind in PQ_KINDS
            index = faiss.index_cpu_to_gpu(resources, 0, built.index, options)
    except RuntimeError as err:
        log(f"  index {built.plan.kind} is measured on the CPU alone: {err}")
        return None
    build_s = built.build_s + time.perf_counter() - started_s
    return VectorIndex(
        built.plan,
        index,
        built.dim,
        built.num_documents,
        build_s,
        built.build_threads,
        "gpu",
        resources,
    )
