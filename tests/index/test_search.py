"""Searching: equal to numpy where a kind is exact, better with a wider search where it is not."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from index_case import CONFIG, KINDS, make_documents, make_index, make_queries, sort_exactly

from leafkit.index.search import search_index

DOCUMENTS = make_documents()
QUERIES = make_queries(DOCUMENTS)
EXACT = sort_exactly(QUERIES, DOCUMENTS, 10)


def recall(positions):
    return np.mean(
        [len(set(a) & set(b)) / 10 for a, b in zip(positions.tolist(), EXACT.tolist(), strict=True)]
    )


def test_flat_equals_a_sort_in_numpy():
    found = search_index(make_index(DOCUMENTS, "flat"), QUERIES, 10, 0)
    assert np.array_equal(found.positions, EXACT)
    assert np.allclose(
        found.scores, np.take_along_axis(QUERIES @ DOCUMENTS.T, EXACT, axis=1), atol=1e-6
    )


@pytest.mark.parametrize("kind", ["ivf_flat"])
def test_all_lists_probed_are_exact(kind):
    assert np.array_equal(
        search_index(make_index(DOCUMENTS, kind), QUERIES, 10, 16).positions, EXACT
    )


def test_an_hnsw_search_as_wide_as_the_collection_is_exact():
    assert np.array_equal(
        search_index(make_index(DOCUMENTS, "hnsw"), QUERIES, 10, len(DOCUMENTS)).positions, EXACT
    )


@pytest.mark.parametrize("kind", [k for k in KINDS if k not in ("flat", "int8", "binary")])
def test_recall_does_not_fall_with_a_wider_search(kind):
    built = make_index(DOCUMENTS, kind, replace(CONFIG, rescore_factors=[1, 4, 16]))
    recalls = [
        recall(search_index(built, QUERIES, 10, s, documents=DOCUMENTS).positions)
        for s in built.plan.settings
    ]
    assert len(recalls) == 3
    # RaBitQ's estimates from different lists are not quite comparable at 32-d
    slack = 0.05 if kind == "rabitq" else 0.01
    assert all(wider >= narrower - slack for narrower, wider in pairwise(recalls))
    assert kind == "rabitq" or recalls[-1] > recalls[0]


def test_a_setting_holds_for_its_own_search_alone():
    built = make_index(DOCUMENTS, "hnsw")
    narrow = search_index(built, QUERIES, 10, 10).positions
    search_index(built, QUERIES, 10, 1500)
    assert np.array_equal(search_index(built, QUERIES, 10, 10).positions, narrow)


def test_int8_is_nearly_exact():
    assert recall(search_index(make_index(DOCUMENTS, "int8"), QUERIES, 10, 0).positions) > 0.95


@pytest.mark.parametrize("dim", [32, 31, 9, 3])
def test_binary_equals_hamming_distances_in_numpy_also_where_bytes_are_not_full(dim):
    documents, queries = DOCUMENTS[:, :dim], QUERIES[:, :dim]
    distances = ((queries > 0)[:, None, :] != (documents > 0)[None, :, :]).sum(axis=2)
    found = search_index(make_index(documents, "binary"), queries, 25, 0)
    assert np.array_equal(found.scores, -np.sort(distances, axis=1)[:, :25])
    assert np.array_equal(np.take_along_axis(distances, found.positions, axis=1), -found.scores)
    assert all(len(set(row)) == 25 for row in found.positions.tolist())


@pytest.mark.parametrize("factor", [150, 10_000])
def test_rescoring_all_documents_is_exact(factor):
    found = search_index(
        make_index(DOCUMENTS, "binary_rescored"), QUERIES, 10, factor, documents=DOCUMENTS
    )
    assert np.array_equal(found.positions, EXACT)
    assert np.allclose(
        found.scores, np.take_along_axis(QUERIES @ DOCUMENTS.T, EXACT, axis=1), atol=1e-6
    )


def test_rescoring_once_k_reorders_what_binary_found():
    binary = search_index(make_index(DOCUMENTS, "binary"), QUERIES, 10, 0)
    rescored = search_index(
        make_index(DOCUMENTS, "binary_rescored"), QUERIES, 10, 1, documents=DOCUMENTS
    )
    assert np.array_equal(np.sort(binary.positions, axis=1), np.sort(rescored.positions, axis=1))
    assert (np.diff(rescored.scores, axis=1) <= 0).all()


def test_rescoring_without_documents_is_a_mistake_in_the_program():
    with pytest.raises(ValueError, match="needs the documents"):
        search_index(make_index(DOCUMENTS, "binary_rescored"), QUERIES, 10, 2)


@pytest.mark.parametrize("kind", KINDS)
def test_k_above_the_number_of_documents_gives_all_of_them(kind):
    documents = DOCUMENTS[:300]
    built = make_index(documents, kind, replace(CONFIG, num_lists=4))
    setting = max(built.plan.settings) if kind != "hnsw" else 300
    found = search_index(built, QUERIES, 1000, setting, documents=documents)
    assert found.positions.shape == (len(QUERIES), 300)
    assert set(found.positions[0].tolist()) == set(range(300))
