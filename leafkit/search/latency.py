"""How long one query takes, and how many a second: the encoder alone, tokenizer included."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from leafkit.models.encoder import TextEncoder

_WARMUP = 10


def measure_latency(encoders: dict[str, TextEncoder], queries: Sequence[str], max_tokens: int) -> list[dict[str, Any]]:
    """p50 and p99 of single queries and their rate, float32, the encoders taking turns so that noise hits all alike.

    Args:
        encoders: by name.
        queries: at least one text.
        max_tokens: cut of the queries.

    Returns:
        One row per encoder: queries_per_s, p50_ms, p99_ms, num_queries, threads, dtype.
    """
    seconds: dict[str, list[float]] = {name: [] for name in encoders}
    with torch.inference_mode():
        for number, query in enumerate([*queries[:_WARMUP], *queries]):
            for name, encoder in encoders.items():
                started_s = time.perf_counter()
                encoder.finish(encoder(encoder.tokenize([query], "query", max_tokens)))
                if number >= min(_WARMUP, len(queries)):
                    seconds[name].append(time.perf_counter() - started_s)
    return [
        {
            "encoder": name,
            "queries_per_s": 1 / float(np.mean(values)),
            "p50_ms": 1e3 * float(np.quantile(values, 0.5)),
            "p99_ms": 1e3 * float(np.quantile(values, 0.99)),
            "num_queries": len(queries),
            "threads": torch.get_num_threads(),
            "dtype": "float32",
        }
        for name, values in seconds.items()
    ]
