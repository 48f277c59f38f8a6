"""What a teacher finds, on an index small enough to see what must come out."""

from __future__ import annotations

import numpy as np
import pytest

from leafkit.core.errors import LeafkitError
from leafkit.evaluation.agreement import DEPTH
from leafkit.evaluation.forecast.yardstick import FEWEST, Yardstick, unit


def on_circle(count: int, turn: float = 0.0) -> np.ndarray:
    """Documents a step apart on a circle of 90 degrees."""
    at = np.linspace(0, np.pi / 2, count) + turn
    return np.stack([np.cos(at), np.sin(at)], axis=1).astype(np.float32)


@pytest.fixture
def documents() -> np.ndarray:
    return on_circle(100)


@pytest.fixture
def held_out() -> np.ndarray:
    return np.arange(20, 80, 3)


def test_the_teachers_own_vectors_find_everything(documents, held_out):
    known = Yardstick(documents, held_out, held_out, documents[held_out])
    found = known.measure(documents[held_out], documents[held_out])
    values = (found.document_overlap, found.source_overlap, found.query_overlap)
    assert values == (1.0, 1.0, 1.0)
    assert (found.source_gain, found.source_share) == (1.0, 1.0)
    assert found.document_cosine == pytest.approx(1)
    assert found.query_cosine == pytest.approx(1)


def test_queries_that_point_elsewhere_find_what_lies_there(documents, held_out):
    step = np.pi / 2 / 99
    turned = on_circle(100, turn=5 * step)[held_out]
    found = Yardstick(documents, held_out, held_out, documents[held_out]).measure(turned, turned)
    # of ten neighbors around a place five lie on the side that it moved to
    assert 0.4 <= found.query_overlap <= 0.7
    assert found.document_cosine == pytest.approx(np.cos(5 * step), abs=1e-6)
    assert found.source_share == found.source_gain
    assert found.source_gain < 0.5


def test_of_queries_that_nobody_can_embed_the_sources_alone_are_known(documents, held_out):
    found = Yardstick(documents, held_out, held_out, None).measure(
        documents[held_out], documents[held_out]
    )
    assert found.query_overlap is None
    assert found.source_share is None
    assert found.source_overlap == 1.0


def test_of_given_queries_no_source_is_known(documents, held_out):
    none = np.full(len(held_out), -1)
    found = Yardstick(documents, held_out, none, documents[held_out]).measure(
        documents[held_out], documents[held_out]
    )
    assert found.source_overlap is None
    assert found.source_share is None
    assert found.query_overlap == 1.0


def test_another_index_is_searched_and_the_teachers_full_ranking_wanted(documents, held_out):
    known = Yardstick(documents, held_out, held_out, documents[held_out])
    signs = np.where(documents > 0.5, 1.0, -1.0).astype(np.float32)
    found = known.measure(documents[held_out], documents[held_out], signs)
    assert found.query_overlap < 1.0
    assert found.document_cosine == pytest.approx(1)


def test_shorter_vectors_are_held_against_first_dimensions(held_out):
    wide = np.concatenate([on_circle(100), np.ones((100, 1), dtype=np.float32)], axis=1)
    documents = unit(wide)
    known = Yardstick(documents, held_out, held_out, documents[held_out])
    cut = unit(documents[:, :2])
    found = known.measure(cut[held_out], cut[held_out], cut)
    assert found.document_cosine == pytest.approx(1)
    assert found.query_overlap > 0.95  # the tenth is as far as the eleventh, but for rounding


def test_too_few_documents_and_vectors_that_are_all_alike_are_refused(documents, held_out):
    with pytest.raises(LeafkitError, match="too few"):
        Yardstick(documents, held_out[: FEWEST - 1], held_out, None)
    with pytest.raises(LeafkitError, match="too few"):
        Yardstick(documents[: 2 * DEPTH + FEWEST - 1], np.arange(FEWEST), held_out, None)
    same = np.repeat(documents[:1], 100, axis=0)
    with pytest.raises(LeafkitError, match="one and the same"):
        Yardstick(same, held_out, held_out, None)


def test_a_vector_that_is_not_finite_is_named(documents):
    bad = documents.copy()
    bad[7, 1] = np.nan
    with pytest.raises(LeafkitError, match="document 7 is not finite"):
        unit(bad)
