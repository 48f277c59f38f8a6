"""Mixtures: shares, dealing without repeats, pure functions of (seed, epoch), and the account of
what sources gave.
"""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from leafkit.data.batching import neighbor_batches
from leafkit.data.mixture import (
    contribution_table,
    same_task_share,
    semi_homogeneous_batches,
    source_counts,
)

SIZES = (500, 120, 64)
SOURCE_OF_ROW = np.repeat(np.arange(3), SIZES)
ROWS = [np.flatnonzero(source == SOURCE_OF_ROW) for source in range(3)]
WEIGHTS = [5.0, 3.0, 2.0]


def _mix(
    ratio: float = 0.5, batch_size: int = 16, num_batches: int = 40, seed: int = 1, epoch: int = 0
) -> list[np.ndarray]:
    return semi_homogeneous_batches(
        ROWS, WEIGHTS, batch_size, ratio, num_batches=num_batches, seed=seed, epoch=epoch
    )


def _lists(batches: list[np.ndarray]) -> list[list[int]]:
    return [batch.tolist() for batch in batches]


# --- counts


@pytest.mark.parametrize("num_batches", [0, 1, 2, 3, 7, 10, 99, 1000])
@pytest.mark.parametrize(
    "weights", [[5, 3, 2], [1, 1, 1], [0.1, 0.7, 0.2], [0, 1, 3], [1, 0, 0], [1e-6, 1, 0]]
)
@pytest.mark.parametrize("seed", range(5))
def test_every_count_is_its_share_rounded_up_or_down(
    weights: list[float], num_batches: int, seed: int
) -> None:
    counts = source_counts(weights, num_batches, seed)
    exact = np.asarray(weights) / sum(weights) * num_batches
    assert counts.sum() == num_batches
    assert (np.abs(counts - exact) < 1).all()
    assert not counts[np.asarray(weights) == 0].any()


def test_whole_shares_are_met_exactly() -> None:
    assert all(source_counts([5, 3, 2], 10, seed).tolist() == [5, 3, 2] for seed in range(200))
    assert all(source_counts([0.1] * 10, 10, seed).tolist() == [1] * 10 for seed in range(200))


def test_over_epochs_a_rare_source_gets_its_share() -> None:
    counts = np.array([source_counts([0.05, 0.95], 4, 0, epoch) for epoch in range(2000)])
    assert set(counts[:, 0].tolist()) == {0, 1}
    # five standard deviations
    assert counts[:, 0].mean() == pytest.approx(0.2, abs=5 * np.sqrt(0.16 / 2000))


@pytest.mark.parametrize("weights", [[], [0, 0], [1, -1], [1, float("nan")], [float("inf"), 1]])
def test_weights_that_say_nothing_are_refused(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="weights"):
        source_counts(weights, 4, 0)


# --- batches


@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("batch_size", [1, 2, 16, 64])
@pytest.mark.parametrize("seed", range(3))
def test_no_batch_holds_a_row_twice_and_shares_follow_the_weights(
    ratio: float, batch_size: int, seed: int
) -> None:
    batches = _mix(ratio, batch_size, num_batches=60, seed=seed)
    assert [len(batch) for batch in batches] == [batch_size] * 60
    assert all(len(set(batch)) == batch_size for batch in _lists(batches))
    drawn = np.bincount(SOURCE_OF_ROW[np.concatenate(batches)], minlength=3)
    assert drawn.tolist() == [30 * batch_size, 18 * batch_size, 12 * batch_size]
    copies = np.bincount(np.concatenate(batches), minlength=sum(SIZES))
    for rows in ROWS:
        assert copies[rows].max() - copies[rows].min() <= 1  # every row once before any comes again


def test_a_kept_part_is_of_one_source_and_dealing_leaves_the_rest_at_chance() -> None:
    batches = _mix(0.75, batch_size=16, num_batches=60)
    kept = [set(SOURCE_OF_ROW[batch[:12]].tolist()) for batch in batches]
    assert all(len(sources) == 1 for sources in kept)
    of_batch = np.array([sources.pop() for sources in kept])
    dealt = np.array([SOURCE_OF_ROW[batch[12:]] for batch in batches])
    assert np.bincount(dealt.ravel()).tolist() == [120, 72, 48]  # four of each batch
    own = (dealt == of_batch[:, None]).mean()
    # five standard deviations of 240 draws
    assert own == pytest.approx(0.5**2 + 0.3**2 + 0.2**2, abs=0.16)


def test_batches_of_sources_come_in_random_order() -> None:
    order = SOURCE_OF_ROW[[batch[0] for batch in _mix(1.0)]].tolist()
    assert order != sorted(order)


def test_ratio_rounds_to_whole_rows() -> None:
    one_dealt = _mix(0.94, batch_size=16)  # .96 of a row
    assert all(len(set(SOURCE_OF_ROW[batch[:15]].tolist())) == 1 for batch in one_dealt)
    assert same_task_share(one_dealt, SOURCE_OF_ROW) < 1
    assert same_task_share(_mix(0.97, batch_size=16), SOURCE_OF_ROW) == 1  # .48 of a row


def test_batches_are_a_function_of_seed_and_epoch_alone() -> None:
    first = _lists(_mix(seed=3, epoch=2))
    np.random.seed(0)  # noqa: NPY002 - what a sampler must not depend on
    assert _lists(_mix(seed=3, epoch=2)) == first
    assert _lists(_mix(seed=3, epoch=1)) != first
    assert _lists(_mix(seed=2, epoch=3)) != first


def test_another_process_computes_the_same_batches() -> None:
    code = (
        "import numpy as np; from leafkit.data.mixture import semi_homogeneous_batches as f;"
        "rows = [np.arange(50), np.arange(50, 70)]; print([b.tolist() for b in f(rows, [2, 1], "
        "8, .5, num_batches=12, seed=4, epoch=1)])"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout
    here = semi_homogeneous_batches(
        [np.arange(50), np.arange(50, 70)], [2, 1], 8, 0.5, num_batches=12, seed=4, epoch=1
    )
    assert printed.strip() == str(_lists(here))


# --- sources that are small


def test_a_source_as_large_as_a_batch_fills_batch_after_batch() -> None:
    batches = semi_homogeneous_batches([np.arange(8)], [1], 8, 1.0, num_batches=5, seed=0)
    assert [sorted(batch) for batch in _lists(batches)] == [list(range(8))] * 5


def test_rows_left_at_the_end_of_a_pass_open_the_next_without_a_repeat() -> None:
    batches = semi_homogeneous_batches([np.arange(10)], [1], 7, 1.0, num_batches=100, seed=0)
    assert all(len(set(batch)) == 7 for batch in _lists(batches))
    assert np.bincount(np.concatenate(batches)).tolist() == [70] * 10


def test_a_source_smaller_than_the_part_that_stays_together_is_refused() -> None:
    with pytest.raises(
        ValueError, match="source 1 has 7 rows, which do not fill the 8 of a batch of 16"
    ):
        semi_homogeneous_batches(
            [np.arange(100), np.arange(100, 107)], [1, 1], 16, 0.5, num_batches=10, seed=0
        )
    with pytest.raises(ValueError, match="source 0 has 0 rows"):
        semi_homogeneous_batches(
            [np.arange(0), np.arange(9)], [1, 1], 4, 0.0, num_batches=10, seed=0
        )


def test_an_empty_source_of_weight_zero_is_no_problem() -> None:
    assert (
        len(
            semi_homogeneous_batches(
                [np.arange(0), np.arange(9)], [0, 1], 4, 0.5, num_batches=3, seed=0
            )
        )
        == 3
    )


@pytest.mark.parametrize("seed", range(10))
def test_a_small_source_is_spread_over_batches_where_dealing_allows_it(seed: int) -> None:
    rows = [np.arange(400), np.arange(400, 410)]
    # 64 draws of 10 rows, 6 stay together
    batches = semi_homogeneous_batches(rows, [9, 1], 16, 0.4, num_batches=40, seed=seed)
    assert all(len(set(batch)) == 16 for batch in _lists(batches))
    copies = np.bincount(np.concatenate(batches))[400:]
    assert copies.sum() == 64
    assert copies.max() - copies.min() <= 1


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("num_batches", [1, 2, 3, 20])
def test_even_where_every_batch_needs_every_row(seed: int, num_batches: int) -> None:
    batches = semi_homogeneous_batches(
        [np.arange(6)], [1], 6, 0.0, num_batches=num_batches, seed=seed
    )
    assert [sorted(batch) for batch in _lists(batches)] == [list(range(6))] * num_batches


def test_a_row_needed_more_often_than_there_are_batches_is_refused() -> None:
    with pytest.raises(ValueError, match=r"row \d+ would come \d+ times in 4 batches"):
        semi_homogeneous_batches(
            [np.arange(100), np.array([100])], [1, 1], 16, 0.0, num_batches=4, seed=0
        )


@pytest.mark.parametrize("ratio", [-0.1, 1.1, float("nan")])
def test_a_ratio_that_is_no_share_is_refused(ratio: float) -> None:
    with pytest.raises(ValueError, match="ratio"):
        _mix(ratio)


def test_a_weight_per_source() -> None:
    with pytest.raises(ValueError, match="2 weights for 3 sources"):
        semi_homogeneous_batches(ROWS, [1, 1], 4, 0.5, num_batches=3, seed=0)


# --- batches made elsewhere


def test_hard_batches_are_mixed_as_they_come() -> None:
    ring = (np.arange(64)[:, None] + [1, -1, 2, -2]) % 64
    calls: list[tuple[int, int, int]] = []

    def make(source: int, count: int, seed: int) -> list[np.ndarray]:
        calls.append((source, count, seed))
        return [ROWS[source][batch] for batch in neighbor_batches(ring, 8, seed, count)]

    whole = semi_homogeneous_batches(
        ROWS, WEIGHTS, 8, 1.0, num_batches=20, seed=0, make_batches=make
    )
    assert [(source, count) for source, count, _ in calls] == [(0, 10), (1, 6), (2, 4)]
    assert len({seed for *_, seed in calls}) == 3
    expected = [batch.tolist() for call in list(calls) for batch in make(*call)]
    assert sorted(_lists(whole)) == sorted(expected)
    mixed = semi_homogeneous_batches(
        ROWS, WEIGHTS, 8, 0.5, num_batches=20, seed=0, make_batches=make
    )
    assert sorted(batch[:4] for batch in _lists(mixed)) == sorted(batch[:4] for batch in expected)
    assert sorted(np.concatenate(mixed).tolist()) == sorted(np.concatenate(whole).tolist())
    assert _lists(
        semi_homogeneous_batches(
            ROWS, WEIGHTS, 8, 1.0, num_batches=20, seed=0, epoch=1, make_batches=make
        )
    ) != _lists(whole)


@pytest.mark.parametrize(
    "wrong", [[], [np.arange(3)], [np.array([1, 1, 2, 3])], [np.arange(4)] * 2]
)
def test_batches_made_elsewhere_are_checked(wrong: list[np.ndarray]) -> None:
    with pytest.raises(ValueError, match="did not give 1 batches of 4 different rows for source 0"):
        semi_homogeneous_batches(
            [np.arange(9)], [1], 4, 1.0, num_batches=1, seed=0, make_batches=lambda *_: wrong
        )


# --- the account


def test_same_task_share_by_hand() -> None:
    sources = np.array([0, 0, 0, 1, 1, 1])
    assert same_task_share([np.array([0, 1, 2]), np.array([3, 4, 5])], sources) == 1
    assert same_task_share([np.array([0, 3])], sources) == 0
    # rows 0, 1, 2 share the batch with 2 of 3 of their kind, row 3 with none; of the pair nobody
    assert same_task_share([np.array([0, 1, 2, 3]), np.array([0, 4])], sources) == pytest.approx(
        (3 * 2 / 3) / 6
    )
    # a row alone has no others
    assert same_task_share([np.array([0]), np.array([0, 3])], sources) == 0
    assert same_task_share([np.array([0])], sources) == same_task_share([], sources) == 1


def test_the_ratio_is_not_the_realised_share() -> None:
    shares = {
        ratio: same_task_share(_mix(ratio, 20, 200), SOURCE_OF_ROW) for ratio in (0.0, 0.5, 1.0)
    }
    assert shares[1.0] == 1
    assert shares[0.0] == pytest.approx(0.38, abs=0.02)  # .5^2 + .3^2 + .2^2
    # pairs that both stayed, and all others
    assert shares[0.5] == pytest.approx(0.25 + 0.75 * 0.38, abs=0.02)


def test_contribution_table_by_hand() -> None:
    batches = [np.array([0, 1, 4]), np.array([0, 1, 2]), np.array([0, 2, 5])]
    table = contribution_table(
        ["a", "b", "c"],
        [2, 1, 1],
        [6, 2, 9],
        [4, 2, 3],
        batches=batches,
        source_of_row=np.array([0, 0, 0, 0, 1, 1, 2, 2, 2]),
    )
    assert table == [
        {
            "source": "a",
            "weight": 0.5,
            "read": 6,
            "dropped": 2,
            "kept": 4,
            "batches": 3,
            "drawn": 7,
            "share": pytest.approx(7 / 9),
            "distinct": 3,
            "repeats": pytest.approx(7 / 3),
        },
        {
            "source": "b",
            "weight": 0.25,
            "read": 2,
            "dropped": 0,
            "kept": 2,
            "batches": 2,
            "drawn": 2,
            "share": pytest.approx(2 / 9),
            "distinct": 2,
            "repeats": 1.0,
        },
        {
            "source": "c",
            "weight": 0.25,
            "read": 9,
            "dropped": 6,
            "kept": 3,
            "batches": 0,
            "drawn": 0,
            "share": 0.0,
            "distinct": 0,
            "repeats": 0.0,
        },
    ]
    assert all(type(value) in (str, int, float) for row in table for value in row.values())
    assert (
        contribution_table(
            ["a"], [1], [0], [0], batches=[], source_of_row=np.zeros(0, dtype=np.int64)
        )[0]["share"]
        == 0.0
    )
