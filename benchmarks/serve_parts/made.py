"""Pairs that are made for the measurement: a student of one pair over random documents."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from leafkit.core.checkpoint_layout import EXPORT, INDEX, STUDENT
from leafkit.data.records import Collection, Document
from leafkit.data.vector_store import Space
from leafkit.embedders.make_embedder import make_embedder
from leafkit.index.vectors import Vectors
from leafkit.models.encoder_protocol import Encoder, read_model
from leafkit.models.tiny import tiny_encoder
from leafkit.models.tokenization import byte_tokenizer
from leafkit.pipeline.document_index import read_space_of_index
from leafkit.pipeline.pair_folder import save_parts

_BLOCK = 65_536


def make_pair_folder(source: Path, work: Path, size: int) -> Path:
    """A pair with a student, its graph and so many random documents; kept in ``work``.

    Args:
        source: the pair whose student answers.
        work: where made pairs lie.
        size: documents, unit vectors in random directions.
    """
    student = read_model(source / STUDENT)
    space = read_space_of_index(source / INDEX)
    folder = work / f"{student.fingerprint[:12]}-{size}"
    if (folder / STUDENT).is_dir() and (folder / INDEX).is_dir():
        return folder
    vectors = np.lib.format.open_memmap(
        work / f"vectors-{size}.npy", mode="w+", dtype=np.float16, shape=(size, space.dim)
    )
    generator = np.random.default_rng(0)
    for start in range(0, size, _BLOCK):
        part = generator.standard_normal((min(_BLOCK, size - start), space.dim), dtype=np.float32)
        vectors[start : start + len(part)] = part / np.linalg.norm(part, axis=1, keepdims=True)
    texts = [f"document {i}" for i in range(size)]
    _save(folder, student, texts, vectors, space=space)
    # as it lies there, not written again: its graph serves no student of another fingerprint
    shutil.rmtree(folder / STUDENT)
    shutil.copytree(source / STUDENT, folder / STUDENT)
    if (source / EXPORT).is_dir():
        shutil.copytree(source / EXPORT, folder / EXPORT)
    (work / f"vectors-{size}.npy").unlink()
    return folder


def make_tiny_pair(folder: Path) -> Path:
    """A student of no size over a few hundred texts, which it embedded itself."""
    student = tiny_encoder("bert", byte_tokenizer(256))
    texts = [f"how number {i} is multiplied by {i % 7} and divided" for i in range(300)]
    embedder = make_embedder(student)
    vectors = embedder.embed(texts, "document", 64).astype(np.float16)
    _save(folder, student, texts, vectors, space=embedder.space("document", 64))
    return folder


def _save(
    folder: Path, student: Encoder, texts: Sequence[str], vectors: Vectors, *, space: Space
) -> None:
    collection = Collection("made", [Document(f"d{i}", text) for i, text in enumerate(texts)])
    save_parts(
        folder,
        student,
        collection,
        vectors,
        space=space,
        reference="",
        teacher_prompts={},
        prefix_of=0,
        retention={},
    )
