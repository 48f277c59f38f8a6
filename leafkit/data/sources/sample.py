"""A sample of rows instead of the first ones, which in an ordered file are all of one kind.

Rows are drawn by a hash of their content: a larger limit keeps what a smaller one drew, and so do
rows that are added to the file or put in another order, but for those that the new ones displace.
What was computed for a row's texts is found again.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, TypeVar

import numpy as np

Content = TypeVar("Content")
SEED = 0  # the same rows in every run of every recipe
_TAKEN = "rows taken at random (limit) out of {:,}"
_HASH = np.dtype("<u8")
_AT_ONCE = 2**16


def choose_rows(
    read: Callable[[], Iterator[tuple[str, Content]]],
    limit: int,
    counts: Counter[str],
    content_of: Callable[[Content], bytes],
) -> Iterator[tuple[str, Content]]:
    """``limit`` rows drawn by their content, in their order; all where there are no more, or where
    ``limit`` is 0. What was drawn is counted. No more is held than a number for each row drawn.

    Args:
        read: gives the rows from the first one on, each with where it stands; called twice where
            there is a limit.
        limit: rows taken.
        counts: gets their number.
        content_of: what a row is drawn by.
    """
    if not limit:
        yield from read()
        return
    chosen = iter(choose_numbers((content_of(row) for _, row in read()), limit, counts))
    wanted = next(chosen, None)
    for number, row in enumerate(read()):
        if number == wanted:
            yield row
            wanted = next(chosen, None)


def choose_numbers(
    contents: Iterable[str | bytes], limit: int, counts: Counter[str] | None = None
) -> list[int]:
    """Numbers of ``limit`` rows, rising, drawn by what is in them; of all where there are no more.

    The rows whose hashes are lowest are taken; of equal rows, the first.

    Args:
        contents: of the rows, in order.
        limit: rows taken, at least 1.
        counts: gets how many were drawn out of how many.
    """
    rows, total = iter(contents), 0
    hashes, numbers = np.empty(0, dtype=_HASH), np.empty(0, dtype=np.int64)
    while part := b"".join(map(_digest, islice(rows, _AT_ONCE))):
        found = np.frombuffer(part, dtype=_HASH)
        hashes = np.concatenate([hashes, found])
        numbers = np.concatenate([numbers, np.arange(total, total + len(found))])
        total += len(found)
        if len(hashes) > limit:
            # stable: those kept so far stand before the new ones, and equal ones in their order
            kept = np.argsort(hashes, kind="stable")[:limit]
            hashes, numbers = hashes[kept], numbers[kept]
    if total > limit and counts is not None:
        counts[_TAKEN.format(total)] += limit
    return sorted(numbers.tolist())


def _digest(content: str | bytes) -> bytes:
    plain = content.encode("utf-8", "replace") if isinstance(content, str) else content
    return hashlib.blake2b(
        plain, digest_size=_HASH.itemsize, key=SEED.to_bytes(8, "little")
    ).digest()


def row_content(row: dict[str, Any]) -> bytes:
    """What a row of columns is drawn by: its values under their names, in any order."""
    return json.dumps(row, sort_keys=True, default=repr).encode()


def drawn_from(counts: Mapping[str, int]) -> int:
    """How many rows a sample was drawn from, by what was counted; 0 where none was drawn."""
    before, after = _TAKEN.split("{:,}")
    found = [what for what in counts if what.startswith(before) and what.endswith(after)]
    return max((int(what[len(before) :].replace(",", "")) for what in found), default=0)
