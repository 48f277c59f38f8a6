"""Exact search against numpy."""

from __future__ import annotations

import numpy as np
import pytest

from leafkit.core.errors import LeafkitError
from leafkit.index import vectors
from leafkit.index.exact import (
    TieCompletion,
    TopK,
    nearest_others,
    scan,
    search_exact,
)
from leafkit.index.ranking import longest_length, order_ties, rounding

GENERATOR = np.random.default_rng(0)
QUERIES = GENERATOR.normal(size=(7, 16)).astype(np.float32)
DOCUMENTS = GENERATOR.normal(size=(50, 16)).astype(np.float32)


@pytest.mark.parametrize("k", [1, 5, 50])
def test_flat_search_equals_a_sort_in_numpy(k):
    scores = QUERIES @ DOCUMENTS.T
    order = np.argsort(-scores, axis=1)[:, :k]
    found = search_exact(QUERIES, DOCUMENTS, k)
    assert np.array_equal(found.positions, order)
    assert np.allclose(found.scores, np.take_along_axis(scores, order, axis=1), atol=1e-5)


def test_flat_search_takes_float16_and_strided_arrays():
    wide = np.repeat(DOCUMENTS, 2, axis=1)
    found = search_exact(QUERIES.astype(np.float64), wide[:, ::2].astype(np.float16), 5)
    expected = np.argsort(-(QUERIES @ DOCUMENTS.astype(np.float16).astype(np.float32).T), axis=1)[
        :, :5
    ]
    assert np.array_equal(found.positions, expected)


def test_k_above_the_number_of_documents_gives_all_of_them():
    found = search_exact(QUERIES, DOCUMENTS[:3], 100)
    assert found.positions.shape == found.scores.shape == (7, 3)
    assert sorted(found.positions[0].tolist()) == [0, 1, 2]


def test_nearest_others_equals_numpy_without_the_diagonal():
    unit = DOCUMENTS / np.linalg.norm(DOCUMENTS, axis=1, keepdims=True)
    scores = unit @ unit.T
    np.fill_diagonal(scores, -np.inf)
    assert np.array_equal(nearest_others(unit, 6), np.argsort(-scores, axis=1)[:, :6])


def test_nearest_others_of_duplicates_never_names_the_row_itself():
    unit = np.eye(4, dtype=np.float32)[[0, 0, 0, 0, 0, 1, 2]]
    found = nearest_others(unit, 3)
    assert found.shape == (7, 3)
    assert not (found == np.arange(7)[:, None]).any()
    assert set(found[0].tolist()) <= {1, 2, 3, 4}
    assert all(len(set(row)) == 3 for row in found.tolist())


def settled(scores: np.ndarray, ties: np.ndarray, k: int) -> list[list[int]]:
    """The k best positions of each row by a plain sort."""
    return [
        sorted(range(len(row)), key=lambda p, row=row: (-row[p], ties[p]))[:k]
        for row in scores.tolist()
    ]


@pytest.mark.parametrize("k", [1, 3, 7, 10, 60, 200, 300])
@pytest.mark.parametrize("copies", [1, 3, 50])
def test_flat_search_with_ties_equals_a_sort_by_score_and_place(k, copies):
    """Equal vectors lie apart; 50 copies are more than the search's spare depth."""
    generator = np.random.default_rng(copies)
    base = generator.integers(-3, 4, size=(200 // copies, 16)).astype(np.float32)
    documents = np.tile(base, (copies, 1))
    ties = generator.permutation(len(documents))
    scores = QUERIES.round().astype(np.float64) @ documents.T.astype(np.float64)
    found = search_exact(QUERIES.round(), documents, k, ties)
    assert found.positions.tolist() == settled(scores, ties, k)
    assert np.array_equal(
        found.scores, np.take_along_axis(scores, found.positions, axis=1).astype(np.float32)
    )


@pytest.mark.parametrize("k", [1, 10, 100, 200])
@pytest.mark.parametrize("num_bytes", [1, 2, 8])
def test_search_of_signs_with_ties_equals_a_sort_by_hamming_distance_and_place(k, num_bytes):
    """200 codes of 8 bits: most distances are shared by more documents than the search's spare
    depth.
    """
    generator = np.random.default_rng(num_bytes)
    documents = generator.integers(0, 256, (200, num_bytes), dtype=np.uint8)
    queries = generator.integers(0, 256, (9, num_bytes), dtype=np.uint8)
    ties = generator.permutation(200)
    distances = np.unpackbits(queries[:, None] ^ documents, axis=2).sum(axis=2).astype(int)
    bits = (np.unpackbits(x, axis=1).astype(np.float32) for x in (queries, documents))
    found = search_exact(*(2 * x - 1 for x in bits), k, ties)
    assert found.positions.tolist() == settled(-distances.astype(float), ties, k)
    nearest = np.take_along_axis(distances, found.positions, axis=1)
    assert np.array_equal(found.scores, 8 * num_bytes - 2 * nearest)


def test_a_collection_of_equal_documents_is_ordered_by_place_alone(monkeypatch):
    monkeypatch.setattr("leafkit.index.exact._SCAN_ENTRIES", 64)  # many small blocks
    ties = np.random.default_rng(0).permutation(300)
    best = np.argsort(ties)[:5].tolist()
    ones = np.ones((300, 16), dtype=np.float32)
    assert search_exact(QUERIES, ones, 5, ties).positions.tolist() == [best] * 7


def test_equal_vectors_get_equal_scores_wherever_they_lie():
    """faiss adds in blocks, and gives the copies of one vector scores an ulp apart."""
    generator = np.random.default_rng(3)
    documents = generator.normal(size=(1500, 384)).astype(np.float32)
    documents[generator.permutation(1500)[:400]] = documents[7]
    queries = documents[7] + generator.normal(size=(20, 384)).astype(np.float32) / 10
    found = search_exact(queries, documents, 100, np.arange(1500))
    assert all(len(set(row)) == 1 for row in found.scores.tolist())
    assert (np.diff(found.positions, axis=1) > 0).all()


def test_a_long_document_vector_beside_short_ones_does_not_spoil_the_order():
    """Rounding is bounded by the longest vector, which opens every row: all are then compared
    exactly.
    """
    documents = np.concatenate([DOCUMENTS, 1e6 * DOCUMENTS[:1]])
    scores = QUERIES.astype(np.float64) @ documents.T.astype(np.float64)
    ties = np.arange(51)
    assert search_exact(QUERIES, documents, 5, ties).positions.tolist() == settled(scores, ties, 5)


@pytest.mark.parametrize("ties", [None, np.arange(50)])
def test_nothing_to_search_gives_nothing(ties):
    assert search_exact(QUERIES[:0], DOCUMENTS, 5, ties).positions.shape == (0, 5)
    assert search_exact(
        QUERIES, DOCUMENTS[:0], 5, None if ties is None else ties[:0]
    ).positions.shape == (7, 0)


# --- documents in blocks


def blocks_of(documents: np.ndarray, rows: int) -> list[tuple[int, np.ndarray]]:
    return [(start, documents[start : start + rows]) for start in range(0, len(documents), rows)]


@pytest.mark.parametrize("block_rows", [1, 7, 97, 1500, 4096])
@pytest.mark.parametrize("has_ties", [False, True])
@pytest.mark.parametrize("copies", [1, 3, 100])
def test_documents_in_blocks_equal_a_sort_in_numpy(block_rows, has_ties, copies, monkeypatch):
    """float16 is read in blocks. Whole numbers score without rounding, and copies tie across
    blocks."""
    monkeypatch.setattr(vectors, "BLOCK_ROWS", block_rows)
    generator = np.random.default_rng(copies)
    base = generator.integers(-9, 10, size=(300 // copies, 16)).astype(np.float16)
    documents, queries = np.tile(base, (copies, 1)), QUERIES.round()
    places = generator.permutation(len(documents))
    scores = queries.astype(np.float64) @ documents.T.astype(np.float64)
    found = search_exact(queries, documents, 10, places if has_ties else None)
    assert np.array_equal(found.scores, -np.sort(-scores, axis=1)[:, :10])
    assert np.array_equal(found.scores, np.take_along_axis(scores, found.positions, axis=1))
    if has_ties:
        assert found.positions.tolist() == settled(scores, places, 10)


def test_a_memory_map_gives_what_the_array_gives(tmp_path, monkeypatch):
    mapped = np.memmap(tmp_path / "map", dtype=np.float32, mode="w+", shape=DOCUMENTS.shape)
    mapped[:] = DOCUMENTS
    monkeypatch.setattr(vectors, "BLOCK_ROWS", 16)
    for places in (None, np.arange(50)):
        found, expected = (search_exact(QUERIES, d, 5, places) for d in (mapped, DOCUMENTS))
        assert np.array_equal(found.positions, expected.positions)
        assert np.allclose(found.scores, expected.scores, atol=1e-6)


def test_documents_read_in_blocks_must_be_finite():
    documents = DOCUMENTS.astype(np.float16)
    documents[3] = np.nan
    with pytest.raises(LeafkitError, match="document 3 is not finite"):
        search_exact(QUERIES, documents, 10)


@pytest.mark.parametrize("rows", [1, 3, 20, 50])
def test_the_best_of_blocks_are_the_best_of_all_and_the_earlier_of_equals_stays(rows):
    documents = np.concatenate([DOCUMENTS[:25]] * 2)
    best = TopK(QUERIES, 8)
    for start, block in blocks_of(documents, rows):
        best.add(block, start)
    scores = QUERIES.astype(np.float64) @ documents.T.astype(np.float64)
    # copies lie 25 apart; equals of one block come as faiss has them
    assert np.allclose(best.scores, -np.sort(-scores, axis=1)[:, :8], atol=1e-5)
    if rows <= 25:
        assert best.positions.tolist() == np.argsort(-scores, axis=1, kind="stable")[:, :8].tolist()


@pytest.mark.parametrize("rows", [1, 3, 50])
def test_the_nearest_bits_of_blocks_are_the_nearest_of_all(rows):
    queries, documents = (np.packbits(x > 0, axis=1) for x in (QUERIES, DOCUMENTS))
    best = TopK(queries, 50, hamming=True)
    for start, block in blocks_of(documents, rows):
        best.add(block, start)
    distances = np.unpackbits(queries[:, None] ^ documents, axis=2).sum(axis=2).astype(int)
    assert np.array_equal(best.scores, -np.sort(distances, axis=1))
    assert all(sorted(row) == list(range(50)) for row in best.positions.tolist())


def test_more_places_than_documents_stay_unfilled():
    best = TopK(QUERIES, 60)
    best.add(DOCUMENTS, 0)
    assert (best.positions[:, 50:] == -1).all()
    assert (best.scores[:, 50:] == -np.inf).all()
    assert (np.sort(best.positions[:, :50], axis=1) == np.arange(50)).all()


@pytest.mark.parametrize("entries", [1, 120, 2**22])
def test_a_scan_finds_what_lies_within_bounds(entries, monkeypatch):
    monkeypatch.setattr("leafkit.index.exact._SCAN_ENTRIES", entries)
    scores = QUERIES @ DOCUMENTS.T
    low, high = np.full(7, -1.0), np.linspace(0, 3, 7)
    for bound in (None, high):
        top = np.full(7, np.inf) if bound is None else high
        found = list(scan(QUERIES, DOCUMENTS, low, bound))
        assert [row for row, _, _ in found] == list(range(7))
        for row, columns, values in found:
            within = np.flatnonzero((scores[row] >= low[row]) & (scores[row] <= top[row]))
            assert columns.tolist() == within.tolist()
            assert np.allclose(values, scores[row, within], atol=1e-5)


@pytest.mark.parametrize("rows", [1, 16, 100, 300])
@pytest.mark.parametrize("level", [False, True])
def test_a_group_that_was_cut_off_gets_its_first_members(rows, level):
    """Three documents 100 times each in random order: twelve places cut through the first group,
    or through the second where ten of the first were taken away.
    """
    generator = np.random.default_rng(1)
    which = generator.permutation(np.repeat(np.arange(3), [10, 100, 190]))
    documents = np.array([[2, 1], [1, 1], [0, 1]], dtype=np.float32)[which]
    queries = np.array([[1, 0.1]], dtype=np.float32)
    best = TopK(queries, 60)
    for start, block in blocks_of(documents, rows):
        best.add(block, start)
    tolerance = rounding(queries, longest_length(documents))
    last_group = order_ties(best.scores, best.positions, tolerance, level=level)
    assert last_group.tolist() == [10]
    completion = TieCompletion(best, np.array([0]), last_group, tolerance)
    for start, block in blocks_of(documents, rows):
        completion.add(block, start)
    completion.finish(level=level)
    expected = [*np.flatnonzero(which == 0), *np.flatnonzero(which == 1)[:50]]
    assert best.positions[0].tolist() == expected
    assert np.allclose(best.scores[0], documents[expected] @ queries[0], atol=1e-6)
