"""Batches made on demand, one ahead of the model, and weighted for gradient accumulation."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from torch.utils.data import Dataset

from leafkit.core.errors import UsageError


def accumulation_weights(rows: Sequence[int], num_accumulated: int) -> list[float]:
    """Weight of each batch's mean loss, so that a window's gradient is that of one larger batch.

    Lightning divides every loss by ``num_accumulated`` and adds the gradients of that many batches
    up; the last window of an epoch may have fewer. A batch of r rows in a window of R rows is to
    count r / R.

    >>> accumulation_weights([2, 6, 5], 2)
    [0.5, 1.5, 2.0]

    Args:
        rows: rows of each global batch.
        num_accumulated: batches per optimizer step.
    """
    weights: list[float] = []
    for start in range(0, len(rows), num_accumulated):
        window = rows[start : start + num_accumulated]
        weights += [num_accumulated * count / sum(window) for count in window]
    return weights


class BatchList(Dataset[Any]):
    """Item i is this process's share of global batch i: a pure function of i, so a run can resume.

    Args:
        num_batches: how many there are.
        make: makes the share of global batch i; a frozen dataclass with ``loss_weight`` where
            gradients are accumulated.
        rows: rows of each global batch; what ``accumulated`` weighs by.

    Attributes:
        waited_s: seconds that asking for batches took so far; the model waits meanwhile.
    """

    def __init__(
        self, num_batches: int, make: Callable[[int], Any], rows: Sequence[int] | None = None
    ) -> None:
        self._num_batches, self._make, self._rows = num_batches, make, rows
        self._thread: ThreadPoolExecutor | None = None
        self._next: tuple[int, Future[Any]] | None = None
        self.waited_s = 0.0

    def __len__(self) -> int:
        return self._num_batches

    def __getitem__(self, index: int) -> Any:
        started_s = time.perf_counter()
        ready = self._next[1] if self._next is not None and self._next[0] == index else None
        batch = ready.result() if ready is not None else self._make(index)
        self._next = None
        if self._thread is not None and index + 1 < len(self):
            self._next = index + 1, self._thread.submit(self._make, index + 1)
        self.waited_s += time.perf_counter() - started_s
        return batch

    def accumulated(self, num_accumulated: int) -> BatchList:
        """The same batches, weighted for ``num_accumulated`` of them per optimizer step.

        Raises:
            UsageError: nothing says how many rows each batch has.
        """
        if num_accumulated == 1:
            return self
        if self._rows is None:
            raise UsageError(
                f"accumulate_grad_batches={num_accumulated} needs the rows of each batch",
                "BatchList(num_batches, make, rows=[...])",
            )
        weights, make = accumulation_weights(self._rows, num_accumulated), self._make
        return BatchList(len(self), lambda i: replace(make(i), loss_weight=weights[i]), self._rows)

    @contextlib.contextmanager
    def made_ahead(self) -> Iterator[None]:
        """Within it one thread makes the batch after the one that was asked for, so that the model
        need not wait for it.

        Making a batch should read with numpy: a torch operation large enough for several threads
        starts a team of its own, which competes with the model's for the cores.
        """
        with ThreadPoolExecutor(1, "batches") as self._thread:
            try:
                yield
            finally:
                self._thread.shutdown(wait=True, cancel_futures=True)
                self._thread = self._next = None
