"""Exact search against numpy."""

from __future__ import annotations

import numpy as np
import pytest

from leafkit.index.exact import (
    Ranking,
    break_ties,
    exclude_self,
    nearest_others,
    search_binary,
    search_flat,
    tie_order,
)

GENERATOR = np.random.default_rng(0)
QUERIES = GENERATOR.normal(size=(7, 16)).astype(np.float32)
DOCUMENTS = GENERATOR.normal(size=(50, 16)).astype(np.float32)


@pytest.mark.parametrize("k", [1, 5, 50])
def test_flat_search_equals_a_sort_in_numpy(k):
    scores = QUERIES @ DOCUMENTS.T
    order = np.argsort(-scores, axis=1)[:, :k]
    found = search_flat(QUERIES, DOCUMENTS, k)
    assert np.array_equal(found.positions, order)
    assert np.allclose(found.scores, np.take_along_axis(scores, order, axis=1), atol=1e-5)


def test_flat_search_takes_float16_and_strided_arrays():
    wide = np.repeat(DOCUMENTS, 2, axis=1)
    found = search_flat(QUERIES.astype(np.float64), wide[:, ::2].astype(np.float16), 5)
    expected = np.argsort(-(QUERIES @ DOCUMENTS.astype(np.float16).astype(np.float32).T), axis=1)[
        :, :5
    ]
    assert np.array_equal(found.positions, expected)


@pytest.mark.parametrize("search", [search_flat, search_binary])
def test_k_above_the_number_of_documents_gives_all_of_them(search):
    queries, documents = (
        (QUERIES, DOCUMENTS)
        if search is search_flat
        else (np.packbits(QUERIES > 0, axis=1), np.packbits(DOCUMENTS > 0, axis=1))
    )
    found = search(queries, documents[:3], 100)
    assert found.positions.shape == found.scores.shape == (7, 3)
    assert sorted(found.positions[0].tolist()) == [0, 1, 2]


def test_binary_search_equals_hamming_distances_in_numpy():
    bits = QUERIES > 0, DOCUMENTS > 0
    distances = (bits[0][:, None, :] != bits[1][None, :, :]).sum(axis=2)
    found = search_binary(np.packbits(bits[0], axis=1), np.packbits(bits[1], axis=1), 50)
    assert np.array_equal(found.scores, -np.sort(distances, axis=1))
    assert np.array_equal(np.take_along_axis(distances, found.positions, axis=1), -found.scores)
    assert all(sorted(row) == list(range(50)) for row in found.positions.tolist())


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


def test_equals_are_ordered_by_id_as_text_the_greater_first():
    assert tie_order(["a", "b10", "b9", "", "\u00e9", "\U0001f600", "\uffff"]).tolist() == [
        5,
        4,
        3,
        6,
        2,
        0,
        1,
    ]
    assert tie_order([]).tolist() == []


@pytest.mark.parametrize("k", [1, 3, 7, 10, 60, 200, 300])
@pytest.mark.parametrize("copies", [1, 3, 50])
def test_flat_search_with_ties_equals_a_sort_by_score_and_place(k, copies):
    """Equal vectors lie apart; 50 copies are more than the search's spare depth."""
    generator = np.random.default_rng(copies)
    base = generator.integers(-3, 4, size=(200 // copies, 16)).astype(np.float32)
    documents = np.tile(base, (copies, 1))
    ties = generator.permutation(len(documents))
    scores = QUERIES.round().astype(np.float64) @ documents.T.astype(np.float64)
    found = search_flat(QUERIES.round(), documents, k, ties)
    assert found.positions.tolist() == settled(scores, ties, k)
    assert np.array_equal(
        found.scores, np.take_along_axis(scores, found.positions, axis=1).astype(np.float32)
    )


@pytest.mark.parametrize("k", [1, 10, 100, 200])
@pytest.mark.parametrize("num_bytes", [1, 2, 8])
def test_binary_search_with_ties_equals_a_sort_by_distance_and_place(k, num_bytes):
    """200 codes of 8 bits: most distances are shared by more documents than the search's spare
    depth.
    """
    generator = np.random.default_rng(num_bytes)
    documents = generator.integers(0, 256, (200, num_bytes), dtype=np.uint8)
    queries = generator.integers(0, 256, (9, num_bytes), dtype=np.uint8)
    ties = generator.permutation(200)
    distances = np.unpackbits(queries[:, None] ^ documents, axis=2).sum(axis=2).astype(int)
    found = search_binary(queries, documents, k, ties)
    assert found.positions.tolist() == settled(-distances.astype(float), ties, k)
    assert np.array_equal(found.scores, -np.take_along_axis(distances, found.positions, axis=1))


def test_a_collection_of_equal_documents_is_ordered_by_place_alone(monkeypatch):
    monkeypatch.setattr("leafkit.index.exact._BLOCK_ENTRIES", 64)  # many small blocks
    ties = np.random.default_rng(0).permutation(300)
    best = np.argsort(ties)[:5].tolist()
    ones = np.ones((300, 16), dtype=np.float32)
    assert search_flat(QUERIES, ones, 5, ties).positions.tolist() == [best] * 7
    bits = np.packbits(ones > 0, axis=1)
    assert search_binary(bits[:7], bits, 5, ties).positions.tolist() == [best] * 7


def test_equal_vectors_get_equal_scores_wherever_they_lie():
    """faiss adds in blocks, and gives the copies of one vector scores an ulp apart."""
    generator = np.random.default_rng(3)
    documents = generator.normal(size=(1500, 384)).astype(np.float32)
    documents[generator.permutation(1500)[:400]] = documents[7]
    queries = documents[7] + generator.normal(size=(20, 384)).astype(np.float32) / 10
    found = search_flat(queries, documents, 100, np.arange(1500))
    assert all(len(set(row)) == 1 for row in found.scores.tolist())
    assert (np.diff(found.positions, axis=1) > 0).all()


def test_a_long_document_vector_beside_short_ones_does_not_spoil_the_order():
    """Rounding is bounded by the longest vector, which opens every row: all are then compared
    exactly.
    """
    documents = np.concatenate([DOCUMENTS, 1e6 * DOCUMENTS[:1]])
    scores = QUERIES.astype(np.float64) @ documents.T.astype(np.float64)
    ties = np.arange(51)
    assert search_flat(QUERIES, documents, 5, ties).positions.tolist() == settled(scores, ties, 5)


@pytest.mark.parametrize("ties", [None, np.arange(50)])
def test_nothing_to_search_gives_nothing(ties):
    assert search_flat(QUERIES[:0], DOCUMENTS, 5, ties).positions.shape == (0, 5)
    assert search_flat(
        QUERIES, DOCUMENTS[:0], 5, None if ties is None else ties[:0]
    ).positions.shape == (7, 0)
    bits = np.packbits(DOCUMENTS > 0, axis=1)
    assert search_binary(bits[:0], bits, 5, ties).positions.shape == (0, 5)
    assert search_binary(
        bits[:3], bits[:0], 5, None if ties is None else ties[:0]
    ).positions.shape == (3, 0)


def test_settling_puts_unfilled_places_last_whatever_their_score():
    ranking = Ranking(np.array([[-1, 3, 1, -1, 2]]), np.array([[9.0, 1.0, 1.0, 0.0, 2.0]]))
    assert break_ties(ranking, np.array([0, 2, 1, 0])).positions.tolist() == [[2, 3, 1, -1, -1]]
    assert break_ties(ranking, np.array([0, 1, 1, 2]), 2).positions.tolist() == [[2, 1]]


def test_a_query_s_own_document_is_left_out_and_the_next_ones_move_up():
    ranking = Ranking(
        np.array([[4, 2, 7], [4, 2, 7], [4, 2, 7], [4, 2, -1]]),
        np.array([[3.0, 2.0, 1.0]] * 4, dtype=np.float32),
    )
    found = exclude_self(ranking, [2, 9, -1, 4], 2)
    assert found.positions.tolist() == [[4, 7], [4, 2], [4, 2], [2, -1]]
    assert found.scores[:3].tolist() == [[3, 1], [3, 2], [3, 2]]
    assert found.scores.dtype == np.float32
    assert exclude_self(ranking, [-1] * 4, 2).positions.tolist() == [[4, 2]] * 4
    assert exclude_self(ranking, [2, 9, -1, 4], 3).positions.tolist() == [
        [4, 7, -1],
        [4, 2, 7],
        [4, 2, 7],
        [2, -1, -1],
    ]
