"""Opening a pair that is on disk, with the guard that keeps its two models in one space."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from leafkit.config import INDEX_KINDS, EmbeddingsConfig, TeacherConfig
from leafkit.core.artifact import Manifest, fingerprint, open_artifact, read_manifest
from leafkit.core.checkpoint_layout import (
    BENCH,
    CORPORA_FOLDER,
    EXPORT,
    INDEX,
    MANIFEST_FILE,
    MODEL_SPACE_FILE,
    QUALITY_FILE,
    RESULTS_FILE,
    STUDENT,
    index_folder,
)
from leafkit.core.console import log
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.core.openai_client import base_url_of, read_address, shown_url
from leafkit.data.records import Collection
from leafkit.data.stored.prefix_vectors import first_dims
from leafkit.data.vector_store import Space
from leafkit.embedders.distinct import probe_model
from leafkit.embedders.kept_endpoint import KeptEndpoint, read_endpoint
from leafkit.embedders.make_embedder import make_embedder
from leafkit.embedders.onnx_graph import OnnxGraphEmbedder
from leafkit.embedders.openai_api import SECTION
from leafkit.embedders.protocol import Embedder
from leafkit.index.build import VectorIndex
from leafkit.index.storage import open_index
from leafkit.index.vectors import read_chunks
from leafkit.models.encoder_protocol import Encoder, read_model
from leafkit.models.folder import read_prefix_of, read_space, read_teacher_prompts
from leafkit.models.precision import choose_device
from leafkit.pipeline.adapted import OpenedFrom
from leafkit.pipeline.document_index import read_space_of_index, read_vectors_of_index
from leafkit.pipeline.model_handle import ModelHandle, ModelOpener
from leafkit.pipeline.model_in_memory import as_handle
from leafkit.pipeline.pair import Pair
from leafkit.pipeline.space_guard import another_dimension, check_student
from leafkit.results import EvaluationResult, GraphQuality
from leafkit.results.codec import Mismatch, from_plain
from leafkit.results.retention import Retention, retention_of

# of nDCG@10 by which the int8 graph may fall short of the model and still be the one that answers
_LARGEST_LOSS = 0.005


def load_pair(
    folder: str | Path,
    *,
    index: str = "flat",
    teacher: str | Embedder | Encoder | None = None,
    device: str = "auto",
    query_threads: int = 0,
    allow_hosts: Sequence[str] = (),
    is_held: bool = False,
) -> Pair:
    """The pair of a finished run, or one that ``Pair.save`` wrote; every file is verified.

    Queries go through the student's exported graph where ``leafkit export`` wrote one and
    onnxruntime is installed: the int8 graph where its measured loss is small, the float32 graph
    otherwise; without one through the student itself, on the CPU.

    Args:
        folder: with index/ and student/, such as checkpoints/kalm-to-23m.
        index: faiss index that finds the documents; flat searches all of them. Another one is built
            the first time, kept beside index/, and searched at the most accurate of its settings.
        teacher: embeds documents, where it is needed; None takes the one that the student names.
        device: that the teacher computes on; auto takes what the machine has.
        query_threads: of one query through the exported graph; 0 takes the machine's cores, up to
            four.
        allow_hosts: where a teacher that is an endpoint may be asked; without, this machine,
            OpenAI's own and the host of OPENAI_BASE_URL. It is not kept in what opens the pair
            again elsewhere.
        is_held: this process holds the folder already, as a run of its recipe does.

    Raises:
        UsageError: the folder is not there, or its documents cannot have such an index.
        LeafkitError: it holds no finished pair, a damaged one, or two models of different spaces.

    Examples:
        >>> import leafkit
        >>> leafkit.load_pair("nowhere")
        Traceback (most recent call last):
        leafkit.core.errors.UsageError: nowhere: no such folder
    """
    folder = Path(folder)
    if index not in INDEX_KINDS:
        raise UsageError(f"index={index}: no such kind", f"one of {', '.join(INDEX_KINDS)}")
    if not folder.is_dir():
        raise UsageError(
            f"{folder}: no such folder", "name a recipe's folder, such as checkpoints/kalm-to-23m"
        )
    manifests = {part: _open_part(folder / part, part) for part in (INDEX, STUDENT)}
    space = read_space_of_index(folder / INDEX)
    student = read_model(folder / STUDENT)
    check_student(folder / STUDENT, student, space.teacher, space.dim)
    embedder = _open_graph(folder / EXPORT, student, query_threads) or make_embedder(student)
    probe_model(embedder, str(folder / STUDENT))
    vectors = read_vectors_of_index(folder / INDEX, space)
    about = read_space(folder / STUDENT)
    identity = manifests[INDEX].fingerprint()
    if student.dim < space.dim:
        vectors, space = _cut(vectors, space, student.dim)
        identity = fingerprint([identity, space.dim])
    told, prompts = str(about.get("teacher_reference", "")), read_teacher_prompts(about)
    reference = told if teacher is None else teacher if isinstance(teacher, str) else "given"
    endpoint = read_endpoint(about)
    pair = Pair(
        student,
        Collection.load(folder / INDEX),
        vectors,
        space,
        embedder=embedder,
        teacher=partial(
            _open_teacher,
            teacher or told,
            device,
            prompts,
            space=space,
            endpoint=endpoint,
            allow_hosts=tuple(allow_hosts),
        )
        if teacher or told
        else None,
        teacher_prompts=prompts,
        reference=reference,
        prefix_of=read_prefix_of(about),
        endpoint=endpoint,
        index=None
        if index == "flat"
        else _open_index(folder, index, vectors, space, identity=identity, is_held=is_held),
        judged=partial(_find_corpus, folder, manifests[INDEX]),
        retention=_read_retention(folder, manifests[STUDENT], student.fingerprint),
    )
    if teacher is None or isinstance(teacher, str):
        # absolute, for it is opened again by other programs, which run in other folders
        place = str(folder.absolute())
        pair.opened_from = OpenedFrom(place, index, teacher, device, query_threads)
    return pair


def open_student(folder: Path, teacher: str, dim: int) -> Embedder:
    """What gives the query vectors of a student that asks an index of another program's.

    Args:
        folder: of a pair, whose exported graph is taken as ``load_pair`` does; or of a student.
        teacher: space of the index.
        dim: dimension of the index.

    Raises:
        LeafkitError: it holds no student, or one of another space or dimension.
    """
    is_pair = (folder / STUDENT).is_dir()
    if is_pair:
        _open_part(folder / STUDENT, STUDENT)
    place = folder / STUDENT if is_pair else folder
    student = read_model(place)
    check_student(place, student, teacher, dim)
    if student.dim != dim:  # of a teacher's first dimensions: the index has to be cut likewise
        raise another_dimension(student.dim, dim)
    graph = _open_graph(folder / EXPORT, student, 0) if is_pair else None
    embedder = graph or make_embedder(student)
    probe_model(embedder, str(place))
    return embedder


def _open_part(folder: Path, part: str) -> Manifest:
    if not folder.is_dir():
        raise LeafkitError(
            f"{folder.parent} has no {part}: it is not the folder of a finished run",
            "leafkit distill recipe=NAME makes one",
        )
    return open_artifact(folder, part)


def _open_teacher(
    teacher: str | Embedder | Encoder,
    device: str,
    prompts: Mapping[str, str],
    *,
    space: Space,
    endpoint: KeptEndpoint | None,
    allow_hosts: Sequence[str],
) -> ModelHandle:
    if not isinstance(teacher, str):
        return as_handle(teacher)
    config = TeacherConfig(
        source=teacher,
        query_prompt=prompts.get("query", ""),
        document_prompt=prompts.get("document", ""),
    )
    is_endpoint = teacher.startswith("endpoint:")
    embeddings = EmbeddingsConfig()
    if is_endpoint and endpoint is not None:
        endpoint.check_consent(allow_hosts)
        embeddings = endpoint.settings()
    where = choose_device(device)
    opener = ModelOpener(where, torch.float32, Path("checkpoints"), config, embeddings=embeddings)
    opened = opener.open_teacher()
    if is_endpoint:
        if opened.space_id != space.teacher:
            raise _another_endpoint(opened, embeddings, space, is_kept=endpoint is not None)
        read_address(embeddings.endpoint, SECTION)  # the key, too, is missed before a query is
    return opened


def _another_endpoint(
    opened: ModelHandle, embeddings: EmbeddingsConfig, space: Space, *, is_kept: bool
) -> LeafkitError:
    """The error of an endpoint that is not the teacher of an index."""
    shown = shown_url(base_url_of(embeddings.endpoint, SECTION))
    made = "distil it again, or save it again, and both are kept with it"
    return LeafkitError(
        f"{opened.reference} at {shown}, embeddings.dimensions={embeddings.dimensions}, is not the "
        f"teacher of these documents: its space is {opened.space_id}, theirs {space.teacher}",
        f"the student's {MODEL_SPACE_FILE} says {shown}: model, prompts, address or dimensions "
        "there are not those that it was distilled with; restore that file, or distil again"
        if is_kept
        else f"the pair was made without its endpoint's address and dimensions: where it was asked "
        f"at another address than {shown}, OPENAI_BASE_URL names that; {made}",
    )


def _cut(vectors: np.ndarray, space: Space, dim: int) -> tuple[np.ndarray, Space]:
    """An index of all the teacher's dimensions, at its first ones, as it is stored: in float16."""
    out = np.empty((len(vectors), dim), dtype=vectors.dtype)
    for start, block in read_chunks(vectors):
        out[start : start + len(block)] = first_dims(block, dim, is_unit=space.normalized)
    return out, replace(space, dim=dim)


def _open_index(
    folder: Path, kind: str, vectors: np.ndarray, space: Space, *, identity: str, is_held: bool
) -> VectorIndex:
    if not space.normalized:
        raise UsageError(
            f"index={kind} needs vectors of length one, which this teacher's are not", "index=flat"
        )
    return open_index(folder / index_folder(kind), kind, vectors, identity, is_held=is_held)


def _open_graph(folder: Path, student: Encoder, num_threads: int) -> OnnxGraphEmbedder | None:
    """The exported graph of this very student, where there is one that can be run here."""
    if not folder.is_dir() or importlib.util.find_spec("onnxruntime") is None:
        return None
    open_artifact(folder, EXPORT)
    loss = None  # an export without judged queries measured none
    if (folder / QUALITY_FILE).is_file():
        loss = GraphQuality.load(folder / QUALITY_FILE).losses.get("int8")
    graph = OnnxGraphEmbedder(
        folder,
        "int8" if loss and loss.value >= -_LARGEST_LOSS else "float32",
        num_threads,
    )
    if graph.fingerprint != student.fingerprint:
        log(
            f"  {folder} is of an earlier student and is not used; leafkit export writes it again",
            style="dim",
        )
        return None
    return graph


def _find_corpus(folder: Path, manifest: Manifest) -> Collection | None:
    """The collection that an index was made of, with its queries, where the run kept it."""
    for candidate in sorted((folder.parent / CORPORA_FOLDER).glob(f"*/{MANIFEST_FILE}")):
        if read_manifest(candidate.parent).fingerprint() == manifest.inputs.get("corpus"):
            open_artifact(candidate.parent)
            return Collection.load(candidate.parent)
    return None


def _read_retention(folder: Path, manifest: Manifest, student: str) -> Retention | None:
    """What was measured of this very student: by the run's benchmark, or before it was saved."""
    told = manifest.metrics.get("retention")
    if told:
        try:
            retention: Retention = from_plain(Retention, told)
        except Mismatch as err:
            raise LeafkitError(
                f"{folder / STUDENT / MANIFEST_FILE}: retention: {err}", "save the pair again"
            ) from err
        return retention
    if not (folder / BENCH / MANIFEST_FILE).is_file():
        return None
    benchmark = open_artifact(folder / BENCH, BENCH)
    if benchmark.inputs.get("student") != student:
        return None
    result = EvaluationResult.load(folder / BENCH / RESULTS_FILE)
    in_domain = [c for c in result.collections if c.kind == "in-domain"]
    chosen = in_domain[0] if in_domain else None
    return Retention(chosen.name, chosen.retention) if chosen else retention_of(result)
