"""Every embedder is asked in a role, for one text or several, in as many dimensions as wanted."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
import tiny
import torch
from torch import nn

from leafkit.core.errors import UsageError
from leafkit.core.truncate import truncate_then_normalize
from leafkit.embedders.lookup_table import LookupTableEmbedder
from leafkit.embedders.make_embedder import make_embedder
from leafkit.embedders.precomputed import PrecomputedVectors
from leafkit.embedders.protocol import Embedder, encode_in_role
from leafkit.embedders.transformer import TransformerEmbedder
from leafkit.models.static_encoder import StaticEncoder, bare_tokenizer

TEXTS = ["compute the matrix", "invert the graph of the table quickly", "draw"]


def static_encoder() -> StaticEncoder:
    torch.manual_seed(0)
    tokenizer = bare_tokenizer(tiny.make_tokenizer())
    table = torch.randn(tokenizer.get_vocab_size(), 8)
    return StaticEncoder(tokenizer, table, nn.Linear(8, 24), (24, 8), fingerprint="s").eval()


@pytest.fixture(params=["transformer", "static", "precomputed"])
def embedder(request, tmp_path) -> Embedder:
    if request.param == "transformer":
        return make_embedder(tiny.make_encoder().eval())
    if request.param == "static":
        return make_embedder(static_encoder())
    rows = np.random.default_rng(0).normal(size=(3, 16)).astype(np.float32)
    for stem in ("documents", "queries"):
        rows_of_texts = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS)
        (tmp_path / f"{stem}.jsonl").write_text(rows_of_texts, encoding="utf-8")
        np.save(tmp_path / f"{stem}.npy", truncate_then_normalize(rows))
    return PrecomputedVectors(tmp_path)


@pytest.mark.parametrize("role", ["query", "document"])
def test_one_text_is_a_vector_and_several_are_a_matrix(embedder, role):
    encode = embedder.encode_query if role == "query" else embedder.encode_document
    many = encode(TEXTS)
    assert many.shape == (3, embedder.dim)
    np.testing.assert_array_equal(many, embedder.embed(TEXTS, role, embedder.max_tokens))
    one = encode(TEXTS[1])
    assert one.shape == (embedder.dim,)
    np.testing.assert_allclose(one, many[1], atol=1e-6)
    np.testing.assert_allclose(embedder.embed_one(TEXTS[1], role), many[1], atol=1e-6)
    assert encode([]).shape == (0, embedder.dim)


def test_a_cut_comes_before_the_length_of_one(embedder):
    found = embedder.encode_query(TEXTS, dim=8)
    whole = embedder.encode_query(TEXTS)
    np.testing.assert_allclose(found, truncate_then_normalize(whole, 8), atol=1e-6)
    assert np.linalg.norm(found, axis=1) == pytest.approx(1.0, abs=1e-6)
    assert np.linalg.norm(whole[:, :8], axis=1).max() < 0.99  # a bare cut is another thing
    np.testing.assert_array_equal(embedder.encode_query(TEXTS, dim=embedder.dim), whole)


def test_the_prompt_belongs_to_the_role():
    encoder = tiny.with_spec(tiny.make_encoder().eval(), prompts={"query": tiny.PROMPT})
    embedder = make_embedder(encoder)
    np.testing.assert_allclose(
        embedder.encode_query("draw"), embedder.encode_document(f"{tiny.PROMPT}draw"), atol=1e-6
    )
    assert not np.allclose(embedder.encode_query("draw"), embedder.encode_document("draw"))


def test_vectors_of_other_lengths_are_cut_and_left_as_they_are():
    embedder = make_embedder(tiny.make_encoder(normalized=False).eval())
    whole = embedder.encode_document(TEXTS)
    np.testing.assert_array_equal(embedder.encode_document(TEXTS, dim=8), whole[:, :8])


@pytest.mark.parametrize("dim", [0, -1, 25, 8.0, True, "8"])
def test_other_dimensions_are_refused(dim):
    with pytest.raises(UsageError, match="not a number of dimensions between 1 and 24") as refused:
        make_embedder(static_encoder()).encode_query("draw", dim=dim)
    assert "24, 8" in refused.value.hint


@pytest.mark.parametrize("texts", [3, None, ["draw", None], [b"draw"], [["draw"]]])
def test_what_is_no_text_is_refused(texts):
    with pytest.raises(UsageError, match=r"is a \w+, not text"):
        make_embedder(static_encoder()).encode_query(texts)


def test_repairs_are_told(caplog):
    embedder = make_embedder(tiny.make_encoder().eval())
    with caplog.at_level(logging.WARNING, logger="leafkit"):
        found = embedder.encode_query(["draw \ud800", "draw"])
    np.testing.assert_array_equal(found[0], embedder.encode_query("draw ?"))
    assert "lone surrogates" in caplog.text
    assert "1 of 2" in caplog.text


def test_max_tokens_cuts(embedder):
    if isinstance(embedder, PrecomputedVectors):
        assert embedder.max_tokens >= 2**30  # made vectors are not cut
        return
    short = encode_in_role(embedder, TEXTS[1], "document", max_tokens=3)
    assert not np.allclose(short, embedder.encode_document(TEXTS[1]))


def test_each_encoder_gets_its_embedder():
    transformer = make_embedder(tiny.make_encoder().eval(), torch.device("cpu"), torch.float32)
    static = make_embedder(static_encoder())
    assert isinstance(transformer, TransformerEmbedder)
    assert isinstance(static, LookupTableEmbedder)
    assert (transformer.precision, static.precision) == ("torch.float32", "")
    assert (static.space_id, static.fingerprint) == ("s", "s")
    with pytest.raises(Exception, match="no embedder for a Linear"):
        make_embedder(nn.Linear(2, 2))
