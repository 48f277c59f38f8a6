"""A sample of rows instead of the first ones, which in an ordered file are all of one kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np

Row = TypeVar("Row")
SEED = 0  # the same rows in every run of every recipe
_TAKEN = "rows taken at random (limit) out of {:,}"


def choose_rows(
    read: Callable[[], Iterator[Row]], limit: int, counts: Counter[str]
) -> Iterator[Row]:
    """``limit`` rows drawn without replacement, in their order; all where there are no more, or
    where ``limit`` is 0. What was drawn is counted.

    Args:
        read: gives the rows from the first one on; called twice where there is a limit.
        limit: rows taken.
        counts: gets their number.
    """
    if not limit:
        yield from read()
        return
    total = sum(1 for _ in read())
    chosen = set(choose_numbers(total, limit, counts))
    yield from (row for number, row in enumerate(read()) if number in chosen)


def choose_numbers(total: int, limit: int, counts: Counter[str]) -> list[int]:
    """Numbers of ``limit`` rows out of ``total``, rising; of all where there are no more."""
    if total <= limit:
        return list(range(total))
    counts[_TAKEN.format(total)] += limit
    drawn = np.random.default_rng(SEED).choice(total, limit, replace=False)
    return sorted(drawn.tolist())
