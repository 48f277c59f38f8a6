"""How long one query takes, and how many a second: the encoder alone, tokenizer included."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from leafkit.embedders.protocol import Embedder
from leafkit.evaluation.bootstrap import Bootstrap
from leafkit.results import LatencyRow

_WARMUP = 10
_NUM_RESAMPLES = 2_000


def serve_one(model: Embedder, max_tokens: int) -> Callable[[str], object] | None:
    """How a loaded model answers a single query in float32, cut at ``max_tokens``; None for one
    that is not available here.
    """
    if model.encoder is None:
        return None
    return lambda query: model.embed_one(query, "query", max_tokens)


def measure_latency(
    encoders: Mapping[str, Callable[[str], object]], queries: Sequence[str]
) -> tuple[LatencyRow, ...]:
    """p50 and p99 of single queries and their rate, the encoders taking turns so that noise hits
    all alike.

    Args:
        encoders: by name, see ``serve_one``.
        queries: at least one text.

    Returns:
        One row per encoder.
    """
    seconds: dict[str, list[float]] = {name: [] for name in encoders}
    with torch.inference_mode():
        for number, query in enumerate([*queries[:_WARMUP], *queries]):
            for name, embed_one in encoders.items():
                started_s = time.perf_counter()
                embed_one(query)
                if number >= min(_WARMUP, len(queries)):
                    seconds[name].append(time.perf_counter() - started_s)
    return tuple(
        LatencyRow(
            encoder=name,
            queries_per_s=1 / float(np.mean(values)),
            p50_ms=1e3 * float(np.quantile(values, 0.5)),
            p99_ms=1e3 * float(np.quantile(values, 0.99)),
            num_queries=len(queries),
            threads=torch.get_num_threads(),
            dtype="float32",
            queries_per_s_low=1 / slow_s,
            queries_per_s_high=1 / fast_s,
        )
        for name, values in seconds.items()
        for fast_s, slow_s in [_mean_between(values)]
    )


def _mean_between(seconds: Sequence[float]) -> tuple[float, float]:
    """The 95% bootstrap interval of the mean."""
    drawn = Bootstrap(len(seconds), _NUM_RESAMPLES, seed=0).mean(np.asarray(seconds))
    return drawn.low, drawn.high
