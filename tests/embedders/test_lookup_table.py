"""A static student as an embedder: one query, many, and the encoder itself give equal vectors."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch
from torch import nn

from leafkit.data.vector_store import VectorStore
from leafkit.embedders import lookup_table
from leafkit.embedders.fill_store import fill_store
from leafkit.embedders.lookup_table import LookupTableEmbedder, fold_table
from leafkit.embedders.protocol import Embedder
from leafkit.models.static_encoder import StaticEncoder, bare_tokenizer

TEXTS = [
    "",
    *(text for pair in tiny.make_pairs(20) for text in pair),
    "matrix " * 30_000,
    "☃",
    " \n",
]


@pytest.fixture(scope="module")
def encoder() -> StaticEncoder:
    torch.manual_seed(0)
    tokenizer = bare_tokenizer(tiny.make_tokenizer())
    return StaticEncoder(
        tokenizer,
        torch.randn(tokenizer.get_vocab_size(), 8),
        nn.Linear(8, 24),
        (24, 8),
        fingerprint="abc",
    ).eval()


@pytest.fixture(scope="module")
def embedder(encoder) -> LookupTableEmbedder:
    return LookupTableEmbedder(encoder)


def test_the_folded_table_gives_the_encoders_vectors(encoder, embedder):
    with torch.no_grad():
        expected = encoder.finish(encoder(encoder.tokenize(TEXTS))).numpy()
    found = embedder.embed(TEXTS, "query", 10**6)
    assert found.dtype == np.float32
    # 30,000 numbers are added in another order
    is_giant = np.array([len(text) > 1000 for text in TEXTS])
    assert np.abs(found - expected)[~is_giant].max() < 1e-6
    assert np.einsum("nd,nd->n", found, expected).min() > 1 - 1e-6
    assert np.linalg.norm(found, axis=1) == pytest.approx(1.0, abs=1e-6)


def test_one_is_as_many(embedder, monkeypatch):
    whole = embedder.embed(TEXTS, "query", 10**6)
    assert np.array_equal(np.stack([embedder.embed_one(text) for text in TEXTS]), whole)
    monkeypatch.setattr(lookup_table, "_TEXTS_PER_CALL", 3)
    assert np.array_equal(embedder.embed(TEXTS, "document", 10**6), whole)
    assert embedder.embed([], "query", 8).shape == (0, 24)


def test_both_cut_where_asked(embedder):
    text = "compute the matrix of the graph"
    assert np.array_equal(
        embedder.embed_one(text, "query", 3), embedder.embed_one("compute the matrix")
    )
    assert np.array_equal(
        embedder.embed([text], "query", 3)[0], embedder.embed_one(text, "query", 3)
    )


def test_an_empty_text_is_the_bias_and_nobody_can_change_it(encoder, embedder):
    bias = encoder.projection.bias.detach().numpy()
    first = embedder.embed_one("")
    assert first == pytest.approx(bias / np.linalg.norm(bias), abs=1e-6)
    first[:] = 0
    assert embedder.embed_one("") == pytest.approx(bias / np.linalg.norm(bias), abs=1e-6)


def test_folding_in_parts_is_folding_at_once(encoder, monkeypatch):
    whole = fold_table(encoder, np.float32)
    weight, bias = (
        encoder.projection.weight.detach().numpy(),
        encoder.projection.bias.detach().numpy(),
    )
    assert np.allclose(whole, encoder.table.weight.detach().numpy() @ weight.T + bias, atol=1e-5)
    monkeypatch.setattr(lookup_table, "_ROWS_PER_PRODUCT", 7)
    assert np.allclose(fold_table(encoder, np.float32), whole, atol=1e-6)


def test_half_precision_halves_the_table_and_keeps_the_vectors(encoder, embedder):
    half = LookupTableEmbedder(encoder, np.float16)
    assert half.table.nbytes * 2 == embedder.table.nbytes
    found = half.embed(TEXTS, "query", 10**6)
    assert found.dtype == np.float32
    assert np.einsum("nd,nd->n", found, embedder.embed(TEXTS, "query", 10**6)).min() > 1 - 1e-6


def test_a_zero_vector_stays_zero():
    tokenizer = bare_tokenizer(tiny.make_tokenizer())
    projection = nn.Linear(2, 3)
    nn.init.zeros_(projection.bias)
    encoder = StaticEncoder(tokenizer, torch.zeros(tokenizer.get_vocab_size(), 2), projection)
    assert not LookupTableEmbedder(encoder).embed(["the matrix", ""], "query", 8).any()


def test_it_fills_a_vector_store(embedder, tmp_path):
    model: Embedder = embedder
    assert (model.fingerprint, model.dim, model.mrl_dims, model.prompt("query")) == (
        "abc",
        24,
        (24, 8),
        "",
    )
    space = model.space("query", 16)
    assert (space.teacher, space.dim, space.prompt, space.max_tokens, space.normalized) == (
        "abc",
        24,
        "",
        16,
        True,
    )
    store = VectorStore(tmp_path / "v", space, TEXTS, dtype="float32", rows_per_shard=8)
    assert fill_store(store, model, TEXTS, "query", title="t") == len(TEXTS)
    assert np.array_equal(store[:], embedder.embed(TEXTS, "query", 16))
