"""The served pair: an index of teacher vectors, asked with the student's query vectors."""

from __future__ import annotations

import importlib.util
import json
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from leafkit.config.schema import INDEX_KINDS
from leafkit.core.artifact import open_artifact, read_manifest
from leafkit.core.checkpoint_layout import (
    EXPORT,
    INDEX,
    INDEX_SPACE_FILE,
    INDEX_VECTORS_FILE,
    STUDENT,
    index_folder,
)
from leafkit.core.console import log
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.core.method import method_of
from leafkit.data.records import Collection, clean_text
from leafkit.data.vector_store import VectorStore
from leafkit.embedders.make_embedder import make_embedder
from leafkit.embedders.onnx_graph import OnnxGraphEmbedder
from leafkit.embedders.protocol import Embedder
from leafkit.index.build import VectorIndex
from leafkit.index.exact import search_exact
from leafkit.index.ranking import Ranking
from leafkit.index.search import search_index
from leafkit.index.storage import open_index
from leafkit.models.encoder import Encoder, read_model
from leafkit.pipeline.corpus import Corpus, load_corpus
from leafkit.pipeline.embed import load_vectors
from leafkit.pipeline.model_handle import ModelHandle, check_student, load_teacher
from leafkit.pipeline.run import Run

# of nDCG@10 by which the int8 graph may fall short of the model and still be the one that answers
_LARGEST_LOSS = 0.005


@dataclass(frozen=True, slots=True)
class IndexInputs:
    """What decides about an index."""

    teacher: str
    corpus: str
    space: dict[str, Any]
    precision: str


@dataclass(frozen=True, slots=True)
class Hit:
    """One found document; its score is the inner product, or minus the number of different bits
    with index=binary.
    """

    id: str
    score: float
    text: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What a search found and how long its parts took."""

    hits: list[Hit]
    num_documents: int
    embed_ms: float
    search_ms: float


def run_embed(run: Run) -> Path:
    """Embed the home collection's documents with the teacher and make them an index.

    Raises:
        LeafkitError: the teacher is not there, or the collection cannot be read.
    """
    corpus = load_corpus(run, run.recipe.data.corpus)
    teacher = load_teacher(run)
    texts = [d.full_text for d in corpus.collection.documents]
    limit = run.recipe.data.max_document_tokens
    store = load_vectors(
        run,
        teacher.model,
        teacher.name,
        texts,
        "document",
        limit,
        f"{corpus.collection.name} documents",
    )
    return write_index(run, teacher, corpus, store)


def write_index(run: Run, teacher: ModelHandle, corpus: Corpus, store: VectorStore) -> Path:
    """The index artifact: documents, their teacher vectors in float16, and the space they are in."""
    folder = run.folder / INDEX
    inputs = IndexInputs(
        teacher=teacher.model.fingerprint,
        corpus=corpus.fingerprint,
        space=asdict(store.space),
        precision=str(run.precision),
    )

    def work(metrics: dict[str, Any]) -> VectorStore:
        metrics["documents"] = len(store)
        return store

    def save(store: VectorStore, draft: Path) -> None:
        Collection(corpus.collection.name, corpus.collection.documents).save(draft)
        matrix = np.lib.format.open_memmap(
            draft / INDEX_VECTORS_FILE, mode="w+", dtype=np.float16, shape=(len(store), store.dim)
        )
        for start, vectors in store.chunks():
            matrix[start : start + len(vectors)] = vectors
        matrix.flush()
        (draft / INDEX_SPACE_FILE).write_text(json.dumps(asdict(store.space), indent=1))

    run.step(
        name=INDEX,
        folder=folder,
        inputs=inputs,
        method=method_of(write_index, VectorStore),
        work=work,
        save=save,
    )
    return folder


class Searcher:
    """A loaded pair of index and student.

    Queries go through the student's exported graph where ``leafkit export`` wrote one and
    onnxruntime is installed: the int8 graph where its measured loss is small, the float32 graph
    otherwise; without one through the student itself.

    Args:
        folder: a recipe's folder with index/ and student/.
        kind: faiss index that finds the documents; flat searches all of them. Another one is built
            the first time, kept beside index/, and searched at the most accurate of its settings.

    Raises:
        UsageError: the folder is not there, or its documents cannot have such an index.
        LeafkitError: it holds no finished pair, a damaged one, or two that do not belong together.
    """

    def __init__(self, folder: Path, kind: str = "flat") -> None:
        if kind not in INDEX_KINDS:
            raise UsageError(f"index={kind}: no such kind", f"one of {', '.join(INDEX_KINDS)}")
        if not folder.is_dir():
            raise UsageError(
                f"{folder}: no such folder",
                "name a recipe's folder, such as checkpoints/kalm-to-23m",
            )
        manifests = {}
        for part in (INDEX, STUDENT):
            if not (folder / part).is_dir():
                raise LeafkitError(
                    f"{folder} has no {part}: it is not the folder of a finished run",
                    "leafkit distill recipe=NAME makes one",
                )
            manifests[part] = open_artifact(folder / part, part)
        space = json.loads((folder / INDEX / INDEX_SPACE_FILE).read_text())
        place = folder / STUDENT
        student = read_model(place)
        check_student(place, student, space["teacher"], space["dim"])
        self._max_tokens = student.spec.max_tokens
        self.model: Embedder = _open_graph(folder / EXPORT, student) or make_embedder(student)
        self._documents = Collection.load(folder / INDEX).documents
        vectors = np.load(folder / INDEX / INDEX_VECTORS_FILE, mmap_mode="r")
        self._index: VectorIndex | None = None
        if kind != "flat":
            if not space["normalized"]:
                raise UsageError(
                    f"index={kind} needs vectors of length one, which this teacher's are not",
                    "index=flat",
                )
            self._index = open_index(
                folder / index_folder(kind), kind, vectors, manifests[INDEX].fingerprint()
            )
        self._vectors = vectors if self._index else vectors.astype(np.float32)

    def search(self, question: str, k: int = 10) -> Answer:
        """The ``k`` documents nearest to the student's vector of the question.

        Raises:
            UsageError: the question is empty.
        """
        if not question.strip():
            raise UsageError("the question is empty", 'leafkit search FOLDER "your question"')
        question = clean_text(question, Counter())
        started_s = time.perf_counter()
        query = self.model.embed([question], "query", self._max_tokens)
        embedded_s = time.perf_counter()
        ranking = self._find(query, k)
        searched_s = time.perf_counter()
        hits = [
            Hit(self._documents[int(p)].id, float(s), self._documents[int(p)].text)
            for p, s in zip(ranking.positions[0], ranking.scores[0], strict=True)
            if p >= 0  # an index may look at fewer documents than were asked for
        ]
        return Answer(
            hits,
            len(self._documents),
            1e3 * (embedded_s - started_s),
            1e3 * (searched_s - embedded_s),
        )

    def _find(self, query: np.ndarray, k: int) -> Ranking:
        if self._index is None:
            return search_exact(query, self._vectors, k)
        return search_index(
            self._index, query, k, self._index.plan.settings[-1], documents=self._vectors
        )


def _open_graph(folder: Path, student: Encoder) -> OnnxGraphEmbedder | None:
    """The student's exported graph, where there is one of this very student that can be run here."""
    if not folder.is_dir() or importlib.util.find_spec("onnxruntime") is None:
        return None
    open_artifact(folder, EXPORT)
    lost = read_manifest(folder).metrics.get("quality", {}).get("int8")
    graph = OnnxGraphEmbedder(
        folder, "int8" if lost and lost["mean"] >= -_LARGEST_LOSS else "float32"
    )
    if graph.fingerprint != student.fingerprint:
        log(
            f"  {folder} is of an earlier student and is not used; leafkit export writes it again",
            style="dim",
        )
        return None
    return graph
