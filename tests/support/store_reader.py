"""A process that reads a store, so that its memory is its own: prints how far it grew, in MiB, as
JSON.

python store_reader.py FOLDER NUM_ROWS DIM random|whole
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from leafkit.core.system import resident_mib
from leafkit.data.vector_store import Space, VectorStore

BATCH_SIZE, NUM_BATCHES = 256, 200
_PRIME = 2039  # numbers below 1024 in size are exact in float16


def make_texts(num_rows: int) -> list[str]:
    """One text per row."""
    return [f"text {i}" for i in range(num_rows)]


def make_vectors(rows: np.ndarray, dim: int) -> np.ndarray:
    """(n, dim) the vectors that the rows hold, no two alike and all exact in float16."""
    numbers = (rows[:, None] * 31 + np.arange(dim) * 17) % _PRIME
    numbers[:, 0] = rows // _PRIME
    return (numbers - 1019).astype(np.float32) / 1024


def make_store(folder: Path, num_rows: int, dim: int) -> VectorStore:
    """The store of these texts; empty until it is filled."""
    space = Space(
        teacher="f00d", dim=dim, prompt="", max_tokens=64, pooling="mean", normalized=False
    )
    return VectorStore(folder, space, make_texts(num_rows))


def main() -> None:
    """Read random batches, or everything at once, and compare each row."""
    folder, num_rows, dim = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    generator = np.random.default_rng(0)
    make_texts(num_rows)  # what the caller holds is no growth of the store
    make_vectors(np.arange(BATCH_SIZE), dim)
    before = resident_mib()
    store = make_store(folder, num_rows, dim)
    assert store.missing() == []
    most = resident_mib()
    if sys.argv[4] == "whole":
        found = store[:]
        most = max(most, resident_mib())
        np.testing.assert_array_equal(
            found[-BATCH_SIZE:], make_vectors(np.arange(num_rows)[-BATCH_SIZE:], dim)
        )
    else:
        for _ in range(NUM_BATCHES):
            rows = generator.integers(0, num_rows, BATCH_SIZE)
            found = store[rows]
            most = max(most, resident_mib())
            np.testing.assert_array_equal(found, make_vectors(rows, dim))
    sys.stdout.write(json.dumps({"grown_mib": most - before}))


if __name__ == "__main__":
    main()
