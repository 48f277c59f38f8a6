"""A student distilled in memory from tiny models, of any kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tiny
import torch

import leafkit
from leafkit.config import StudentConfig
from leafkit.models.text_encoder import TextEncoder

DOCUMENTS = [document for _, document in tiny.make_pairs()]
QUERIES = [f"{query} number {n}" for query, _ in tiny.make_pairs()[:50] for n in range(10)]


def distill(home: Path, config: StudentConfig, init: str = "") -> leafkit.Pair:
    """In float32 on the CPU.

    Args:
        home: of ``tiny.make_home``.
        config: of the student.
        init: that it begins as; the small model unless said.
    """
    return leafkit.distill(
        f"model:{home / 'big'}",
        init or f"model:{home / 'small'}",
        DOCUMENTS,
        QUERIES,
        config=config,
        max_query_tokens=32,
        max_document_tokens=48,
        num_pseudo_texts=16,
        device="cpu",
        precision="float32",
    )


def distill_from(home: Path, teacher, texts=None, queries=None, start=None, **config):
    """From any teacher, with no pseudo-texts.

    Args:
        home: of ``tiny.make_home``.
        teacher: a reference or an encoder.
        texts: documents; those of above unless given.
        queries: likewise.
        start: what the student begins as; the small model unless given.
        config: of the student.
    """
    settings = {"tokens_per_batch": 512, "num_ridge_texts": 512, "num_epochs": 0.3} | config
    return leafkit.distill(
        teacher,
        start or f"model:{home / 'small'}",
        DOCUMENTS if texts is None else texts,
        QUERIES if queries is None else queries,
        config=StudentConfig(**settings),
        max_query_tokens=32,
        max_document_tokens=48,
        num_pseudo_texts=0,
        device="cpu",
        precision="float32",
    )


def cosines(pair: leafkit.Pair, teacher: TextEncoder, texts: list[str]) -> np.ndarray:
    """(n,) of the student's vectors of queries to the teacher's."""
    with torch.no_grad():
        expected = teacher(teacher.tokenize(texts, "query")).numpy()
    found = pair.encode_query(texts)
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    return np.einsum("nd,nd->n", found, expected) / lengths


def weights(pair: leafkit.Pair) -> torch.Tensor:
    """All of the student, in one row."""
    return torch.cat([value.flatten() for value in pair.student.state_dict().values()])
