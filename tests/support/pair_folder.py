"""A tiny pair in a folder, with a teacher in another; the two embed every text differently."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tiny

from leafkit.data.records import Collection, Document
from leafkit.embedders.make_embedder import make_embedder
from leafkit.models.checkpoint import read_encoder, write_encoder
from leafkit.pipeline.model_in_memory import as_handle
from leafkit.pipeline.pair import Pair

PROMPTS = {"query": tiny.PROMPT, "document": "the value : "}
TEXTS = ["compute the matrix", "draw the graph twice", "merge", "compute the matrix"]


def save_pair(folder: Path, seed: int = 0) -> Path:
    """A pair in ``folder``/pair whose teacher lies in ``folder``/teacher."""
    teacher = tiny.make_encoder(seed=1, prompts=PROMPTS, mrl_dims=(32, 16))
    write_encoder(teacher, folder / "teacher", {"kind": "teacher"})
    handle = as_handle(read_encoder(folder / "teacher"))
    texts = [document for _, document in tiny.make_pairs(24)]
    student = tiny.make_encoder(seed=seed, prompts=PROMPTS, mrl_dims=(32, 16))
    pair = Pair(
        student,
        Collection("tiny", [Document(f"d{i}", text) for i, text in enumerate(texts)]),
        handle.model.embed(texts, "document", 24).astype(np.float16),
        handle.model.space("document", 24),
        embedder=make_embedder(student),
        teacher=handle,
        reference=f"model:{folder / 'teacher'}",
    )
    pair.save(folder / "pair")
    return folder / "pair"
