"""A small index that lost its model, and the recipe that rescues it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tiny

from leafkit.models.checkpoint import read_encoder


def recipe_of(home: Path, place: Path) -> Path:
    """A recipe of a rescue in seconds, its artifacts in ``place``/ck/mine."""
    plain = tiny.tiny_recipe(home, place / "ck")
    del plain["teacher"], plain["data"]
    plain["data"] = {"num_made_queries": 400, "made_query_vectors": "source"}
    plain["student"] |= {
        "start_weight": 1,
        "losses": {"l2": 0, "score_kl": 1},
        "head_steps": 8,
        "num_checks": 2,
    }
    return tiny.write_recipe(place / "mine.yaml", plain)


def lost_vectors(home: Path, texts: Sequence[str]) -> np.ndarray:
    """(n, 48) what the lost model left."""
    lost = read_encoder(home / "big")
    found: np.ndarray = lost.finish(lost(lost.tokenize(list(texts), "document"))).detach().numpy()
    return found


def write_index(folder: Path, texts: Sequence[str], vectors: np.ndarray, title: str = "") -> Path:
    """Texts and vectors as vectors:FOLDER reads them."""
    folder.mkdir(exist_ok=True)
    rows = [{"id": f"d{i}", "title": title, "text": text} for i, text in enumerate(texts)]
    tiny.write_lines(folder / "documents.jsonl", rows)
    np.save(folder / "documents.npy", vectors)
    return folder
