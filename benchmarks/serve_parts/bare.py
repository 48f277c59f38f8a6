"""The query path without a server, in a process of its own."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch

from leafkit.core.system import resident_mib
from leafkit.pipeline.load_pair import load_pair
from serve_parts.ways import choose_questions

_WARM = 40


def measure_bare(folder: Path, num_threads: int, seconds: float) -> None:
    """Embed queries one after another for some seconds; prints figures as JSON.

    Says "ready" and waits for a line of standard input, so that several processes begin together.

    Args:
        folder: of the pair.
        num_threads: of one query.
        seconds: to measure.
    """
    # the cores are those of the process that started this one, which several of them may share
    torch.set_num_threads(num_threads)
    pair = load_pair(folder, query_threads=num_threads)
    texts = choose_questions([document.full_text for document in pair.documents])
    for i in range(_WARM):
        pair.encode_query([texts[i % len(texts)]])
    print("ready", flush=True)
    sys.stdin.readline()
    latencies = []
    started_s = time.perf_counter()
    while time.perf_counter() - started_s < seconds:
        asked_s = time.perf_counter()
        pair.encode_query([texts[len(latencies) % len(texts)]])
        latencies.append(1e3 * (time.perf_counter() - asked_s))
    passed_s = time.perf_counter() - started_s
    figures = {
        "p50_ms": float(np.percentile(latencies, 50)),
        "p99_ms": float(np.percentile(latencies, 99)),
        "rate": len(latencies) / passed_s,
        "resident_mib": resident_mib("RssAnon") + resident_mib("RssFile"),
    }
    print(json.dumps(figures), flush=True)
