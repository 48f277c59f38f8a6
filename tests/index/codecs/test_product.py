"""Product quantisation: parity with faiss, and the nearest centroids in numpy."""

from __future__ import annotations

import faiss
import numpy as np
import pytest

from leafkit.core.truncate import truncate_then_normalize
from leafkit.index.codecs.product import pq_groups, train_product

DIM = 24
GENERATOR = np.random.default_rng(0)
DOCUMENTS = truncate_then_normalize(GENERATOR.normal(size=(600, DIM)).astype(np.float32))
QUERIES = truncate_then_normalize(GENERATOR.normal(size=(50, DIM)).astype(np.float32))
CODEC = train_product(DOCUMENTS, 3, 0)


def test_pq_scores_are_those_of_faiss():
    """Inner products with restored vectors are what faiss computes from its tables."""
    index = faiss.IndexPQ(DIM, 3, 8, faiss.METRIC_INNER_PRODUCT)
    faiss.copy_array_to_vector(CODEC.scale()["centroids"].ravel(), index.pq.centroids)
    index.is_trained = True
    index.add(DOCUMENTS)
    codes = faiss.vector_to_array(index.codes).reshape(len(DOCUMENTS), -1)
    assert np.array_equal(codes, CODEC.encode(DOCUMENTS))
    scores, positions = index.search(QUERIES, 5)
    expected = QUERIES @ CODEC.decode(CODEC.encode(DOCUMENTS)).T
    assert np.allclose(scores, np.take_along_axis(expected, positions, axis=1), atol=1e-5)
    assert np.allclose(scores, -np.sort(-expected, axis=1)[:, :5], atol=1e-5)


def test_pq_codes_name_the_nearest_centroid():
    centroids = CODEC.scale()["centroids"]
    assert centroids.shape == (3, 256, 8)
    groups = QUERIES.reshape(-1, 3, 8)
    distances = ((groups[:, :, None, :] - centroids[None]) ** 2).sum(axis=3)
    chosen = np.take_along_axis(distances, CODEC.encode(QUERIES)[:, :, None].astype(int), axis=2)[
        :, :, 0
    ]
    assert np.allclose(chosen, distances.min(axis=2), atol=1e-5)


def test_256_documents_are_enough_for_pq_and_each_is_its_own_centroid():
    codec = train_product(DOCUMENTS[:256], 3, 0)
    assert np.abs(codec.round_trip(DOCUMENTS[:256]) - DOCUMENTS[:256]).max() < 0.6


@pytest.mark.parametrize(
    ("dim", "groups"), [(768, 96), (64, 8), (20, 2), (12, 1), (7, 1), (1, 1), (50, 5), (100, 10)]
)
def test_pq_takes_a_bit_per_dimension_or_fewer(dim, groups):
    assert pq_groups(dim, 0) == groups
    assert dim % groups == 0
