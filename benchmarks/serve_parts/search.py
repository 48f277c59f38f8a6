"""Searches under load, by number of documents and kind of index."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from lib.clients import ask, make_request
from lib.report import table
from lib.servers import free_port, started

from serve_parts.ways import leafkit_words

_K = 10
_BUILT_WITHIN_S = 4 * 3600  # an HNSW index of a million documents takes its time
_WARM = 20


def search_lines(
    folders: Mapping[int, Path],
    hnsw_sizes: Sequence[int],
    texts: Sequence[str],
    options: argparse.Namespace,
    *,
    environment: Mapping[str, str],
) -> list[str]:
    """Latencies of searches, as a table.

    Args:
        folders: pairs by number of documents.
        hnsw_sizes: those that are searched through an HNSW index too.
        texts: questions.
        options: clients and seconds.
        environment: of the servers.
    """
    rows = []
    for size, folder in folders.items():
        for kind in ("flat", "hnsw"):
            if kind == "hnsw" and size not in hnsw_sizes:
                rows.append([f"{size:,}", kind, *["not run"] * 7])
                continue
            rows.append(
                [
                    f"{size:,}",
                    kind,
                    *_measure(folder, kind, texts, options, environment=environment),
                ]
            )
            print(rows[-1], flush=True)
    header = [
        "documents",
        "index",
        "one client, p50 ms",
        "p99 ms",
        f"{options.search_clients} clients, p50 ms",
        "p99 ms",
        "searches/s",
        "of it the search itself, p50 ms",
        "memory, MiB",
    ]
    return [
        f"POST /v1/search with a question, k={_K}, mode=asymmetric, one process; the hits come "
        "with their texts. Documents are random unit vectors: the time of a flat search does not "
        "depend on them, that of HNSW is that of data without any structure, its worst case.",
        "",
        *table(header, rows),
    ]


def _measure(
    folder: Path,
    kind: str,
    texts: Sequence[str],
    options: argparse.Namespace,
    *,
    environment: Mapping[str, str],
) -> list[str]:
    port = free_port()
    requests = [make_request("/v1/search", {"query": text, "k": _K}) for text in texts]
    with started(
        leafkit_words(folder, f"index={kind}")(port),
        port,
        ready="/ready",
        environment=environment,
        within_s=_BUILT_WITHIN_S,
    ) as server:
        bounds = {"seconds": options.seconds, "most": 1_000_000}
        ask(port, requests, num_clients=1, seconds=300, most=_WARM)
        alone = ask(port, requests, num_clients=1, **bounds)
        many = ask(port, requests, num_clients=options.search_clients, **bounds)
        for load in (alone, many):
            load.check(f"{folder.name}: searches")
        searches = [json.loads(body)["timings"]["search_ms"] for body in many.bodies]
        return [
            f"{alone.percentile(50):.1f}",
            f"{alone.percentile(99):.1f}",
            f"{many.percentile(50):.1f}",
            f"{many.percentile(99):.1f}",
            f"{many.rate:,.0f}",
            f"{np.median(searches):.1f}",
            f"{server.resident_mib():,.0f}",
        ]
