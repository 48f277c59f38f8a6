"""Lanes: each is a thread that does one thing after another out of a queue of bounded length.

A model is asked in a lane of its own, because tokenizers are not safe to share between threads and
because a slow model must not hold up a fast one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from leafkit.core.errors import LeafkitError

_logger = logging.getLogger("leafkit.server")
Item = TypeVar("Item")
Result = TypeVar("Result")


class Busy(Exception):
    """A lane's queue is full; what was asked was not taken."""


@dataclass(slots=True, eq=False)
class _Job(Generic[Item, Result]):
    item: Item
    answer: Future[Result] = field(default_factory=Future)


class Lane(Generic[Item, Result]):
    """A thread and the queue before it.

    Args:
        name: of the thread.
        work: one result, or the exception to raise, for each of some items; what it raises itself
            is raised for each of them.
        limit: items waiting or at work; more are refused.
        weigh: of an item, in the lane's thread, before it is worked at; None works at one item at a
            time.
        budget: items are worked at together while their weights are no more than this.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[Sequence[Item]], Sequence[Result | Exception]],
        *,
        limit: int,
        weigh: Callable[[Item], int] | None = None,
        budget: int = 0,
    ) -> None:
        self.name = name
        self._work, self._limit, self._weigh, self._budget = work, limit, weigh, budget
        self._waiting: deque[_Job[Item, Result]] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._num_at_work = 0
        self._is_closed = False

    def __len__(self) -> int:
        """Items waiting or at work."""
        return len(self._waiting) + self._num_at_work

    def put(self, item: Item) -> Future[Result]:
        """Have an item worked at.

        Raises:
            Busy: the queue is full, or the lane is closed.
            LeafkitError: no thread can be started.
        """
        return self._put(item).answer

    def _put(self, item: Item) -> _Job[Item, Result]:
        job: _Job[Item, Result] = _Job(item)
        with self._changed:
            if self._is_closed or len(self) >= self._limit:
                raise Busy(self.name)
            self._waiting.append(job)
            if self._thread is None or not self._thread.is_alive():
                self._start_thread()
            self._changed.notify()
        return job

    def _start_thread(self) -> None:
        """A thread for what waits; the last that came in is taken out again where there is none."""
        thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        try:
            thread.start()
        except BaseException as err:
            self._waiting.pop()
            raise LeafkitError(
                f"{self.name}: no thread can be started: {err}",
                "the machine lacks memory, or the process may have no more threads",
            ) from err
        # kept only once it runs, so that the next item tries again
        self._thread = thread

    async def ask(self, item: Item) -> Result:
        """The result of an item; one whose caller stops waiting is left out.

        Raises:
            Busy, LeafkitError: see ``put``.
            Exception: what became of it.
        """
        job = self._put(item)
        try:
            return await asyncio.wrap_future(job.answer)
        except asyncio.CancelledError:
            with self._changed, contextlib.suppress(ValueError):
                self._waiting.remove(job)
            raise

    def close(self) -> None:
        """Take no more; what waits is still worked at."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._num_at_work = 0
                while not self._waiting:
                    if self._is_closed:
                        return
                    self._changed.wait()
            jobs = self._take()
            if jobs:
                self._answer(jobs)

    def _take(self) -> list[_Job[Item, Result]]:
        """The next job, and those behind it that fit into one budget with it."""
        jobs: list[_Job[Item, Result]] = []
        weight = 0
        while job := self._next():
            if self._weigh is not None:
                weight += self._weight_of(job.item)
            if jobs and (self._weigh is None or weight > self._budget):
                with self._changed:
                    self._waiting.appendleft(job)
                    self._num_at_work = len(jobs)
                break
            if job.answer.set_running_or_notify_cancel():
                jobs.append(job)
            else:
                with self._changed:
                    self._num_at_work -= 1
        return jobs

    def _next(self) -> _Job[Item, Result] | None:
        with self._changed:
            if not self._waiting:
                return None
            self._num_at_work += 1
            return self._waiting.popleft()

    def _weight_of(self, item: Item) -> int:
        assert self._weigh is not None
        try:
            return self._weigh(item)
        except BaseException:
            # worked at alone, it fails again and its caller is told
            return self._budget + 1

    def _answer(self, jobs: Sequence[_Job[Item, Result]]) -> None:
        results: Sequence[Result | Exception]
        try:
            results = self._work([job.item for job in jobs])
            if len(results) != len(jobs):
                raise LeafkitError(f"{self.name}: {len(results)} results for {len(jobs)} items")
        # a panic in Rust is none of Exception's kind; the lane outlives it
        except BaseException as err:
            if len(jobs) > 1:  # one item's fault is not the others'
                for job in jobs:
                    self._answer([job])
                return
            results = [err if isinstance(err, Exception) else self._as_error(err)]
        for job, result in zip(jobs, results, strict=True):
            # before the caller knows: whoever asks again at once must not find the lane full
            with self._changed:
                self._num_at_work -= 1
            if isinstance(result, Exception):
                job.answer.set_exception(result)
            else:
                job.answer.set_result(result)

    def _as_error(self, err: BaseException) -> LeafkitError:
        """What callers are told of a fault that would end the event loop if it were raised there.

        The fault itself is logged.
        """
        _logger.error("%s: %s", self.name, type(err).__name__, exc_info=err)
        return LeafkitError(
            f"{self.name}: failed with {type(err).__name__}", "the server's log has the reason"
        )
