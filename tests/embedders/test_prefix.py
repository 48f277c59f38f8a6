"""A Matryoshka model at its first dimensions: cut first, then normalised; what it tells."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tiny
import torch

from leafkit.core.errors import UsageError
from leafkit.data.stored.prefix_vectors import PrefixVectors, first_dims
from leafkit.data.vector_store import Space, VectorStore
from leafkit.embedders.precomputed import PrecomputedVectors
from leafkit.embedders.prefix import (
    PrefixEmbedder,
    precomputed_of,
    take_first_dims,
    whole_dim,
)
from leafkit.embedders.transformer import TransformerEmbedder

TEXTS = ["Compute the matrix", "read the queue backwards", "a"]


def embedder(**settings) -> TransformerEmbedder:
    encoder = tiny.make_encoder(prompts={"query": tiny.PROMPT}, **settings)
    encoder.fingerprint = "the-teacher"
    return TransformerEmbedder(encoder, torch.device("cpu"), torch.float32)


def test_first_dims_by_hand():
    vectors = np.array([[0.6, 0.0, 0.8], [0.3, 0.4, 0.5]], dtype=np.float16)
    np.testing.assert_allclose(
        first_dims(vectors, 2, is_unit=True), [[1, 0], [0.6, 0.8]], atol=1e-3
    )
    kept = first_dims(vectors, 2, is_unit=False)
    np.testing.assert_array_equal(kept, vectors[:, :2].astype(np.float32))
    assert kept.dtype == np.float32


@pytest.mark.parametrize("normalized", [True, False])
def test_every_way_gives_the_first_dimensions(normalized):
    whole = embedder(mrl_dims=(32, 16, 8), normalized=normalized)
    cut = take_first_dims(whole, 16, "model:m")
    assert isinstance(cut, PrefixEmbedder)
    for role in ("query", "document"):
        expected = first_dims(whole.embed(TEXTS, role, 32), 16, is_unit=normalized)
        np.testing.assert_array_equal(cut.embed(TEXTS, role, 32), expected)
        np.testing.assert_allclose(cut.embed_one(TEXTS[0], role, 32), expected[0], atol=1e-5)
    lengths = np.linalg.norm(cut.encode_document(TEXTS), axis=1)
    assert np.allclose(lengths, 1, atol=1e-5) == normalized
    np.testing.assert_allclose(
        cut.encode_query(TEXTS, dim=8), whole.encode_query(TEXTS, dim=8), atol=1e-6
    )


def test_what_it_says_of_itself():
    whole = embedder(mrl_dims=(32, 16, 8))
    cut = PrefixEmbedder(whole, 16)
    assert (cut.dim, cut.mrl_dims, whole_dim(cut), whole_dim(whole)) == (16, (16, 8), 32, 0)
    assert cut.space_id == whole.space_id  # the same space, of which the dimension names a part
    assert len({cut.fingerprint, PrefixEmbedder(whole, 8).fingerprint, whole.fingerprint}) == 3
    space = cut.space("document", 32)
    assert space == Space(
        teacher="the-teacher", dim=16, prompt="", max_tokens=32, pooling="mean", normalized=True
    )
    assert cut.prompt("query") == tiny.PROMPT
    assert cut.max_tokens == whole.max_tokens
    assert cut.count_tokens(TEXTS, "query") == whole.count_tokens(TEXTS, "query")
    assert cut.encoder is whole.encoder


def test_all_dimensions_are_the_model_itself():
    whole = embedder(mrl_dims=(32, 16))
    assert take_first_dims(whole, 0, "") is whole
    assert take_first_dims(whole, 32, "") is whole
    assert take_first_dims(embedder(), 32, "") is not None  # without any Matryoshka


@pytest.mark.parametrize(
    ("dims", "dim", "has", "hint"),
    [
        ((32, 16, 8), 12, "has 32 dimensions and Matryoshka at 16, 8", "student.dim=16 or 8"),
        ((32, 16), 64, "has 32 dimensions and Matryoshka at 16", "student.dim=16, or 0"),
        ((), 16, "has 32 dimensions and no Matryoshka dimensions", "teacher.mrl_dims"),
        ((32,), 16, "has 32 dimensions and no Matryoshka", "student.dim=0"),
    ],
)
def test_dimensions_that_were_not_trained_are_refused(dims, dim, has, hint):
    with pytest.raises(
        UsageError, match=rf"student\.dim={dim}: the teacher model:m {has}"
    ) as caught:
        take_first_dims(embedder(mrl_dims=dims), dim, "model:m")
    assert hint in caught.value.hint


def test_a_store_serves_its_first_dimensions(tmp_path):
    space = Space("t", 6, "", 32, "mean", normalized=True)
    whole = VectorStore(tmp_path, space, TEXTS)
    rows = np.random.default_rng(0).normal(size=(3, 6)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    for shard in whole.missing():
        whole.write(shard, rows)
    cut = PrefixVectors(whole, 4)
    assert (len(cut), cut.space.dim, cut.space.teacher) == (3, 4, "t")
    expected = rows[:, :4] / np.linalg.norm(rows[:, :4], axis=1, keepdims=True)
    np.testing.assert_allclose(cut[:], expected, atol=2e-3)
    np.testing.assert_array_equal(cut[np.array([2, 0])], cut[:][[2, 0]])


def test_vectors_computed_elsewhere_are_found_behind_it(tmp_path):
    rows = np.eye(3, 4, dtype=np.float32)
    np.save(tmp_path / "documents.npy", rows)
    tiny.write_lines(tmp_path / "documents.jsonl", [{"id": t, "text": t} for t in TEXTS])
    (tmp_path / "about.json").write_text(json.dumps({"normalized": True}))
    whole = PrecomputedVectors(tmp_path, (2,))
    cut = take_first_dims(whole, 2, "vectors:v")
    assert precomputed_of(cut) is precomputed_of(whole) is whole
    assert precomputed_of(embedder()) is None
    np.testing.assert_array_equal(cut.embed(TEXTS[:2], "document", 0), np.eye(2))
