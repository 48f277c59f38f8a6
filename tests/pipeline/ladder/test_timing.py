"""What a single query takes at each rung: that it is timed as it is served, and what computed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny
import torch

from leafkit.config import EmbeddingsConfig, EndpointConfig
from leafkit.core.errors import UsageError
from leafkit.embedders.lookup_table import LookupTableEmbedder
from leafkit.embedders.make_embedder import make_embedder
from leafkit.embedders.openai_api import OpenAIEmbedder
from leafkit.embedders.prefix import PrefixEmbedder
from leafkit.embedders.protocol import Embedder
from leafkit.models.checkpoint import load_encoder
from leafkit.models.static_encoder import StaticEncoder, bare_tokenizer
from leafkit.pipeline.ladder.timing import as_served, describe_compute, time_rungs
from leafkit.results import TimedOn
from leafkit.results.ladder import ENDPOINT

CPU = torch.device("cpu")
TEXTS = ["compute the matrix", "draw the graph", "merge the list lazily " * 40]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> Embedder:
    folder = tiny.write_model(tmp_path_factory.mktemp("models") / "big", hidden=48, seed=1)
    return make_embedder(load_encoder(f"model:{folder}"), CPU, torch.bfloat16)


@pytest.fixture(scope="module")
def table() -> Embedder:
    torch.manual_seed(0)
    tokenizer = bare_tokenizer(tiny.make_tokenizer())
    rows = torch.randn(tokenizer.get_vocab_size(), 8)
    return LookupTableEmbedder(StaticEncoder(tokenizer, rows, torch.nn.Linear(8, 48)).eval())


@pytest.fixture(scope="module")
def pair() -> Any:
    vectors = np.random.default_rng(0).normal(size=(30, 48)).astype(np.float32)
    return SimpleNamespace(index=None, documents=[None] * 30, document_matrix=lambda: vectors)


@pytest.mark.parametrize("num_texts", [1, 3])
def test_every_rung_is_timed(pair, table, teacher, num_texts):
    """That it runs and says what ran; how fast is no matter of a test."""
    rungs = [("table", table), ("teacher", teacher)]
    found = time_rungs(pair, rungs, TEXTS[:num_texts], max_tokens=16, device=CPU)
    assert len(found.encode_ms) == len(found.query_ms) == 2
    for encode_ms, query_ms in zip(found.encode_ms, found.query_ms, strict=True):
        assert 0 < encode_ms < query_ms
    assert found.timed_on == (
        TimedOn("cpu", "float32", 1),
        TimedOn("cpu", "float32", torch.get_num_threads()),
    )


def test_queries_are_timed_in_their_role_and_cut_as_they_are_served(pair, table, monkeypatch):
    seen = []

    def embed(texts, role, max_tokens, bar=None):
        seen.append((*texts, role, max_tokens))
        return np.ones((1, 48), dtype=np.float32)

    monkeypatch.setattr(table, "embed", embed, raising=False)
    time_rungs(pair, [("table", table)], TEXTS, max_tokens=16, device=CPU)
    assert {call[1:] for call in seen} == {("query", 16)}
    # the first ones warm up: no text is asked twice, whose tokens may be known then
    assert [call[0] for call in seen][3:] == TEXTS
    assert len({call[0] for call in seen}) == 6


def test_an_endpoint_is_asked_once_a_query_and_says_so(pair, monkeypatch, caplog):
    config = EmbeddingsConfig(endpoint=EndpointConfig(base_url="http://127.0.0.1:1/v1"))
    endpoint = OpenAIEmbedder("m", config, {})
    asked = []

    def embed(texts, role, max_tokens, bar=None):
        asked.extend(texts)
        return np.ones((1, 48), dtype=np.float32)

    monkeypatch.setattr(endpoint, "embed", embed)
    with caplog.at_level("INFO", logger="leafkit"):
        found = time_rungs(pair, [("teacher", endpoint)], TEXTS, max_tokens=0, device=CPU)
    assert found.timed_on == (TimedOn(ENDPOINT, "", None),)
    assert len(asked) == len(set(asked)) == 6
    assert "timing the teacher: 6 requests" in caplog.text


def test_a_server_computes_in_float32(teacher):
    served = as_served(teacher)
    assert (teacher.precision, served.precision) == ("torch.bfloat16", "torch.float32")
    first = as_served(PrefixEmbedder(teacher, 16))
    assert (first.dim, first.precision) == (16, "torch.float32")
    assert as_served(served) is served
    assert describe_compute(first, CPU) == describe_compute(served, CPU)


def test_an_accelerator_has_no_threads(teacher, monkeypatch):
    monkeypatch.setattr(type(teacher), "device", property(lambda self: torch.device("cuda")))
    assert describe_compute(teacher, CPU) == TimedOn("cuda", "float32", None)


def test_without_queries_nothing_can_be_weighed(pair, table):
    with pytest.raises(UsageError, match="num_latency_queries=0"):
        time_rungs(pair, [("table", table)], [], max_tokens=0, device=CPU)
