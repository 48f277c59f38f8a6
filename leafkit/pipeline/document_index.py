"""The index artifact: documents, their teacher vectors in float16, and the space they are in."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from leafkit.core.checkpoint_layout import INDEX, INDEX_SPACE_FILE, INDEX_VECTORS_FILE
from leafkit.core.errors import LeafkitError
from leafkit.core.method import method_of
from leafkit.data.records import Collection
from leafkit.data.storable import to_storable
from leafkit.data.vector_store import Space, VectorStore
from leafkit.index.vectors import Vectors, read_chunks
from leafkit.pipeline.corpus import Corpus, load_corpus
from leafkit.pipeline.embed import load_vectors
from leafkit.pipeline.model_handle import ModelHandle, load_teacher
from leafkit.pipeline.run import Run
from leafkit.results import codec


@dataclass(frozen=True, slots=True)
class IndexInputs:
    """What decides about an index."""

    teacher: str
    corpus: str
    space: dict[str, Any]
    precision: str


def run_embed(run: Run) -> Path:
    """Embed the corpus's documents with the teacher and make them an index.

    Raises:
        LeafkitError: the teacher is not there, or the collection cannot be read.
    """
    corpus = load_corpus(run, run.recipe.data.corpus)
    teacher = load_teacher(run, roles=["document"])
    vectors = load_vectors(
        run,
        teacher.model,
        teacher.name,
        [d.full_text for d in corpus.collection.documents],
        role="document",
        max_tokens=run.recipe.data.max_document_tokens,
        what=f"{corpus.collection.name} documents",
    )
    return write_index(run, teacher, corpus, vectors)


def write_index(run: Run, teacher: ModelHandle, corpus: Corpus, vectors: Vectors) -> Path:
    """The index artifact of a corpus's documents and their teacher vectors."""
    folder = run.folder / INDEX
    space = teacher.model.space("document", run.recipe.data.max_document_tokens)
    inputs = IndexInputs(
        teacher=teacher.model.fingerprint,
        corpus=corpus.fingerprint,
        space=asdict(space),
        precision=str(run.precision),
    )

    def work(metrics: dict[str, Any]) -> Vectors:
        metrics["documents"] = len(vectors)
        return vectors

    def save(vectors: Vectors, draft: Path) -> None:
        documents = Collection(corpus.collection.name, corpus.collection.documents)
        save_documents(documents, vectors, space, draft)

    run.step(
        name=INDEX,
        folder=folder,
        inputs=inputs,
        method=method_of(save_documents, VectorStore),
        work=work,
        save=save,
    )
    return folder


def save_documents(collection: Collection, vectors: Vectors, space: Space, folder: Path) -> None:
    """Write a collection and the float16 matrix of its documents.

    Args:
        collection: whose documents are in the order of the vectors.
        vectors: (N, D).
        space: that they are in.
        folder: where to; it exists.

    Raises:
        LeafkitError: float16 cannot hold a vector; see ``leafkit.data.storable``.
        OSError: the disk refuses.
    """
    collection.save(folder)
    shape = (len(vectors), space.dim)
    # written and not mapped: on a full disk a mapped file ends the process without a word
    with (folder / INDEX_VECTORS_FILE).open("wb") as stream:
        about = {"descr": "<f2", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(stream, about)
        for start, block in read_chunks(vectors):
            stream.write(to_storable(block, np.dtype("<f2"), start).data)
    (folder / INDEX_SPACE_FILE).write_text(json.dumps(asdict(space), indent=1))


def read_space_of_index(folder: Path) -> Space:
    """The space that an index's vectors are in.

    Raises:
        LeafkitError: the file that says so is missing, or is not as this leafkit writes it.
    """
    path, made_by = folder / INDEX_SPACE_FILE, "leafkit embed or distill recipe=NAME"
    try:
        space: Space = codec.from_plain(Space, codec.read_json(path, made_by))
    except codec.Mismatch as err:
        raise LeafkitError(
            f"{path} describes no space of vectors: {err}", f"{made_by} writes a new one"
        ) from err
    return space


def read_vectors_of_index(folder: Path, space: Space) -> np.ndarray:
    """(N, D) the vectors of an index; they stay on disk.

    Args:
        folder: of the index.
        space: that its vectors are in.

    Raises:
        LeafkitError: the file is missing, is no matrix, or has another number of columns.
    """
    path, hint = folder / INDEX_VECTORS_FILE, "leafkit embed or distill recipe=NAME writes it anew"
    try:
        vectors: np.ndarray = np.load(path, mmap_mode="r")
    except OSError as err:
        raise LeafkitError(f"cannot read {path}: {err.strerror or err}", hint) from err
    except (ValueError, EOFError) as err:
        raise LeafkitError(f"{path} holds no matrix: {err}", hint) from err
    if vectors.ndim != 2 or vectors.shape[1] != space.dim or vectors.dtype.kind != "f":
        raise LeafkitError(
            f"{path} holds {vectors.dtype} numbers of shape {vectors.shape}, where "
            f"{space.dim} columns of vectors are needed",
            hint,
        )
    return vectors
