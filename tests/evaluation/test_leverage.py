"""Texts in the order of their leverage: by hand, and against the matrices of every step."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

from leafkit.evaluation import leverage
from leafkit.evaluation.leverage import order_by_leverage


def draw(num_texts: int, seed: int = 0) -> np.ndarray:
    chooser = np.random.default_rng(seed)
    spread = np.array([4, 2, 1, 1, 0.5, 0.1])
    return (chooser.normal(size=(num_texts, 6)) * spread + 3).astype(np.float32)


def test_doctests():
    results = doctest.testmod(leverage)
    assert (results.failed, results.attempted) == (0, 1)


def test_what_was_said_before_comes_later():
    # the second direction is half as long, and new once the first was taken a few times
    along, across = [[4.0, 0], [-4, 0]], [[0.0, 2], [0, -2]]
    order = order_by_leverage(np.array(along * 40 + across * 10, dtype=np.float32), 60)
    first_new = next(place for place, i in enumerate(order) if i >= 80)
    # c is 10 mean eigenvalues: 16 / (c + 16 n) falls below 4 / c at the n-th text along
    scale = (80 * 16 + 20 * 4) / 100 / 2
    assert first_new == int(np.floor((16 / 4 - 1) * 10 * scale / 16)) + 1


def test_each_step_takes_the_largest_determinant():
    vectors = draw(40)
    x = vectors - vectors.mean(axis=0)
    start = 10 * np.mean(x.astype(np.float64) ** 2) * np.eye(6)
    expected: list[int] = []
    for _ in range(40):
        rest = [i for i in range(40) if i not in expected]
        gains = [
            np.linalg.slogdet(start + x[[*expected, i]].T @ x[[*expected, i]])[1] for i in rest
        ]
        expected.append(rest[int(np.argmax(gains))])
    assert order_by_leverage(vectors) == expected


@pytest.mark.parametrize("limit", [1, 63, 64, 65, 200, 700])
def test_a_limit_takes_the_beginning_of_the_whole_order_in_blocks_of_any_size(limit, monkeypatch):
    vectors = draw(900)
    whole = order_by_leverage(vectors)
    assert sorted(whole) == list(range(900))
    assert order_by_leverage(vectors, limit) == whole[:limit]
    monkeypatch.setattr(leverage, "BLOCK_ROWS", 100)
    assert order_by_leverage(vectors, limit) == whole[:limit]


def test_rounds_lose_little_of_what_single_steps_find(monkeypatch):
    vectors = draw(2000, seed=1)
    x = vectors - vectors.mean(axis=0)

    def gain(rows: list[int]) -> float:
        return float(np.linalg.slogdet(np.eye(6) * 30 + x[rows].T @ x[rows])[1])

    in_rounds = gain(order_by_leverage(vectors, 300))
    monkeypatch.setattr(leverage, "_FEWEST", 1)
    monkeypatch.setattr(leverage, "_PART", 10**9)
    one_by_one = gain(order_by_leverage(vectors, 300))
    lot = gain(np.random.default_rng(0).permutation(2000)[:300].tolist())
    assert lot < in_rounds
    assert in_rounds - lot > 0.98 * (one_by_one - lot)


def test_vectors_that_never_vary_keep_their_order():
    assert order_by_leverage(np.ones((3, 2), dtype=np.float16)) == [0, 1, 2]
