"""Latency: one row per encoder, in turns, warm-up left out."""

from __future__ import annotations

import time
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import torch

from leafkit.embedders.transformer import TransformerEmbedder
from leafkit.evaluation.latency import measure_latency, serve_one


def slow(name: str, delay_s: float, calls: list[tuple[str, str]]):
    """Stands in for an encoder: each query takes ``delay_s``; every call is written down."""

    def embed_one(query: str) -> None:
        calls.append((name, query))
        time.sleep(delay_s)

    return embed_one


def test_figures_follow_the_time_taken():
    calls: list[tuple[str, str]] = []
    rows = measure_latency(
        {"slow": slow("slow", 0.01, calls), "fast": slow("fast", 0.001, calls)},
        [f"q{i}" for i in range(12)],
    )
    late, early = rows
    assert (late.encoder, early.encoder) == ("slow", "fast")
    assert late.p50_ms == pytest.approx(10, rel=0.5)
    assert late.p50_ms > 2 * early.p50_ms
    assert late.queries_per_s < 100 < early.queries_per_s
    assert late.p99_ms >= late.p50_ms
    assert {row.num_queries for row in rows} == {12}
    assert rows[0].threads == torch.get_num_threads()
    assert rows[0].dtype == "float32"


def test_encoders_take_turns_and_ten_queries_warm_up():
    calls: list[tuple[str, str]] = []
    measure_latency(
        {"a": slow("a", 0, calls), "b": slow("b", 0, calls)}, [f"q{i}" for i in range(12)]
    )
    expected = [f"q{i}" for i in [*range(10), *range(12)]]
    assert calls == [(name, query) for query in expected for name in "ab"]


@pytest.mark.parametrize("count", [1, 3])
def test_fewer_queries_than_warm_up_are_all_measured(count):
    serve = serve_one(
        TransformerEmbedder(tiny.make_encoder(), torch.device("cpu"), torch.float32), 32
    )
    rows = measure_latency({"tiny": serve}, ["the matrix"] * count)
    assert rows[0].num_queries == count
    assert rows[0].queries_per_s > 0


def test_a_model_serves_the_vectors_it_embeds():
    """What is timed is the work itself, query prompt and cut included."""
    model = TransformerEmbedder(tiny.make_encoder(), torch.device("cpu"), torch.float32)
    text = "compute the matrix " * 9
    with torch.no_grad():
        served = serve_one(model, 8)(text)
    np.testing.assert_allclose(served, model.embed([text], "query", 8)[0], atol=1e-6)


def test_an_endpoint_is_not_timed():
    assert serve_one(SimpleNamespace(encoder=None), 8) is None


def test_a_rate_has_its_interval_over_the_queries() -> None:
    calls: list[tuple[str, str]] = []
    (row,) = measure_latency({"a": slow("a", 0.002, calls)}, [f"q{i}" for i in range(20)])
    assert row.queries_per_s_low is not None
    assert row.queries_per_s_high is not None
    assert row.queries_per_s_low <= row.queries_per_s <= row.queries_per_s_high
    assert row.queries_per_s_low > 0.2 * row.queries_per_s
