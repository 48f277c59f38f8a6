"""A student distilled in memory from tiny models, of any kind."""

from __future__ import annotations

from pathlib import Path

import tiny
import torch

import leafkit
from leafkit.config import StudentConfig

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


def weights(pair: leafkit.Pair) -> torch.Tensor:
    """All of the student, in one row."""
    return torch.cat([value.flatten() for value in pair.student.state_dict().values()])
