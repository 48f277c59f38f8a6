"""Search without known documents, against a sort in numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from leafkit.core.errors import LeafkitError
from leafkit.data.vector_store import Space, VectorStore
from leafkit.index.exclusion import search_excluding

GENERATOR = np.random.default_rng(0)
# whole numbers: scores have no rounding, and tie everywhere
DOCUMENTS = GENERATOR.integers(-2, 3, size=(120, 6)).astype(np.float32)
QUERIES = GENERATOR.integers(-2, 3, size=(25, 6)).astype(np.float32)
KNOWN = [
    set(GENERATOR.choice(120, size=size, replace=False).tolist())
    for size in (0, 1, 5, 60, 119, 120, *GENERATOR.integers(0, 20, size=19))
]


def search(queries, num_ranks: int, **more) -> tuple[np.ndarray, np.ndarray]:
    """(Q, K) positions and scores of all blocks, in the order of the queries."""
    positions = np.full((len(KNOWN), num_ranks), -2)
    scores = np.zeros((len(KNOWN), num_ranks), dtype=np.float32)
    numbers = np.arange(len(KNOWN))
    for block in search_excluding(queries, numbers, DOCUMENTS, KNOWN, num_ranks=num_ranks, **more):
        assert np.array_equal(block.queries, QUERIES[block.members])
        positions[block.members], scores[block.members] = block.positions, block.scores
    return positions, scores


def sort_by_hand(num_ranks: int) -> tuple[np.ndarray, np.ndarray]:
    positions = np.full((len(KNOWN), num_ranks), -1)
    scores = np.full((len(KNOWN), num_ranks), -np.inf)
    for row, known in enumerate(KNOWN):
        all_scores = DOCUMENTS.astype(np.float64) @ QUERIES[row].astype(np.float64)
        order = [d for d in np.argsort(-all_scores, kind="stable") if d not in known][:num_ranks]
        positions[row, : len(order)], scores[row, : len(order)] = order, all_scores[order]
    return positions, scores


@pytest.mark.parametrize("num_ranks", [1, 7, 40, 120, 200])
@pytest.mark.parametrize("block_rows", [1, 4, 4096])
def test_equals_a_sort_of_the_other_documents(num_ranks: int, block_rows: int) -> None:
    positions, scores = search(QUERIES, num_ranks, block_rows=block_rows)
    expected_positions, expected_scores = sort_by_hand(num_ranks)
    assert np.array_equal(positions, expected_positions)
    assert np.array_equal(scores, expected_scores)


def test_a_store_of_queries_gives_what_the_array_gives(tmp_path: Path) -> None:
    texts = [f"text {i}" for i in range(len(QUERIES))]
    store = VectorStore(
        tmp_path / "store",
        Space(teacher="t", dim=6, prompt="", max_tokens=8, pooling="mean", normalized=True),
        texts,
    )
    for shard in store.missing():
        store.write(shard, QUERIES[shard.start : shard.stop])
    for found, expected in zip(search(store, 7), search(QUERIES, 7), strict=True):
        assert np.array_equal(found, expected)


def test_only_the_queries_asked_for_are_searched() -> None:
    numbers = np.array([9, 3])
    blocks = list(search_excluding(QUERIES, numbers, DOCUMENTS, [KNOWN[9], KNOWN[3]], num_ranks=7))
    members = np.concatenate([block.members for block in blocks])
    positions = np.concatenate([block.positions for block in blocks])
    assert np.array_equal(positions, sort_by_hand(7)[0][numbers[members]])
    assert sorted(members.tolist()) == [0, 1]


def test_a_query_that_is_not_finite_is_named() -> None:
    queries = QUERIES.copy()
    queries[4, 0] = np.nan
    with pytest.raises(LeafkitError, match="query 4 is not finite"):
        search(queries, 7)


def test_a_known_document_below_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="position -3"):
        list(search_excluding(QUERIES, np.array([0]), DOCUMENTS, [{-3}], num_ranks=7))
