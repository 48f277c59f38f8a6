"""Clients of an HTTP server on this machine, as cheap as they can be, for they share its cores.

Every loop is bounded in requests and in seconds, and no other address than 127.0.0.1 is asked.
"""

from __future__ import annotations

import itertools
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

HOST = "127.0.0.1"
_SLOWEST_ANSWER_S = 120
_KEPT_EVERY = 16  # answers whose bodies are kept


def make_request(path: str, body: Mapping[str, Any]) -> bytes:
    """A POST request as it goes over the wire."""
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


class Connection:
    """A connection that is kept from request to request.

    Args:
        port: on this machine.
    """

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection((HOST, port), timeout=_SLOWEST_ANSWER_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._rest = b""

    def ask(self, request: bytes) -> tuple[int, bytes]:
        """Status and body of the answer.

        Raises:
            OSError: the server hung up, or took longer than two minutes.
            ValueError: the answer does not say how long it is.
        """
        self._socket.sendall(request)
        found = self._rest
        while (end := found.find(b"\r\n\r\n")) < 0:
            found += self._receive()
        head = found[:end].lower()
        _, has_length, after = head.partition(b"content-length:")
        if not has_length:
            raise ValueError("the answer has no Content-Length")
        length = int(after.split(b"\r\n", 1)[0])
        body = found[end + 4 :]
        while len(body) < length:
            body += self._receive()
        self._rest = body[length:]
        return int(head.split(b" ", 2)[1]), body[:length]

    def _receive(self) -> bytes:
        part = self._socket.recv(65_536)
        if not part:
            raise ConnectionError("the server hung up")
        return part

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


@dataclass
class Load:
    """What clients saw.

    Attributes:
        seconds: from the first request to the last answer.
        latencies_ms: (answers,) in no order.
        statuses: answers by status; "error" counts requests without one.
        bodies: of some of the answers with status 200.
    """

    seconds: float = 0.0
    latencies_ms: np.ndarray = field(default_factory=lambda: np.empty(0))
    statuses: Counter[str] = field(default_factory=Counter)
    bodies: list[bytes] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Answers per second."""
        return len(self.latencies_ms) / self.seconds

    def percentile(self, share: float) -> float:
        """Milliseconds within which so many percent of the answers came."""
        return float(np.percentile(self.latencies_ms, share))

    def check(self, what: str) -> None:
        """Refuse latencies of errors, which are none of answers.

        Raises:
            SystemExit: one was answered with another status than 200, or not at all.
        """
        if self.statuses.keys() != {"200"}:
            raise SystemExit(f"{what} were answered with {dict(self.statuses)}")

    def figures(self) -> dict[str, Any]:
        """Medians, tail and rate, for JSON and tables."""
        return {
            "p50_ms": self.percentile(50),
            "p99_ms": self.percentile(99),
            "rate": self.rate,
            "answers": len(self.latencies_ms),
            "statuses": dict(self.statuses),
        }


def ask(
    port: int,
    requests: Sequence[bytes],
    *,
    num_clients: int,
    seconds: float,
    most: int,
    on_answer: Callable[[int], None] | None = None,
) -> Load:
    """Ask a server, each client the next request as soon as it has an answer.

    Args:
        port: on this machine.
        requests: asked in turn, from the first again after the last.
        num_clients: each with a connection and a thread of its own.
        seconds: after which no request is begun.
        most: requests in all.
        on_answer: called with the number of each request that was answered, by any thread.

    Raises:
        SystemExit: nothing was answered.
    """
    numbers = itertools.count()
    load, lock = Load(), threading.Lock()
    kept: list[list[float]] = []
    started_s = time.perf_counter()

    def run() -> None:
        latencies: list[float] = []
        statuses: Counter[str] = Counter()
        bodies = []
        connection = None
        while (number := next(numbers)) < most and time.perf_counter() - started_s < seconds:
            asked_s = time.perf_counter()
            try:
                connection = connection or Connection(port)
                status, body = connection.ask(requests[number % len(requests)])
            except (OSError, ValueError):
                statuses["error"] += 1
                connection = None
                continue
            latencies.append(1e3 * (time.perf_counter() - asked_s))
            statuses[str(status)] += 1
            if status == 200 and len(latencies) % _KEPT_EVERY == 1:
                bodies.append(body)
            if on_answer is not None:
                on_answer(number)
        if connection is not None:
            connection.close()
        with lock:
            kept.append(latencies)
            load.statuses.update(statuses)
            load.bodies.extend(bodies)

    threads = [threading.Thread(target=run) for _ in range(num_clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    load.seconds = time.perf_counter() - started_s
    load.latencies_ms = np.array(list(itertools.chain(*kept)))
    if not len(load.latencies_ms):
        raise SystemExit(f"port {port}: no request was answered ({dict(load.statuses)})")
    return load


def ask_each(port: int, requests: Sequence[bytes]) -> list[bytes]:
    """The body of each request's answer, one after another.

    Raises:
        SystemExit: one is answered with another status than 200.
    """
    connection = Connection(port)
    bodies = []
    for request in requests:
        status, body = connection.ask(request)
        if status != 200:
            raise SystemExit(f"port {port} answers {status}: {body[:300]!r}")
        bodies.append(body)
    connection.close()
    return bodies
