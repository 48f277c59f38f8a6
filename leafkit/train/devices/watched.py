"""Losses and norms of gradients on their way from the device, each looked at when it is there."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import torch

from leafkit.core.devices import fetch, kind_of
from leafkit.core.errors import LeafkitError


@dataclass(frozen=True, slots=True)
class _Number:
    what: str
    step: int
    arriving: Callable[[], torch.Tensor]
    take: Callable[[float], object]


def _leave(number: float) -> None:
    """Whoever is only to be finite is not kept."""


class WatchedNumbers:
    """Numbers of a training that have to be finite. Where the device runs ahead, each is looked at
    when the next one of its kind is there, so that the processor never waits for the step that it
    has just begun; elsewhere at once.
    """

    def __init__(self) -> None:
        self._under_way: dict[str, deque[_Number]] = {}

    def watch(
        self,
        what: str,
        step: int,
        value: torch.Tensor,
        take: Callable[[float], object] = _leave,
    ) -> None:
        """Look at a number, now or one step later.

        Args:
            what: names its kind: loss, gradient.
            step: that it is of.
            value: of one element, on any device.
            take: gets it once it is known, in the order in which they came.

        Raises:
            LeafkitError: this number, or the one before it, is not finite.
        """
        numbers = self._under_way.setdefault(what, deque())
        numbers.append(_Number(what, step, fetch(value.detach()), take))
        self._settle(numbers, keep=int(kind_of(value.device).runs_ahead))

    def settle(self) -> None:
        """Look at all that are on their way.

        Raises:
            LeafkitError: one is not finite.
        """
        for numbers in self._under_way.values():
            self._settle(numbers, keep=0)

    def _settle(self, numbers: deque[_Number], keep: int) -> None:
        while len(numbers) > keep:
            number = numbers.popleft()
            value = float(number.arriving())
            if not math.isfinite(value):
                raise LeafkitError(
                    f"the {number.what} of step {number.step} is not finite",
                    "use precision=float32 or a lower lr",
                )
            number.take(value)
