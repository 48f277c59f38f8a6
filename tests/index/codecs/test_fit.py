"""Codecs of all precisions: fitted on documents alone, saturating, and finite."""

from __future__ import annotations

import numpy as np
import pytest

from leafkit.config import VECTOR_PRECISIONS, InheritConfig
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.core.truncate import truncate_then_normalize
from leafkit.index.codecs.fit import fit_codecs, measure_ranges

DIM = 24
GENERATOR = np.random.default_rng(0)
DOCUMENTS = truncate_then_normalize(GENERATOR.normal(size=(600, DIM)).astype(np.float32))
QUERIES = truncate_then_normalize(GENERATOR.normal(size=(50, DIM)).astype(np.float32))


def fit(precision: str, dim: int = DIM, documents: np.ndarray = DOCUMENTS, **changes):
    return fit_codecs(documents, [dim], [precision], InheritConfig(**changes), seed=0)[
        dim, precision
    ]


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("precision", VECTOR_PRECISIONS)
@pytest.mark.parametrize("dim", [DIM, 20, 8, 7])
def test_the_round_trip_without_codes_is_encoding_and_decoding_bit_for_bit(precision, dim):
    """What licenses searching restored vectors that never were codes."""
    codec = fit(precision, dim)
    for vectors in (
        truncate_then_normalize(DOCUMENTS, dim),
        3 * truncate_then_normalize(QUERIES, dim),
    ):
        codes = codec.encode(vectors)
        restored = codec.decode(codes)
        assert restored.dtype == np.float32
        assert restored.shape == vectors.shape
        assert np.array_equal(codec.round_trip(vectors), restored)
        assert codes.nbytes == codec.bytes_per_vector * len(vectors)


def test_bytes_per_vector_by_hand():
    sizes = {precision: fit(precision, 20).bytes_per_vector for precision in VECTOR_PRECISIONS}
    assert sizes == {
        "float32": 80,
        "float16": 40,
        "int8": 20,
        "int8_fixed": 20,
        "int4": 10,
        "binary": 3,
        "pq": 2,
    }
    assert fit("int4", 7).bytes_per_vector == 4


def test_int8_fixed_takes_its_range_from_the_recipe_or_from_the_documents():
    assert fit("int8_fixed", int8_range=0.3).scale()["range"] == np.float32(0.3)
    assert fit("int8_fixed").scale()["range"] == pytest.approx(np.abs(DOCUMENTS).max(), abs=1e-6)


@pytest.mark.parametrize("precision", ["int8", "int8_fixed", "int4"])
def test_a_query_beyond_the_documents_saturates_and_keeps_its_sign(precision):
    codec = fit(precision)
    far = codec.round_trip(np.stack([np.full(DIM, 50, np.float32), np.full(DIM, -50, np.float32)]))
    assert (far[0] > 0).all()
    assert (far[1] < 0).all()
    assert np.abs(far).max() <= np.abs(DOCUMENTS).max() + 1e-6


@pytest.mark.parametrize("precision", VECTOR_PRECISIONS)
def test_the_same_documents_and_seed_give_the_same_scale(precision):
    assert same(fit(precision).scale(), fit(precision).scale())


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_calibration_is_on_documents_cut_and_then_normalized(precision):
    """Normalised before the cut, every range would be narrower and the restored vectors shorter
    than one.
    """
    cut = truncate_then_normalize(DOCUMENTS, 8)
    scale = fit(precision, 8).scale()
    assert np.array_equal(scale["low"], cut.min(axis=0))
    steps = 255 if precision == "int8" else 15
    assert np.allclose(scale["low"] + steps * scale["step"], cut.max(axis=0), atol=1e-6)


@pytest.mark.parametrize("rows", [1, 7, 599, 600, 5000])
def test_ranges_do_not_depend_on_the_blocks(rows, monkeypatch):
    whole = measure_ranges(DOCUMENTS, [DIM, 5])
    monkeypatch.setattr("leafkit.index.workers.SLAB_ROWS", rows)
    monkeypatch.setattr("leafkit.index.workers._BLOCK_NUMBERS", 3 * DIM)
    parts = measure_ranges(DOCUMENTS, [DIM, 5])
    for dim in (DIM, 5):
        assert np.array_equal(whole[dim].low, parts[dim].low)
        assert np.array_equal(whole[dim].high, parts[dim].high)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", [0, 311, 599])
def test_a_document_that_is_not_finite_is_named(bad, row):
    documents = DOCUMENTS.copy()
    documents[row, 3] = bad
    for precision in ("float32", "int8", "pq"):
        with pytest.raises(LeafkitError, match=f"the vector of document {row} is not finite"):
            fit(precision, documents=documents)


def test_too_few_documents_for_pq_is_an_error_with_both_numbers():
    with pytest.raises(
        UsageError, match="pq has 256 centroids per byte and there are 255 documents"
    ):
        fit("pq", documents=DOCUMENTS[:255])


def test_pq_bytes_that_do_not_divide_a_dimension_are_named():
    with pytest.raises(
        UsageError, match=r"inherit.pq_bytes: 5 does not divide the dimension 24, 8"
    ):
        fit_codecs(DOCUMENTS, [24, 20, 8], ["pq"], InheritConfig(pq_bytes=5), seed=0)
    assert fit("pq", 20, pq_bytes=5).bytes_per_vector == 5


def test_documents_that_never_vary_are_restored():
    equal = np.repeat(DOCUMENTS[:1], 300, axis=0)
    for precision in VECTOR_PRECISIONS:
        restored = fit(precision, documents=equal).round_trip(equal)
        assert np.isfinite(restored).all()
        if precision not in ("binary", "int8_fixed", "float16"):
            assert np.allclose(restored, equal, atol=1e-6)


def test_zero_vectors_stay_finite():
    zeros = np.zeros((300, DIM), dtype=np.float32)
    for precision in VECTOR_PRECISIONS:
        assert np.isfinite(fit(precision, documents=zeros).round_trip(zeros)).all()
