"""Indexes on disk: faiss's file, and the manifest beside it with its sha256.

A faiss file is untrusted input: its numbers say how much memory to take and how often to loop.
Before faiss reads it, the sha256 must be the manifest's; while it reads, no vector may be larger
than the file (PQ kinds: than faiss's own bound on a table it may compute) and no loop longer than
the documents; afterwards its class, dimension, size and metric must be those of the manifest. Who
can forge both files can still choose which documents are found.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import faiss

from leafkit.config import IndexConfig, to_plain
from leafkit.core.artifact import (
    fingerprint,
    open_artifact,
    publish,
    read_manifest,
)
from leafkit.core.checkpoint_layout import FAISS_FILE
from leafkit.core.console import log
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.core.process.lock import exclusive
from leafkit.core.swap import recover, wait_for
from leafkit.index.build import VectorIndex, build_index
from leafkit.index.kinds.registry import Plan, plan_indexes
from leafkit.index.vectors import Vectors

STEP = "faiss index"
_MEASURING_BLOCK = 2**20  # bytes that faiss hands over at a time
_SMALLEST_LOOP_LIMIT = 1024  # of fields such as the length of a chain of transforms
# faiss checks a PQ index's table of this many bytes at most against the limit too, used or not
_PQ_TABLE_BYTES = 2**31
_OTHER_KIND = "take another kind of index"
_LIMITS = ("deserialization_loop_limit", "deserialization_vector_byte_limit")  # since faiss 1.14


def measure_bytes(built: VectorIndex) -> int:
    """Bytes of the index as faiss writes it: codes, ids, graph links, centroids, rotations; nothing
    is kept in memory.
    """
    total = 0

    def count(block: bytes) -> int:
        nonlocal total
        total += len(block)
        return len(block)

    writer: Any = faiss  # whose type stubs lack the class
    _write(built, writer.PyCallbackIOWriter(count, _MEASURING_BLOCK))
    return total


def _write(built: VectorIndex, target: Any) -> None:
    (faiss.write_index_binary if built.plan.about.is_binary else faiss.write_index)(
        built.index, target
    )


def save_index(built: VectorIndex, folder: Path, source: str = "") -> None:
    """Write an index built on the CPU as an artifact: all of it is there afterwards, or what was
    there before.

    Args:
        built: the index.
        folder: where to.
        source: identity of what it was built of.

    Raises:
        LeafkitError: disk full or permission denied.
        ValueError: the index is on a GPU.
    """
    if built.device != "cpu":
        raise ValueError("save the index that copy_to_gpu was given")
    about = asdict(built.plan) | {
        "dim": built.dim,
        "num_documents": built.num_documents,
        "source": source,
    }
    metrics = {"build_s": built.build_s, "build_threads": built.build_threads}
    with publish(folder, STEP, about, {}, metrics=metrics) as draft:
        try:
            _write(built, str(draft / FAISS_FILE))
        except RuntimeError as err:
            raise LeafkitError(
                f"cannot write {folder / FAISS_FILE}: {err}",
                "free some space or choose another place",
            ) from err


def open_index(
    folder: Path, kind: str, documents: Vectors, source: str, *, is_held: bool = False
) -> VectorIndex:
    """The kept index of these documents; built and kept where there is none, or one of other
    documents or settings.

    Args:
        folder: the artifact's place; one process at a time may build beside it.
        kind: one of INDEX_KINDS.
        documents: (N, D) of length one.
        source: fingerprint of the documents' vectors.
        is_held: this process holds the folder around it already.

    Raises:
        UsageError: such an index cannot be built of these documents.
        LeafkitError: the kept one is damaged, or another process is building there.
    """
    config = IndexConfig(kinds=[kind])
    identity = fingerprint({"vectors": source, "config": to_plain(config)})
    if folder.is_dir() and (kept := _find_kept(folder, identity)):
        return kept
    try:
        plans = plan_indexes(config, len(documents), documents[0:1].shape[1])
    except UsageError as err:
        raise UsageError(str(err), _OTHER_KIND) from None
    if not plans:
        raise UsageError(f"faiss {faiss.__version__} has no {kind}", _OTHER_KIND)
    with contextlib.nullcontext() if is_held else exclusive(folder.parent):
        recover(folder)
        if kept := _find_kept(folder, identity):  # built by the process that held the lock before
            return kept
        built = build_index(documents, plans[0], seed=0)
        save_index(built, folder, identity)
    log(
        f"  {kind} index ({plans[0].factory}) of {built.num_documents:,} documents built in "
        f"{built.build_s:.1f} s: {folder}"
    )
    return built


def _find_kept(folder: Path, identity: str) -> VectorIndex | None:
    wait_for(folder)
    if folder.is_dir() and read_manifest(folder).inputs.get("source") == identity:
        return load_index(folder)
    return None


def load_index(folder: Path, dim: int | None = None) -> VectorIndex:
    """Read an index that ``save_index`` wrote.

    Args:
        folder: the artifact.
        dim: what queries have; None takes what the index has.

    Raises:
        LeafkitError: it is missing, damaged, of another stage or dimension, or not what its
            manifest says.
    """
    manifest = open_artifact(folder, STEP)
    path, about = folder / FAISS_FILE, manifest.inputs
    if FAISS_FILE not in manifest.files:
        raise _damaged(path, "is not among the files of its manifest")
    try:
        plan = Plan(
            str(about["kind"]),
            str(about["factory"]),
            str(about["parameter"]),
            tuple(int(s) for s in about["settings"]),
            int(about["num_training"]),
        )
        found_dim, num_documents = int(about["dim"]), int(about["num_documents"])
        build_s, threads = (
            float(manifest.metrics["build_s"]),
            int(manifest.metrics["build_threads"]),
        )
        expected_class = plan.about.faiss_class
    except (KeyError, TypeError, ValueError) as err:
        raise _damaged(path, f"has a manifest that describes no index: {err!r}") from err
    if dim is not None and dim != found_dim:
        raise LeafkitError(
            f"{folder} holds vectors of {found_dim} dimensions where {dim} are needed",
            "index this model's vectors",
        )
    vector_bytes = max(path.stat().st_size, _PQ_TABLE_BYTES if plan.about.has_pq_tables else 0) + 1
    index: Any
    with _limits(vector_bytes, num_documents):
        try:
            index = (faiss.read_index_binary if plan.about.is_binary else faiss.read_index)(
                str(path)
            )
        except RuntimeError as err:
            raise _damaged(
                path, f"is no index that faiss {faiss.__version__} can read: {err}"
            ) from err
    bits = -(-found_dim // 8) * 8 if plan.about.is_binary else found_dim
    # faiss's constant for Hamming indexes
    metric = faiss.METRIC_L2 if plan.about.is_binary else faiss.METRIC_INNER_PRODUCT
    found = (type(index).__name__, index.d, index.ntotal, index.metric_type)
    expected = (expected_class, bits, num_documents, metric)
    if found != expected:
        raise _damaged(
            path,
            f"holds (class, dimension, size, metric) {found} where its manifest says {expected}",
        )
    return VectorIndex(
        plan=plan,
        index=index,
        dim=found_dim,
        num_documents=num_documents,
        build_s=build_s,
        build_threads=threads,
    )


def _damaged(path: Path, what: str) -> LeafkitError:
    return LeafkitError(f"{path} {what}", f"delete {path.parent} and build the index again")


@contextlib.contextmanager
def _limits(vector_bytes: int, num_documents: int) -> Iterator[None]:
    """Bound what faiss allocates and loops over while it reads, where this faiss can; its settings
    are the whole process's.
    """
    wanted = dict(
        zip(_LIMITS, (max(num_documents, _SMALLEST_LOOP_LIMIT), vector_bytes), strict=True)
    )
    before = {
        name: getattr(faiss, f"get_{name}")() for name in wanted if hasattr(faiss, f"get_{name}")
    }
    try:
        for name in before:
            getattr(faiss, f"set_{name}")(wanted[name])
        yield
    finally:
        for name, value in before.items():
            getattr(faiss, f"set_{name}")(value)
