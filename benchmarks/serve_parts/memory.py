"""Memory of one server over many requests of all kinds."""

from __future__ import annotations

import argparse
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from lib.clients import Load, ask, make_request
from lib.report import table
from lib.servers import Server, free_port, started

from serve_parts.ways import leafkit_words

_NUM_CLIENTS = 4
_NUM_SAMPLES = 100
_SHOWN = 10
# growth that is allowed from the first tenth to the end
_GROWTH_BAR_MIB = 16
_LONG_WORDS = 400  # beyond the student's limit


@dataclass
class Watched:
    """Memory while requests were answered.

    Attributes:
        load: what the clients saw.
        samples: requests answered, VmRSS and RssAnon in MiB, in order.
    """

    load: Load = field(default_factory=Load)
    samples: list[tuple[int, float, float]] = field(default_factory=list)

    @property
    def growth_mib(self) -> float:
        """VmRSS at the end less that after the first tenth of the requests."""
        last = self.samples[-1]
        tenth = next(one for one in self.samples if one[0] >= last[0] / 10)
        return last[1] - tenth[1]

    def slope(self) -> float:
        """KiB per 1,000 requests, least squares over the second half of the samples."""
        half = self.samples[len(self.samples) // 2 :]
        counts, resident = np.array([(count, mib) for count, mib, _ in half]).T
        if len(half) < 2:
            return float("nan")
        return float(np.polyfit(counts, resident, 1)[0] * 1024 * 1000)


def mixed(requests: Sequence[bytes]) -> list[bytes]:
    """The requests, with every tenth a search, and now and then a text beyond the limit, several
    texts at once, a refused request and one that is no JSON.
    """
    others = [
        make_request("/v1/embeddings", {"model": "pair", "input": "long text " * _LONG_WORDS}),
        make_request("/v1/embeddings", {"model": "pair", "input": [f"text {i}" for i in range(8)]}),
        make_request("/v1/embeddings", {"model": "pair", "input": [1, 2, 3]}),
        make_request("/v1/embeddings", {"model": "nobody", "input": "text"}),
        make_request("/v1/embeddings", {"model": "pair", "input": "text"}).replace(b"{", b"[", 1),
    ]
    found = []
    for i, request in enumerate(requests):
        found.append(request)
        if i % 10 == 9:
            found.append(make_request("/v1/search", {"query": f"question {i}", "k": 10}))
        if i % 20 == 19:
            found.append(others[i // 20 % len(others)])
    return found


def watch_memory(
    options: argparse.Namespace, requests: Sequence[bytes], environment: Mapping[str, str]
) -> Watched:
    """Ask one server for everything that it answers, and look at its memory now and then."""
    port, watched, lock = free_port(), Watched(), threading.Lock()
    answered = 0

    def note(server: Server) -> None:
        sample = answered, server.resident_mib(), server.resident_mib("RssAnon")
        watched.samples.append(sample)

    with started(
        leafkit_words(options.pair)(port),
        port,
        ready="/ready",
        environment=environment,
        within_s=600,
    ) as server:

        def on_answer(number: int) -> None:
            nonlocal answered
            with lock:
                answered += 1
                if answered % max(1, options.requests // _NUM_SAMPLES) == 0:
                    note(server)

        note(server)
        watched.load = ask(
            port,
            mixed(requests),
            num_clients=_NUM_CLIENTS,
            seconds=60 * options.memory_minutes,
            most=options.requests,
            on_answer=on_answer,
        )
        note(server)
    return watched


def memory_lines(watched: Watched, options: argparse.Namespace) -> list[str]:
    """What was seen, in words and as a table."""
    step = max(1, len(watched.samples) // _SHOWN)
    shown = [*watched.samples[::step]]
    if shown[-1] != watched.samples[-1]:
        shown.append(watched.samples[-1])
    count = sum(watched.load.statuses.values())
    statuses = ", ".join(f"{n:,} x {status}" for status, n in sorted(watched.load.statuses.items()))
    growth, slope = watched.growth_mib, watched.slope()
    verdict = "reached" if growth <= _GROWTH_BAR_MIB else "**missed**"
    cut = (
        ""
        if count >= options.requests
        else f" (of {options.requests:,}: {options.memory_minutes:g} minutes were over)"
    )
    return [
        f"{count:,} requests{cut} of {_NUM_CLIENTS} clients to one process: queries, every tenth a "
        "search, every twentieth a text beyond the limit, several texts, token ids, an unknown "
        f"model or no JSON. Answers: {statuses}.",
        "",
        *table(
            ["requests answered", "in memory (VmRSS), MiB", "without mapped files (RssAnon), MiB"],
            [[f"{n:,}", f"{all_mib:,.1f}", f"{own_mib:,.1f}"] for n, all_mib, own_mib in shown],
        ),
        f"From the first tenth to the end {growth:+.1f} MiB (bar: at most {_GROWTH_BAR_MIB} MiB, "
        f"{verdict}); slope over the second half {slope:+.2f} KiB per 1,000 requests.",
        "",
    ]
