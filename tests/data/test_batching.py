"""Batches are pure functions of lengths, seed and epoch."""

from __future__ import annotations

import numpy as np
import pytest

from leafkit.data.batching import (
    neighbor_batches,
    random_batches,
    share_of_rank,
    token_budget_batches,
)

LENGTHS = np.random.default_rng(0).integers(1, 60, size=500)


def _batches(seed: int = 1, epoch: int = 0, **changes: int) -> list[np.ndarray]:
    return token_budget_batches(
        LENGTHS, **{"max_tokens": 256, "max_rows": 24} | changes, seed=seed, epoch=epoch
    )


def _lists(batches: list[np.ndarray]) -> list[list[int]]:
    return [batch.tolist() for batch in batches]


@pytest.mark.parametrize("window", [1, 7, 100, 500, 4096])
@pytest.mark.parametrize(
    ("max_tokens", "max_rows"), [(256, 24), (60, 1), (100_000, 8), (100_000, 100_000)]
)
def test_every_text_once_within_both_limits(window: int, max_tokens: int, max_rows: int) -> None:
    batches = _batches(window=window, max_tokens=max_tokens, max_rows=max_rows)
    assert sorted(np.concatenate(batches).tolist()) == list(range(500))
    for batch in batches:
        assert len(batch) * LENGTHS[batch].max() <= max_tokens
        assert 0 < len(batch) <= max_rows


def test_a_text_above_the_budget_gets_a_batch_of_its_own() -> None:
    lengths = [5, 1000, 5, 5, 2000, 5]
    batches = token_budget_batches(lengths, max_tokens=20, max_rows=8, seed=0, epoch=0)
    assert sorted(map(sorted, _lists(batches))) == [[0, 2, 3, 5], [1], [4]]


def test_batches_are_filled_by_hand() -> None:
    batches = token_budget_batches([4, 1, 3, 2], max_tokens=6, max_rows=8, seed=0, epoch=0)
    # lengths 1+2 pad to 4, adding 3 pads to 9
    assert sorted(map(sorted, _lists(batches))) == [
        [0],
        [1, 3],
        [2],
    ]


def test_padding_is_small() -> None:
    def padding(batches: list[np.ndarray]) -> float:
        return sum(len(b) * LENGTHS[b].max() for b in batches) / LENGTHS.sum()

    shuffled = np.array_split(np.random.default_rng(0).permutation(500), 50)
    assert padding(_batches()) < 1.1
    assert padding(shuffled) > 1.5


def test_a_pass_is_a_function_of_seed_and_epoch() -> None:
    assert _lists(_batches(1, 0)) == _lists(_batches(1, 0))
    assert _lists(_batches(1, 0)) != _lists(_batches(1, 1))
    assert _lists(_batches(1, 0)) != _lists(_batches(2, 0))
    assert _lists(_batches(1, 2)) != _lists(_batches(2, 1))


def test_other_passes_group_other_texts() -> None:
    groups = [
        {frozenset(batch) for batch in _lists(_batches(1, epoch, window=100))} for epoch in range(2)
    ]
    assert len(groups[0] & groups[1]) < len(groups[0]) / 10


def test_batches_do_not_come_sorted_by_length() -> None:
    longest = [int(LENGTHS[batch].max()) for batch in _batches()]
    assert longest != sorted(longest)
    assert longest != sorted(longest, reverse=True)


def test_no_texts_no_batches() -> None:
    assert token_budget_batches([], max_tokens=10, max_rows=2, seed=0, epoch=0) == []


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
@pytest.mark.parametrize("size", [1, 7, 8, 24])
def test_shares_partition_a_batch(world_size: int, size: int) -> None:
    batch = np.random.default_rng(size).permutation(size)
    shares = [share_of_rank(batch, rank, world_size) for rank in range(world_size)]
    assert sorted(np.concatenate(shares).tolist()) == list(range(size))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


# --- neighbours


def _ring(num_rows: int, width: int) -> np.ndarray:
    """Row i's neighbours are i+1, i-1, i+2, i-2, ... on a ring."""
    steps = [sign * d for d in range(1, width // 2 + 1) for sign in (1, -1)]
    return (np.arange(num_rows)[:, None] + steps) % num_rows


def test_neighbor_batches_hold_each_row_at_most_once_per_pass() -> None:
    batches = neighbor_batches(_ring(100, 4), batch_size=8, seed=3, num_batches=12)
    assert [len(batch) for batch in batches] == [8] * 12
    rows = np.concatenate(batches)
    assert len(set(rows.tolist())) == len(rows) == 96


def test_rows_are_used_again_in_another_grouping_when_all_were_used() -> None:
    batches = neighbor_batches(_ring(32, 4), batch_size=8, seed=3, num_batches=40)
    assert len(batches) == 40
    assert all(len(set(batch.tolist())) == 8 for batch in batches)
    assert len({frozenset(batch.tolist()) for batch in batches}) > 5


def test_a_batch_grows_from_its_start_through_the_nearest_first() -> None:
    batch = neighbor_batches(_ring(1000, 4), batch_size=7, seed=0, num_batches=1)[0].tolist()
    start = batch[0]
    assert [(row - start + 500) % 1000 - 500 for row in batch] == [0, 1, -1, 2, -2, 3, -3]


def test_neighbors_share_a_batch_far_more_often_than_by_chance() -> None:
    clusters = np.arange(200) // 10
    neighbors = np.array(
        [[j for j in range(200) if clusters[j] == clusters[i] and j != i] for i in range(200)]
    )
    batches = neighbor_batches(neighbors, batch_size=10, seed=0, num_batches=20)
    assert all(len(set(clusters[batch])) == 1 for batch in batches)


def test_rows_without_unused_neighbors_are_filled_up_with_others() -> None:
    lonely = np.array([[1], [0], [3], [2], [5], [4]])
    (batch,) = neighbor_batches(lonely, batch_size=6, seed=0, num_batches=1)
    assert sorted(batch.tolist()) == [0, 1, 2, 3, 4, 5]


def test_neighbor_batches_are_a_function_of_the_seed() -> None:
    first, again, other = (_lists(neighbor_batches(_ring(64, 4), 8, seed, 8)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "make",
    [lambda n, b: neighbor_batches(_ring(n, 2), b, 0, 3), lambda n, b: random_batches(n, b, 0, 3)],
    ids=["near", "any"],
)
def test_a_batch_larger_than_the_corpus_is_refused(make: object) -> None:
    with pytest.raises(ValueError, match="5 rows do not fill one batch of 6"):
        make(5, 6)
    assert len(make(6, 6)) == 3


def test_random_batches_use_every_row_before_one_comes_again() -> None:
    batches = random_batches(num_rows=10, batch_size=3, seed=0, num_batches=7)
    assert [len(batch) for batch in batches] == [3] * 7
    for first in (0, 3):
        rows = np.concatenate(batches[first : first + 3]).tolist()
        assert len(set(rows)) == 9
    assert _lists(batches) == _lists(random_batches(10, 3, 0, 7))
    assert _lists(batches) != _lists(random_batches(10, 3, 1, 7))
    assert _lists(batches)[:3] != _lists(batches)[3:6]
