"""How long a single query takes at each rung of a ladder, as it is served."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch

from leafkit.core.console import log
from leafkit.core.devices import kind_of
from leafkit.core.errors import UsageError
from leafkit.embedders.lookup_table import LookupTableEmbedder
from leafkit.embedders.make_embedder import make_embedder
from leafkit.embedders.onnx_graph import OnnxGraphEmbedder, describe_session
from leafkit.embedders.openai_api import OpenAIEmbedder
from leafkit.embedders.prefix import PrefixEmbedder
from leafkit.embedders.protocol import Embedder
from leafkit.embedders.transformer import TransformerEmbedder
from leafkit.evaluation.routing.signals import Visit, read_signals
from leafkit.pipeline.ladder.measure import Times
from leafkit.pipeline.ladder.visits import visit
from leafkit.pipeline.pair import Pair
from leafkit.results import TimedOn
from leafkit.results.ladder import ENDPOINT, TEACHER_RUNG

_WARMUP = 10  # queries that are not counted


def time_rungs(
    pair: Pair,
    rungs: Sequence[tuple[str, Embedder]],
    texts: Sequence[str],
    *,
    max_tokens: int,
    device: torch.device,
) -> Times:
    """Medians of single queries at each rung: the encoder alone, and with its search and signals.
    All take turns, so that noise hits all alike.

    Args:
        pair: whose documents are searched.
        rungs: names and models, cheapest first.
        texts: queries without prompts.
        max_tokens: that they are cut at; 0 takes each model's own limit.
        device: that the teacher was opened on.

    Raises:
        UsageError: there is no query to time.
    """
    if not texts:
        raise UsageError(
            "bench.num_latency_queries=0: a ladder weighs what each rung costs",
            "bench.num_latency_queries=200",
        )
    models = {name: as_served(model) for name, model in rungs}
    timed_on = {name: describe_compute(model, device) for name, model in models.items()}
    # other texts than those that are timed: a graph keeps the tokens of the last ones, an endpoint
    # may keep more
    warmups = [f"{text} ?" for text in texts[:_WARMUP]]
    for name, one in timed_on.items():
        if one.device == ENDPOINT:
            log(f"  timing the {name}: {len(warmups) + len(texts):,} requests of a single query")
    encode_s, query_s = (np.zeros((len(texts), len(models))) for _ in range(2))
    with torch.inference_mode():
        for row, text in enumerate([*warmups, *texts], -len(warmups)):
            previous: Visit | None = None
            for column, (name, model) in enumerate(models.items()):
                started_s = time.perf_counter()
                vector = model.embed([text], "query", max_tokens or model.max_tokens)
                encoded_s = time.perf_counter()
                found, _ = visit(pair, model, [text], vector, max_tokens=max_tokens)
                if name != TEACHER_RUNG:
                    read_signals([text], found, previous)
                if row >= 0:
                    encode_s[row, column] = encoded_s - started_s
                    query_s[row, column] = time.perf_counter() - started_s
                previous = found
    encode_ms, query_ms = (1e3 * np.median(seconds, axis=0) for seconds in (encode_s, query_s))
    return Times(tuple(encode_ms.tolist()), tuple(query_ms.tolist()), tuple(timed_on.values()))


def as_served(model: Embedder) -> Embedder:
    """A model as a server computes it: in float32, on the device that it is on."""
    if isinstance(model, PrefixEmbedder):
        return PrefixEmbedder(as_served(model.whole), model.dim)
    if isinstance(model, TransformerEmbedder) and model.precision != str(torch.float32):
        return make_embedder(model.encoder, model.device, torch.float32)
    return model


def describe_compute(model: Embedder, device: torch.device) -> TimedOn:
    """Where a model computes a single query, in what arithmetic, on how many threads.

    Args:
        model: as it is served.
        device: of a model that does not tell its own.
    """
    if isinstance(model, PrefixEmbedder):
        return describe_compute(model.whole, device)
    if isinstance(model, OpenAIEmbedder):
        return TimedOn(ENDPOINT, "", None)
    if isinstance(model, LookupTableEmbedder):
        return TimedOn("cpu", str(model.table.dtype), 1)
    if isinstance(model, OnnxGraphEmbedder):
        return TimedOn("cpu", *describe_session(model))
    device = model.device if isinstance(model, TransformerEmbedder) else device
    threads = torch.get_num_threads() if kind_of(device).is_host else None
    return TimedOn(device.type, "float32", threads)
