"""Search through stored vectors in chunks: equal to numpy, to itself in other chunks, and to
rescoring's limit.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from leafkit.config import VECTOR_PRECISIONS, InheritConfig
from leafkit.core.truncate import truncate_then_normalize
from leafkit.data.vector_store import Space, VectorStore
from leafkit.evaluation.inheritance.rescore import score_again
from leafkit.evaluation.inheritance.streaming import FAISS_BLOCK, chunk_size, search_codes
from leafkit.index.codecs.fit import fit_codecs
from leafkit.index.exact import SPARE

DIM, NUM_DOCUMENTS, NUM_QUERIES = 24, 3000, 30
GENERATOR = np.random.default_rng(0)
DOCUMENTS = truncate_then_normalize(GENERATOR.normal(size=(NUM_DOCUMENTS, DIM)).astype(np.float32))
QUERIES = {
    "teacher": truncate_then_normalize(
        DOCUMENTS[:NUM_QUERIES] + 0.1 * GENERATOR.normal(size=(NUM_QUERIES, DIM)).astype("f4")
    ),
    "asymmetric": truncate_then_normalize(
        GENERATOR.normal(size=(NUM_QUERIES, DIM)).astype(np.float32)
    ),
}
FORMS = ["float", "quantized"]


def codecs_for(documents: np.ndarray, dim: int, precisions=VECTOR_PRECISIONS):
    return {
        p: fit_codecs(documents, [dim], [p], InheritConfig(), seed=0)[dim, p] for p in precisions
    }


def search(
    documents=DOCUMENTS,
    dim=DIM,
    precisions=VECTOR_PRECISIONS,
    queries=QUERIES,
    k=10,
    chunk_rows=0,
    advance=None,
):
    codecs = codecs_for(
        np.asarray(documents[0 : len(documents)], dtype=np.float32), dim, precisions
    )
    depths = dict.fromkeys(precisions, k + SPARE)
    more = {"advance": advance} if advance else {}
    return search_codes(
        documents, dim, codecs, queries, forms=FORMS, depths=depths, chunk_rows=chunk_rows, **more
    )


@pytest.mark.parametrize("dim", [DIM, 13])
def test_equals_numpy_for_every_precision_and_form(dim):
    codecs = codecs_for(DOCUMENTS, dim)
    unit = truncate_then_normalize(DOCUMENTS, dim)
    found = search(dim=dim)
    assert len(found) == 2 * (2 * len(VECTOR_PRECISIONS) - 1)
    for (system, precision, form), candidates in found.items():
        codec, queries = codecs[precision], truncate_then_normalize(QUERIES[system], dim)
        if (precision, form) == ("binary", "quantized"):
            scores = -((queries > 0)[:, None] != (unit > 0)[None]).sum(axis=2).astype(float)
        else:
            stored = codec.decode(codec.encode(unit)).astype(float)
            queries = codec.decode(codec.encode(queries)) if form == "quantized" else queries
            scores = queries.astype(float) @ stored.T
        order = np.lexsort(
            (np.broadcast_to(np.arange(NUM_DOCUMENTS), scores.shape), -np.round(scores, 5)), axis=1
        )[:, :10]
        mine = candidates.positions[:, :10]
        assert np.allclose(
            np.take_along_axis(scores, mine, axis=1),
            np.take_along_axis(scores, order, axis=1),
            atol=2e-5,
        )
        assert np.allclose(
            candidates.scores[:, :10], np.take_along_axis(scores, mine, axis=1), atol=2e-5
        )
        if precision == "binary" and form == "quantized":
            assert np.array_equal(mine, order)  # whole numbers: ties are exact


@pytest.mark.parametrize("chunk_rows", [1024, 2048])
def test_chunked_equals_whole_bit_for_bit(chunk_rows):
    whole, parts = search(chunk_rows=4096), search(chunk_rows=chunk_rows)
    for name, candidates in whole.items():
        assert np.array_equal(candidates.positions, parts[name].positions), name
        assert np.array_equal(candidates.scores, parts[name].scores), name


@pytest.mark.parametrize("chunk_rows", [1024, 2048, 4096])
def test_equal_documents_are_ordered_by_position_however_many(chunk_rows):
    """One document 3,000 times: no candidate list can hold the tie, every chunk cuts through it."""
    found = search(documents=np.repeat(DOCUMENTS[:1], NUM_DOCUMENTS, axis=0), chunk_rows=chunk_rows)
    for name, candidates in found.items():
        assert (candidates.positions[:, :10] == np.arange(10)).all(), name


def test_groups_of_equal_documents_are_ordered_by_position():
    """150 documents 20 times each, dealt round: a tie of 20 lies across the tenth rank."""
    documents = np.tile(DOCUMENTS[:150], (20, 1))
    groups = np.arange(len(documents)) % 150
    for name, candidates in search(
        documents=documents, chunk_rows=1024, precisions=["float32", "int8", "int4"]
    ).items():
        top = candidates.positions[:, :10]
        assert (np.diff(top, axis=1) == 150).all(), name
        assert (groups[top] == groups[top[:, :1]]).all(), name
        assert (top[:, 0] < 150).all(), name


@pytest.mark.parametrize("precision", ["float32", "int8", "binary"])
def test_permuting_the_documents_changes_nothing_but_ties(precision):
    order = np.random.default_rng(5).permutation(NUM_DOCUMENTS)
    before, after = (
        search(precisions=[precision]),
        search(documents=DOCUMENTS[order], precisions=[precision]),
    )
    for name, candidates in before.items():
        assert np.allclose(candidates.scores[:, :10], after[name].scores[:, :10], atol=1e-5)
        if name[1:] != ("binary", "quantized"):
            assert np.array_equal(
                candidates.positions[:, :10], order[after[name].positions[:, :10]]
            )


def test_each_document_is_read_once_in_order():
    class Counted:
        def __init__(self) -> None:
            self.read: list[int] = []

        def __len__(self) -> int:
            return NUM_DOCUMENTS

        def __getitem__(self, rows: slice) -> np.ndarray:
            if rows != slice(0, 1):  # a look at the width
                self.read += range(NUM_DOCUMENTS)[rows]
            return DOCUMENTS[rows]

    counted, done = Counted(), []
    search_codes(
        counted,
        DIM,
        codecs_for(DOCUMENTS, DIM),
        QUERIES,
        forms=FORMS,
        depths=dict.fromkeys(VECTOR_PRECISIONS, 18),
        chunk_rows=1024,
        advance=done.append,
    )
    assert sorted(counted.read) == list(range(NUM_DOCUMENTS))
    assert done == [1024, 1024, NUM_DOCUMENTS - 2048]


def test_stores_and_half_precision_maps_give_what_their_numbers_give(tmp_path: Path):
    texts = [f"text {i}" for i in range(NUM_DOCUMENTS)]
    store = VectorStore(
        tmp_path / "store",
        Space(teacher="t", dim=DIM, prompt="", max_tokens=8, pooling="mean", normalized=True),
        texts,
    )
    for shard in store.missing():
        store.write(shard, DOCUMENTS[shard.start : shard.stop])
    half = np.memmap(tmp_path / "half", dtype=np.float16, mode="w+", shape=DOCUMENTS.shape)
    half[:] = DOCUMENTS
    expected = search(
        documents=DOCUMENTS.astype(np.float16).astype(np.float32), precisions=["float32", "int8"]
    )
    for source in (store, half):
        for name, candidates in search(documents=source, precisions=["float32", "int8"]).items():
            assert np.array_equal(candidates.positions, expected[name].positions)
            assert np.array_equal(candidates.scores, expected[name].scores)


@pytest.mark.parametrize("num_documents", [1, 2, 9])
def test_fewer_documents_than_candidates(num_documents):
    precisions = [p for p in VECTOR_PRECISIONS if p != "pq"]
    for name, candidates in search(
        documents=DOCUMENTS[:num_documents], precisions=precisions
    ).items():
        assert candidates.positions.shape == (NUM_QUERIES, num_documents), name
        assert (np.sort(candidates.positions, axis=1) == np.arange(num_documents)).all()


def test_more_candidates_than_a_chunk_has_documents():
    found = search(precisions=["float32"], k=1500, chunk_rows=1024)["teacher", "float32", "float"]
    scores = truncate_then_normalize(QUERIES["teacher"]) @ DOCUMENTS.T
    assert np.allclose(found.scores[:, :1500], -np.sort(-scores, axis=1)[:, :1500], atol=1e-5)


def test_chunks_that_would_move_faiss_blocks_are_refused():
    with pytest.raises(ValueError, match="chunk_rows=1000 is no multiple of 1024"):
        search(precisions=["float32"], chunk_rows=1000)


@pytest.mark.parametrize("dim", [1, 64, 384, 4096, 10**9])
def test_chunks_are_whole_blocks(dim):
    assert chunk_size(dim) % FAISS_BLOCK == 0
    assert chunk_size(dim) >= FAISS_BLOCK


# --- rescoring


def test_scores_again_are_cosines_of_float_vectors():
    candidates = {name: c.positions for name, c in search(dim=13).items()}
    scores = score_again(DOCUMENTS, 13, QUERIES, candidates)
    unit = truncate_then_normalize(DOCUMENTS, 13)
    for (system, *_), positions in candidates.items():
        expected = truncate_then_normalize(QUERIES[system], 13) @ unit.T
        for name, found in scores.items():
            if name[0] == system and candidates[name] is positions:
                assert np.allclose(
                    found, np.take_along_axis(expected, positions, axis=1), atol=1e-6
                )


def test_rescoring_every_document_is_float32():
    deep = {name: c.positions for name, c in search(documents=DOCUMENTS[:300], k=300).items()}
    scores = score_again(DOCUMENTS[:300], DIM, QUERIES, deep)
    for name, positions in deep.items():
        expected = deep[name[0], "float32", "float"]
        order = np.lexsort((positions, -scores[name]), axis=1)
        assert np.array_equal(
            np.take_along_axis(positions, order, axis=1)[:, :10], expected[:, :10]
        ), name


def test_places_without_a_document_score_last():
    candidates = {("teacher", "int8", "float"): np.array([[3, -1]] * NUM_QUERIES)}
    scores = score_again(DOCUMENTS, DIM, QUERIES, candidates)["teacher", "int8", "float"]
    assert np.isfinite(scores[:, 0]).all()
    assert (scores[:, 1] == -np.inf).all()
