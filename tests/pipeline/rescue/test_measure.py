"""The certificate's figures, on an index small enough to see what must come out."""

from __future__ import annotations

import numpy as np
import pytest

from leafkit.pipeline.rescue.measure import (
    Asked,
    measure_bm25,
    measure_vectors,
    summarize,
)

# five documents on a circle, no two as far from a third
ANGLES = (0.0, 50.0, 120.0, 200.0, 290.0)


def at(*degrees: float) -> np.ndarray:
    radians = np.radians(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)


INDEX = at(*ANGLES)
TEXTS = [f"{word} stands here" for word in ("alpha", "beta", "gamma", "delta", "epsilon")]


def asked(places: list[int], depth: int) -> Asked:
    texts = [TEXTS[place] for place in places]
    return Asked(np.array(places), texts, [text.split()[0] for text in texts], INDEX, depth)


def test_the_stored_vectors_themselves_find_everything():
    one = asked([0, 3], depth=3)
    found = measure_vectors(one, one.vectors(), one.vectors())
    assert found.document_cosine == pytest.approx([1, 1])
    assert found.document_overlap.tolist() == [1, 1]
    assert found.query_overlap.tolist() == [1, 1]
    assert found.source_gain.tolist() == [1, 1]


def test_a_turned_vector_finds_the_neighbors_of_where_it_points():
    one = asked([0], depth=2)
    found = measure_vectors(one, at(70.0), at(40.0))
    assert found.document_cosine == pytest.approx(np.cos(np.radians([70.0])), abs=1e-6)
    # the document at 0 has itself and 50 nearest, and so has a query at 40, the other way round
    assert found.query_overlap.tolist() == [1.0]
    assert found.source_gain == pytest.approx([1 / np.log2(3)])
    # itself left out, 0 has 50 and 290 nearest, and 70 has 50 and 120
    assert found.document_overlap.tolist() == [0.5]


def test_bm25_finds_the_document_by_its_word_and_has_no_cosine():
    found = measure_bm25(asked([1, 4], depth=2), TEXTS)
    assert found.document_cosine is None
    assert found.source_gain.tolist() == [1, 1]


def test_an_index_of_few_documents_is_asked_for_fewer():
    one = Asked.of([0], TEXTS[:1], ["alpha"], INDEX)
    assert one.depth == 4


def test_differences_are_of_the_same_documents():
    one = asked([0, 1, 2, 3], depth=2)
    good = measure_vectors(one, one.vectors(), one.vectors())
    bad = measure_vectors(one, -one.vectors(), -one.vectors())
    systems, gain, labelled = summarize(
        {"good": good, "bad": bad, "same": good}, ("good", "bad"), num_resamples=200, seed=1
    )
    assert [system.name for system in systems] == ["good", "bad", "same"]
    assert systems[0].query_overlap == systems[2].query_overlap
    assert systems[1].document_cosine is not None
    assert systems[1].document_cosine.value == pytest.approx(-1)
    assert gain.value == pytest.approx(float((good.query_overlap - bad.query_overlap).mean()))
    assert labelled.value == pytest.approx(float((good.source_gain - bad.source_gain).mean()))
    _, none, _ = summarize(
        {"good": good, "same": good}, ("good", "same"), num_resamples=200, seed=1
    )
    assert (none.low, none.value, none.high) == (0, 0, 0)
