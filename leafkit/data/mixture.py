"""Batches out of several sources: their shares, how they mix inside a batch, and what each source
gave.

Pure functions of (seed, epoch), so that every process computes the same batches and takes its
share. The mixing is KaLM-Embedding's semi-homogeneous batching (arXiv 2506.20923); its reference
sampler draws from the global generator, by which processes disagree.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

# (source, number of batches, seed) -> global row numbers
MakeBatches = Callable[[int, int, int], Sequence[np.ndarray]]
# over the batches that hold a row twice; one is enough unless almost every row is in almost every
# batch
_MAX_PASSES = 100


def source_counts(
    weights: Sequence[float], num_batches: int, seed: int, epoch: int = 0
) -> np.ndarray:
    """How many of the batches each source fills, (S,) int64.

    Systematic sampling: evenly spaced points with one random offset. Every count is its weight's
    share rounded up or down, so few batches follow the weights too, and over seeds or epochs a
    source of small weight gets its exact share.

    Raises:
        ValueError: a weight is negative or not finite, or none is above 0.
    """
    shares = np.asarray(weights, dtype=np.float64)
    if not len(shares) or not np.isfinite(shares).all() or shares.min() < 0 or shares.sum() <= 0:
        raise ValueError(
            f"weights {list(weights)}: they must be finite, none below 0, and one above 0"
        )
    ends = np.cumsum(shares) / shares.sum() * num_batches
    ends[np.flatnonzero(shares)[-1] :] = (
        num_batches  # whatever the sum rounds to, and sources of weight 0 get nothing
    )
    offset = np.random.default_rng([seed, epoch]).random()
    # points offset, offset + 1, ... below each end
    points_before = np.ceil(np.round(ends, 9) - offset).astype(np.int64)
    return np.diff(np.maximum(points_before, 0), prepend=0)


def semi_homogeneous_batches(
    rows_by_source: Sequence[np.ndarray],
    weights: Sequence[float],
    batch_size: int,
    ratio: float,
    *,
    num_batches: int,
    seed: int,
    epoch: int = 0,
    make_batches: MakeBatches | None = None,
) -> list[np.ndarray]:
    """Batches of one source each, whose last items are then pooled, shuffled and dealt back.

    A source's rows come in random order, each once before any comes again. No batch holds a row
    twice: where dealing brings a row to a batch that has it, the row changes places with another
    one.

    Args:
        rows_by_source: per source its global row numbers.
        weights: per source, its share of the batches relative to the others.
        batch_size: rows per batch.
        ratio: share of each batch that stays of one source; 1 deals nothing, 0 everything.
            ``same_task_share`` says what comes of it.
        num_batches: batches wanted.
        seed: of everything random here.
        epoch: counts passes; every pass has other batches.
        make_batches: ``(source, count, seed)`` gives that many batches of different rows of a
            source, for batches that are hard in themselves (``neighbor_batches``); None draws at
            random.

    Returns:
        ``num_batches`` arrays of ``batch_size`` global row numbers, in random order.

    Raises:
        ValueError: weights or ratio are not usable, or a source has too few rows to fill a batch
            without repeating one.
    """
    if not 0 <= ratio <= 1:
        raise ValueError(f"ratio {ratio} is not between 0 and 1")
    if len(weights) != len(rows_by_source):
        raise ValueError(f"{len(weights)} weights for {len(rows_by_source)} sources")
    counts = source_counts(weights, num_batches, seed, epoch)
    num_dealt = round(batch_size * (1 - ratio))
    parts = [np.empty((0, batch_size), dtype=np.int64)]
    for source in np.flatnonzero(counts).tolist():
        own_seed = int(np.random.SeedSequence([seed, epoch, source]).generate_state(1)[0])
        if make_batches is None:
            part = _draw(
                source,
                rows_by_source[source],
                int(counts[source]),
                batch_size,
                num_kept=batch_size - num_dealt,
                seed=own_seed,
            )
        else:
            part = _checked(
                source,
                make_batches(source, int(counts[source]), own_seed),
                int(counts[source]),
                batch_size,
            )
        parts.append(part)
    generator = np.random.default_rng([seed, epoch, len(weights)])
    table = np.concatenate(parts)
    table = table[generator.permutation(num_batches)]
    if num_dealt:
        dealt = table[:, batch_size - num_dealt :]
        table[:, batch_size - num_dealt :] = generator.permutation(dealt.ravel()).reshape(
            dealt.shape
        )
        _separate_repeats(table, batch_size - num_dealt, generator)
    return list(table)


class _Deck:
    """A source's rows in random order, each once before any comes again."""

    def __init__(self, rows: np.ndarray, seed: int) -> None:
        self._rows, self._generator = np.asarray(rows, dtype=np.int64), np.random.default_rng(seed)
        self._waiting = np.empty(0, dtype=np.int64)

    def take(self, count: int) -> np.ndarray:
        """``count`` different rows, at most as many as there are."""
        taken, self._waiting = self._waiting[:count], self._waiting[count:]
        if len(taken) < count:
            fresh = self._generator.permutation(self._rows)
            more = fresh[~np.isin(fresh, taken)][: count - len(taken)]
            # those taken a moment ago wait for their second turn
            self._waiting = fresh[~np.isin(fresh, more)]
            taken = np.concatenate([taken, more])
        return taken


def _draw(
    source: int, rows: np.ndarray, count: int, batch_size: int, *, num_kept: int, seed: int
) -> np.ndarray:
    """(count, batch_size) rows of one source; all of a batch differ where it can fill one, else the
    first ``num_kept``.
    """
    num_rows = len(rows)
    if num_rows < max(1, num_kept):
        raise ValueError(
            f"source {source} has {num_rows} rows, which do not fill the {num_kept} of a batch "
            f"of {batch_size} that stay"
            " together: lower the batch size or the ratio, or give the source weight 0"
        )
    sizes = [batch_size]
    if num_rows < batch_size:
        whole, rest = divmod(batch_size - num_kept, num_rows)
        sizes = [num_kept, *[num_rows] * whole, rest]
    deck = _Deck(rows, seed)
    return np.stack([np.concatenate([deck.take(size) for size in sizes]) for _ in range(count)])


def _separate_repeats(table: np.ndarray, num_kept: int, generator: np.random.Generator) -> None:
    """Swap dealt rows between batches, in place, until no batch holds a row twice.

    Raises:
        ValueError: a row was drawn more often than there are batches, or no exchange was found.
    """
    numbers, copies = np.unique(table, return_counts=True)
    if copies.max() > len(table):
        raise ValueError(
            f"row {numbers[copies.argmax()]} would come {copies.max()} times in {len(table)} "
            f"batches: its source has too few"
            " rows for its weight"
        )
    for _ in range(_MAX_PASSES):
        ordered = np.sort(table, axis=1)
        repeated = np.flatnonzero((ordered[:, 1:] == ordered[:, :-1]).any(axis=1))
        if not len(repeated):
            return
        for batch in repeated.tolist():
            first = np.unique(table[batch], return_index=True)[1]
            for column in np.setdiff1d(np.arange(table.shape[1]), first).tolist():
                _exchange(table, batch, column, num_kept, generator=generator)
    raise ValueError(
        "too few different rows to deal out without repeats inside a batch: lower the batch size "
        "or the weights"
    )


def _exchange(
    table: np.ndarray, batch: int, column: int, num_kept: int, *, generator: np.random.Generator
) -> None:
    """Swap an entry with a dealt one of another batch; where no pair fits, with any of a batch that
    lacks it.
    """
    value, others = table[batch, column], generator.permutation(len(table))
    lacking = []
    for other in others.tolist():
        if (table[other] == value).any():
            continue
        lacking.append(other)
        fits = num_kept + np.flatnonzero(~np.isin(table[other, num_kept:], table[batch]))
        if len(fits):
            table[batch, column], table[other, fits[0]] = table[other, fits[0]], value
            return
    if lacking:
        place = generator.integers(num_kept, table.shape[1])
        table[batch, column], table[lacking[0], place] = table[lacking[0], place], value


def _checked(source: int, batches: Sequence[np.ndarray], count: int, batch_size: int) -> np.ndarray:
    if len(batches) != count or any(
        len(set(np.asarray(batch).tolist())) != batch_size for batch in batches
    ):
        raise ValueError(
            f"make_batches did not give {count} batches of {batch_size} different rows for "
            f"source {source}"
        )
    return np.asarray(batches, dtype=np.int64)


def same_task_share(batches: Sequence[np.ndarray], source_of_row: np.ndarray) -> float:
    """Mean over all rows of the share of the OTHER rows of their batch that come from the same
    source.

    What mixing really left: the ratio of semi-homogeneous batches is not it. 1 where no batch holds
    two rows.

    Args:
        batches: arrays of global row numbers.
        source_of_row: (rows,) the source of each row.
    """
    same = others = 0.0
    for batch in batches:
        if len(batch) > 1:
            counts = np.unique(np.asarray(source_of_row)[batch], return_counts=True)[1].astype(
                np.float64
            )
            same += float((counts * (counts - 1)).sum()) / (len(batch) - 1)
            others += len(batch)
    return same / others if others else 1.0


def contribution_table(
    names: Sequence[str],
    weights: Sequence[float],
    num_read: Sequence[int],
    num_kept: Sequence[int],
    *,
    batches: Sequence[np.ndarray],
    source_of_row: np.ndarray,
) -> list[dict[str, str | int | float]]:
    """What each source gave to a stage, as plain numbers.

    Args:
        names: of the sources.
        weights: the shares asked for, relative to one another.
        num_read: rows read, per source.
        num_kept: rows left after filters, per source.
        batches: the stage's batches, arrays of global row numbers.
        source_of_row: (rows,) the source of each row.

    Returns:
        Per source: source, weight (share asked for), read, dropped, kept, batches (that hold a row
        of it), drawn, share (of all rows drawn), distinct (different rows drawn), repeats (times
        each of them was drawn, in the mean).
    """
    drawn = np.concatenate([np.empty(0, dtype=np.int64), *batches])
    sources = np.asarray(source_of_row)
    num_drawn = np.bincount(sources[drawn], minlength=len(names))
    num_distinct = np.bincount(sources[np.unique(drawn)], minlength=len(names))
    num_batches = np.zeros(len(names), dtype=np.int64)
    for batch in batches:
        num_batches[np.unique(sources[batch])] += 1
    return [
        {
            "source": name,
            "weight": float(weights[i]) / float(sum(weights)),
            "read": int(num_read[i]),
            "dropped": int(num_read[i]) - int(num_kept[i]),
            "kept": int(num_kept[i]),
            "batches": int(num_batches[i]),
            "drawn": int(num_drawn[i]),
            "share": float(num_drawn[i]) / max(1, len(drawn)),
            "distinct": int(num_distinct[i]),
            "repeats": float(num_drawn[i]) / max(1, int(num_distinct[i])),
        }
        for i, name in enumerate(names)
    ]
