"""Counters of a server in Prometheus's text form (version 0.0.4).

Every label's values are known beforehand, so that the counters are one row of numbers. Worker
processes share a file of such rows, and whichever is asked tells the sum.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from typing import BinaryIO

import numpy as np

from leafkit.config import LADDER_RUNGS
from leafkit.results.ladder import STUDENT_RUNG, TEACHER_RUNG

PATHS = (
    "/v1/embeddings",
    "/v1/search",
    "/v1/models",
    "/embed",
    "/health",
    "/ready",
    "/metrics",
    "/",
    "other",
)
_STATUSES = (*map(str, (200, 400, 401, 404, 405, 408, 409, 413, 429, 499, 500, 503)), "other")
# seconds, upper bounds: a query of a small student takes some milliseconds
_BOUNDS_S = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
ROLES = ("query", "document")
LANES = ("student", "teacher", "search", "rungs")
RUNGS = (*LADDER_RUNGS, STUDENT_RUNG, TEACHER_RUNG)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_NUM_BUCKETS = len(_BOUNDS_S) + 1
_REQUESTS = 0
_BUCKETS = _REQUESTS + len(PATHS) * len(_STATUSES)
_SECONDS = _BUCKETS + len(PATHS) * _NUM_BUCKETS
_TEXTS = _SECONDS + len(PATHS)
_TOKENS = _TEXTS + len(ROLES)
_ROUTED = _TOKENS + len(ROLES)
_QUEUES = _ROUTED + len(RUNGS)
_IN_FLIGHT = _QUEUES + len(LANES)
WIDTH = _IN_FLIGHT + 1


class Metrics:
    """One process's counters among those of all.

    Args:
        rows: (workers, WIDTH) float64, shared by all workers.
        worker: whose row this process writes.
    """

    def __init__(self, rows: np.ndarray | None = None, worker: int = 0) -> None:
        self._rows = np.zeros((1, WIDTH)) if rows is None else rows
        self._own: np.ndarray = self._rows[worker]
        # a worker that took another's place has nothing in flight
        self._own[_QUEUES:] = 0

    @property
    def in_flight(self) -> int:
        """Requests of this process that are not answered yet."""
        return int(self._own[_IN_FLIGHT])

    def begin(self) -> None:
        """A request came."""
        self._own[_IN_FLIGHT] += 1

    def end(self, path: str, status: int, seconds: float) -> None:
        """It was answered.

        Args:
            path: of the URL.
            status: of the answer.
            seconds: between the two.
        """
        self._own[_IN_FLIGHT] -= 1
        at = PATHS.index(path) if path in PATHS else len(PATHS) - 1
        told = str(status) if str(status) in _STATUSES else "other"
        self._own[_REQUESTS + at * len(_STATUSES) + _STATUSES.index(told)] += 1
        self._own[_BUCKETS + at * _NUM_BUCKETS + bisect_left(_BOUNDS_S, seconds)] += 1
        self._own[_SECONDS + at] += seconds

    def count_texts(self, role: str, texts: int, tokens: int) -> None:
        """Texts were embedded in a role; tokens are 0 where they are not known."""
        self._own[_TEXTS + ROLES.index(role)] += texts
        self._own[_TOKENS + ROLES.index(role)] += tokens

    def count_rung(self, rung: str) -> None:
        """A rung of a ladder answered a query."""
        self._own[_ROUTED + RUNGS.index(rung)] += 1

    def write(self, queues: Mapping[str, int]) -> str:
        """All counters of all workers, as Prometheus reads them.

        Args:
            queues: lengths of this process's lanes by name.
        """
        self.note_queues(queues)
        return "\n".join(self._lines(self._rows.sum(axis=0))) + "\n"

    def note_queues(self, queues: Mapping[str, int]) -> None:
        """Remember how long this process's lanes are, for whichever worker is asked."""
        for at, lane in enumerate(LANES):
            self._own[_QUEUES + at] = queues.get(lane, 0)

    def _lines(self, row: np.ndarray) -> Iterator[str]:
        yield from _head("leafkit_requests_total", "counter", "Requests by path and status.")
        for i, path in enumerate(PATHS):
            for j, status in enumerate(_STATUSES):
                count = row[_REQUESTS + i * len(_STATUSES) + j]
                if count:
                    labels = f'path="{path}",status="{status}"'
                    yield f"leafkit_requests_total{{{labels}}} {count:.0f}"
        name = "leafkit_request_seconds"
        yield from _head(name, "histogram", "Time from a request's head to the end of its answer.")
        for i, path in enumerate(PATHS):
            start = _BUCKETS + i * _NUM_BUCKETS
            sums = row[start : start + _NUM_BUCKETS].cumsum()
            if not sums[-1]:
                continue
            for bound, count in zip((*_BOUNDS_S, "+Inf"), sums, strict=True):
                yield f'{name}_bucket{{path="{path}",le="{bound}"}} {count:.0f}'
            yield f'{name}_sum{{path="{path}"}} {row[_SECONDS + i]:.6f}'
            yield f'{name}_count{{path="{path}"}} {sums[-1]:.0f}'
        for name, start, help_text in (
            ("leafkit_texts_total", _TEXTS, "Texts that were embedded."),
            ("leafkit_tokens_total", _TOKENS, "Tokens that were read of them, where known."),
        ):
            yield from _head(name, "counter", help_text)
            for i, role in enumerate(ROLES):
                yield f'{name}{{role="{role}"}} {row[start + i]:.0f}'
        yield from _head(
            "leafkit_routed_total", "counter", "Queries by the rung that answered them."
        )
        for i, rung in enumerate(RUNGS):
            count = row[_ROUTED + i]
            if count:
                yield f'leafkit_routed_total{{rung="{rung}"}} {count:.0f}'
        yield from _head("leafkit_queue_length", "gauge", "Requests waiting or at work by lane.")
        for i, lane in enumerate(LANES):
            yield f'leafkit_queue_length{{lane="{lane}"}} {row[_QUEUES + i]:.0f}'
        yield from _head("leafkit_requests_in_flight", "gauge", "Requests not answered yet.")
        yield f"leafkit_requests_in_flight {row[_IN_FLIGHT]:.0f}"


def share_rows(stream: BinaryIO, workers: int) -> np.ndarray:
    """(workers, WIDTH) rows in a file that is open for reading and writing, zero where it is
    new.
    """
    return np.memmap(stream, dtype=np.float64, mode="r+", shape=(workers, WIDTH))


def _head(name: str, kind: str, text: str) -> Iterator[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"
