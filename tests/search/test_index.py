"""Exact search against numpy."""

from __future__ import annotations

import numpy as np
import pytest

from leafkit.search.index import nearest_others, search_binary, search_flat

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
    expected = np.argsort(-(QUERIES @ DOCUMENTS.astype(np.float16).astype(np.float32).T), axis=1)[:, :5]
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
