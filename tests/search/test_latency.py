"""Latency: one row per encoder, in turns, warm-up left out."""

from __future__ import annotations

import time

import pytest
import tiny
import torch

from leafkit.search.latency import measure_latency


class Slow(torch.nn.Module):
    """Stands in for an encoder: each query takes ``delay_s``; every call is written down."""

    def __init__(self, name: str, delay_s: float, calls: list[tuple[str, str]]) -> None:
        super().__init__()
        self.name, self.delay_s, self.calls = name, delay_s, calls

    def tokenize(self, texts, role, max_tokens):
        assert (role, max_tokens) == ("query", 32)
        self.calls.append((self.name, *texts))
        return [[1]]

    def forward(self, token_ids):
        time.sleep(self.delay_s)
        return torch.zeros(1, 1)

    def finish(self, raw):
        return raw


def test_figures_follow_the_time_taken():
    calls: list[tuple[str, str]] = []
    rows = measure_latency(
        {"slow": Slow("slow", 0.01, calls), "fast": Slow("fast", 0.001, calls)}, [f"q{i}" for i in range(12)], 32
    )
    slow, fast = rows
    assert (slow["encoder"], fast["encoder"]) == ("slow", "fast")
    assert slow["p50_ms"] == pytest.approx(10, rel=0.5)
    assert slow["p50_ms"] > 2 * fast["p50_ms"]
    assert slow["queries_per_s"] < 100 < fast["queries_per_s"]
    assert slow["p99_ms"] >= slow["p50_ms"]
    assert {row["num_queries"] for row in rows} == {12}
    assert rows[0]["threads"] == torch.get_num_threads()
    assert rows[0]["dtype"] == "float32"


def test_encoders_take_turns_and_ten_queries_warm_up():
    calls: list[tuple[str, str]] = []
    measure_latency({"a": Slow("a", 0, calls), "b": Slow("b", 0, calls)}, [f"q{i}" for i in range(12)], 32)
    expected = [f"q{i}" for i in [*range(10), *range(12)]]
    assert calls == [(name, query) for query in expected for name in "ab"]


@pytest.mark.parametrize("count", [1, 3])
def test_fewer_queries_than_warm_up_are_all_measured(count):
    rows = measure_latency({"tiny": tiny.make_encoder()}, ["the matrix"] * count, 32)
    assert rows[0]["num_queries"] == count
    assert rows[0]["queries_per_s"] > 0
