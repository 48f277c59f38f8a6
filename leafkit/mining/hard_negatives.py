"""Hard negatives and the ranking-consistency filter, both out of one exact search (KaLM-Embedding,
arXiv 2501.01028).

Shapes: R rows (a query with one of its positives), Q distinct queries, N documents, D dimensions, K
ranks looked at, W = last_rank - first_rank, m = num_negatives.

Scores within rounding of one another are equal (``leafkit.index.ranking``): a tie counts against
the positive, and a tie with a rule's limit is not above it. The positive itself is known by its
position, so that it never ties with itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np

from leafkit.config import MiningConfig
from leafkit.index.exclusion import BLOCK_ROWS, search_excluding
from leafkit.index.vectors import Vectors, as_floats


@dataclass(frozen=True, slots=True)
class Mined:
    """What one search found for R rows.

    Attributes:
        negatives: (R, m) int64 positions of documents, best first; -1 where fewer were found, and
            in rows not kept.
        ranks: (R, m) int32 rank of each in the query's ranking, counted from 0 without relevant
            documents; -1 as above.
        scores: (R, m) float32 inner products; NaN as above.
        positive_ranks: (R,) int64 strict rank of the row's positive; K, the ranks looked at, also
            stands for more.
        positive_scores: (R,) float32.
        kept: (R,) bool, the verdict of the ranking-consistency filter.
        counts: what happened, in words.
    """

    negatives: np.ndarray
    ranks: np.ndarray
    scores: np.ndarray
    positive_ranks: np.ndarray
    positive_scores: np.ndarray
    kept: np.ndarray
    counts: dict[str, int]


@dataclass(frozen=True, slots=True)
class Rows:
    """What is mined for.

    Attributes:
        queries: (R,) each row's query, a position.
        positives: (R,) each row's positive document, a position; relevant to its query whether
            ``relevant`` says so or not.
        relevant: per query all documents known to answer it; never negatives, and not counted in
            ranks.
        keys: (R,) integers that tell rows apart, a hash of their texts for example; None takes row
            numbers, which stay the same only while rows are added at the end.
    """

    queries: np.ndarray
    positives: np.ndarray
    relevant: Sequence[AbstractSet[int]]
    keys: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.queries)


@dataclass(frozen=True, slots=True)
class _Ranked:
    """Some rows with the ranking of their queries: (r, K) candidates, best first, -1 and -inf after
    the last.
    """

    numbers: np.ndarray
    positions: np.ndarray
    scores: np.ndarray
    positives: np.ndarray
    positive_scores: np.ndarray  # float64
    tolerance: np.ndarray  # scores closer than this are equal
    keys: np.ndarray


def mine(
    queries: Vectors,
    documents: Vectors,
    rows: Rows,
    settings: MiningConfig,
    *,
    seed: int,
    block_rows: int = BLOCK_ROWS,
) -> Mined:
    """Negatives and filter verdicts of every row; memory is the documents in float32 and one block.

    Negatives: of the ranks [first_rank, last_rank), counted without the query's relevant documents,
    refuse those above ``max_positive_share`` of the positive's score (NV-Retriever's percentage to
    the positive, arXiv 2407.15831; where that score is negative, as far below it as a positive one
    would be: s - (1 - share) |s|), those above the positive's score minus ``min_margin``, and those
    whose vector equals the positive's: no model could rank them apart. Of the rest draw
    ``num_negatives`` at random (KaLM-Embedding draws from ranks 50 to 100). A row that the filter
    drops gets none.

    Filter: keep a row if fewer than ``filter_rank`` documents, the query's relevant ones aside,
    score at least as high as its positive. A copy of the positive that is not known to be relevant
    counts against it: deduplicate texts before.

    Args:
        queries: (Q, D) one vector per distinct query.
        documents: (N, D).
        rows: what is mined for.
        settings: window, rules and filter; ``model`` and ``on_shortfall`` are the caller's.
        seed: of the draw, which depends on the seed, the row's key and the documents in the window
            alone.
        block_rows: queries searched at a time; changes memory and speed only.

    Raises:
        LeafkitError: a vector is not finite; the row is named.
        ValueError: shapes or positions do not fit together, or the settings ask for nothing.
    """
    row_queries, row_positives = (
        np.asarray(x, dtype=np.int64) for x in (rows.queries, rows.positives)
    )
    _check(
        len(queries),
        len(documents),
        Rows(row_queries, row_positives, rows.relevant),
        settings,
    )
    keys = np.arange(len(rows)) if rows.keys is None else np.asarray(rows.keys)
    keys = _scramble(keys.astype(np.uint64) + _scramble(np.asarray([seed]).astype(np.uint64)))
    out = _nothing_mined(len(rows), settings.num_negatives)
    counts: Counter[str] = Counter({"rows": len(rows)})
    if len(rows):
        vectors = as_floats(documents, slice(None), "document")
        checked = Rows(row_queries, row_positives, rows.relevant, keys)
        for part in _rank(queries, vectors, checked, settings, block_rows=block_rows):
            _judge(part, settings, vectors, out=out, counts=counts)
    out.counts.update(counts)
    return out


def _nothing_mined(num_rows: int, width: int) -> Mined:
    return Mined(
        negatives=np.full((num_rows, width), -1, dtype=np.int64),
        ranks=np.full((num_rows, width), -1, dtype=np.int32),
        scores=np.full((num_rows, width), np.nan, dtype=np.float32),
        positive_ranks=np.zeros(num_rows, dtype=np.int64),
        positive_scores=np.zeros(num_rows, dtype=np.float32),
        kept=np.ones(num_rows, dtype=bool),
        counts={},
    )


def _rank(
    queries: Vectors, vectors: np.ndarray, rows: Rows, settings: MiningConfig, *, block_rows: int
) -> Iterator[_Ranked]:
    """All rows, some at a time, with the rankings of their queries; a query is searched once."""
    num_ranks = max(settings.last_rank if settings.num_negatives else 0, settings.filter_rank)
    by_query = np.argsort(rows.queries, kind="stable")
    distinct, first_rows = np.unique(rows.queries[by_query], return_index=True)
    rows_of = np.split(by_query, first_rows[1:])
    known = [
        _with(rows.relevant[q], rows.positives[of_query].tolist())
        for q, of_query in zip(distinct.tolist(), rows_of, strict=True)
    ]
    for block in search_excluding(
        queries, distinct, vectors, known, num_ranks=num_ranks, block_rows=block_rows
    ):
        numbers = np.concatenate([rows_of[i] for i in block.members])
        sizes = [len(rows_of[i]) for i in block.members]
        member = np.repeat(np.arange(len(block.members)), sizes)
        for start in range(0, len(numbers), block_rows):  # a query may have many rows
            here, of = numbers[start : start + block_rows], member[start : start + block_rows]
            positives = rows.positives[here]
            own = np.einsum("rd,rd->r", block.queries[of], vectors[positives], dtype=np.float64)
            assert rows.keys is not None
            yield _Ranked(
                numbers=here,
                positions=block.positions[of],
                scores=block.scores[of],
                positives=positives,
                positive_scores=own,
                tolerance=block.tolerance[of],
                keys=rows.keys[here],
            )


def _judge(
    rows: _Ranked, settings: MiningConfig, vectors: np.ndarray, *, out: Mined, counts: Counter[str]
) -> None:
    """Write the verdicts and negatives of some rows into ``out``."""
    here = rows.numbers
    ranks = (rows.scores >= (rows.positive_scores - rows.tolerance)[:, None]).sum(axis=1)
    kept = ranks < settings.filter_rank if settings.filter_rank else np.ones(len(here), dtype=bool)
    out.positive_ranks[here], out.positive_scores[here], out.kept[here] = (
        ranks,
        rows.positive_scores,
        kept,
    )
    if settings.filter_rank:
        counts["rows dropped by the filter"] += int((~kept).sum())
    if not settings.num_negatives:
        return
    first, width = settings.first_rank, settings.num_negatives
    window = rows.positions[:, first : settings.last_rank]
    eligible = (window >= 0) & kept[:, None]
    counts["candidates in the window"] += int(eligible.sum())
    counts["candidates missing: too few documents"] += int((kept[:, None] & (window < 0)).sum())
    for rule, refused in _refusals(rows, eligible, settings, vectors):
        counts[f"candidates refused: {rule}"] += int((eligible & refused).sum())
        eligible &= ~refused
    columns = _draw(window, eligible, rows.keys, width)
    found = columns < window.shape[1]
    at = np.minimum(columns, window.shape[1] - 1)
    out.negatives[here] = np.where(found, np.take_along_axis(window, at, axis=1), -1)
    out.ranks[here] = np.where(found, columns + first, -1)
    scores = np.take_along_axis(rows.scores[:, first : settings.last_rank], at, axis=1)
    out.scores[here] = np.where(found, scores, np.nan)
    missing = (width - found.sum(axis=1))[kept]
    counts["rows with too few negatives"] += int((missing > 0).sum())
    counts["negatives missing"] += int(missing.sum())


def _refusals(
    rows: _Ranked, eligible: np.ndarray, settings: MiningConfig, vectors: np.ndarray
) -> Iterator[tuple[str, np.ndarray]]:
    """Each rule's name and the candidates it refuses, (r, W), among others that an earlier rule has
    refused.
    """
    scores = rows.scores[:, settings.first_rank : settings.last_rank]
    positions = rows.positions[:, settings.first_rank : settings.last_rank]
    if settings.max_positive_share > 0:
        limit = rows.positive_scores - (1 - settings.max_positive_share) * np.abs(
            rows.positive_scores
        )
        yield (
            "above max_positive_share of the positive's score",
            scores > (limit + rows.tolerance)[:, None],
        )
    if settings.min_margin > 0:
        limit = rows.positive_scores - settings.min_margin
        yield "not min_margin below the positive", scores > (limit + rows.tolerance)[:, None]
    same = eligible & (np.abs(scores - rows.positive_scores[:, None]) <= rows.tolerance[:, None])
    pairs = np.argwhere(same)
    for start in range(0, len(pairs), BLOCK_ROWS):
        row, column = pairs[start : start + BLOCK_ROWS].T
        same[row, column] = (vectors[positions[row, column]] == vectors[rows.positives[row]]).all(
            axis=1
        )
    yield "same vector as the positive", same


def _draw(positions: np.ndarray, eligible: np.ndarray, keys: np.ndarray, count: int) -> np.ndarray:
    """(r, count) columns drawn without replacement, ascending; W where none is left.

    Each (row, document) has a random number of its own and the smallest win, so that another
    document in the window, or another row, does not change the draw among the others.
    """
    numbers = _scramble(positions.astype(np.uint64) + keys[:, None])
    numbers[~eligible] = np.iinfo(np.uint64).max
    chosen = np.argsort(numbers, axis=1, kind="stable")[:, :count]
    chosen[~np.take_along_axis(eligible, chosen, axis=1)] = positions.shape[1]
    return np.sort(chosen, axis=1)


def _scramble(values: np.ndarray) -> np.ndarray:
    """Splitmix64 (Steele et al. 2014): 64 random bits per integer, the same on every machine."""
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _with(relevant: AbstractSet[int], positives: list[int]) -> AbstractSet[int]:
    return relevant if all(p in relevant for p in positives) else relevant | set(positives)


def _check(num_queries: int, num_documents: int, rows: Rows, settings: MiningConfig) -> None:
    if not (settings.num_negatives or settings.filter_rank):
        raise ValueError("neither num_negatives nor filter_rank is set")
    if settings.num_negatives > settings.last_rank - settings.first_rank:
        raise ValueError(
            f"{settings.num_negatives} negatives out of ranks {settings.first_rank} to "
            f"{settings.last_rank}"
        )
    if len(rows.relevant) != num_queries or len(rows.queries) != len(rows.positives):
        raise ValueError(
            f"{num_queries} queries with {len(rows.relevant)} sets of relevant documents,"
            f" {len(rows.queries)} rows with {len(rows.positives)} positives"
        )
    for name, numbers, count in (
        ("query", rows.queries, num_queries),
        ("document", rows.positives, num_documents),
    ):
        if len(numbers) and not 0 <= numbers.min() <= numbers.max() < count:
            raise ValueError(f"rows name {name} {numbers.min()} to {numbers.max()} of {count}")
