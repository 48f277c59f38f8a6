"""A tiny pair behind the server: a real ``Pair`` of two random encoders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import tiny
import torch

from leafkit.data.records import Collection, Document
from leafkit.data.vector_store import Space
from leafkit.embedders.make_embedder import make_embedder
from leafkit.pipeline.model_in_memory import as_handle
from leafkit.pipeline.pair import Pair

DOCUMENTS = [document for _, document in tiny.make_pairs(48)]
DIMS = (32, 16, 8)
LIMIT = 24  # tokens of a document


def make_pair(
    open_teacher: Callable[[], Any] | None = None, *, mrl_dims: tuple[int, ...] = DIMS, **changes
) -> Pair:
    """Student and teacher are two random encoders of one dimension; ``open_teacher`` may raise."""
    student = tiny.make_encoder(prompts={"query": tiny.PROMPT}, mrl_dims=mrl_dims)
    handle = as_handle(tiny.make_encoder(seed=1, mrl_dims=mrl_dims, prompts={"query": "solve "}))
    teacher = handle.model
    space = teacher.space("document", LIMIT)
    vectors = teacher.embed(DOCUMENTS, "document", LIMIT).astype(np.float16)
    documents = [Document(f"d{i}", text) for i, text in enumerate(DOCUMENTS)]
    return Pair(
        student,
        Collection("tiny", documents),
        vectors,
        changes.pop("space", space),
        embedder=make_embedder(student),
        teacher=handle if open_teacher is None else open_teacher,
        **changes,
    )


def save_pair(folder: Path) -> Path:
    """A pair in a folder: two documents, a student that is its own teacher."""
    student = tiny.make_encoder(prompts={"query": tiny.PROMPT}, mrl_dims=DIMS).eval()
    embedder = make_embedder(student)
    documents = [Document("a", "compute the matrix"), Document("b", "draw the graph")]
    vectors = embedder.encode_document([d.text for d in documents])
    space = Space("abc", student.dim, "", 64, "mean", normalized=True)
    with torch.inference_mode():
        Pair(student, Collection("two", documents), vectors, space, embedder=embedder).save(folder)
    return folder


def error_of(response: httpx.Response) -> dict[str, Any]:
    """The error in an answer, which has OpenAI's shape."""
    found: dict[str, Any] = response.json()["error"]
    assert set(found) == {"message", "type", "param", "code"}
    return found
