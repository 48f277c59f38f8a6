"""Rankings by hand: equals, unfilled places, a query's own document."""

from __future__ import annotations

import numpy as np

from leafkit.index.ranking import (
    Ranking,
    best_first,
    break_ties,
    exclude_self,
    longest_length,
    order_ties,
    rounding,
    tie_order,
)


def test_equals_are_ordered_by_id_as_text_the_greater_first():
    assert tie_order(["a", "b10", "b9", "", "\u00e9", "\U0001f600", "\uffff"]).tolist() == [
        5,
        4,
        3,
        6,
        2,
        0,
        1,
    ]
    assert tie_order([]).tolist() == []


def test_breaking_ties_puts_unfilled_places_last_whatever_their_score():
    ranking = Ranking(np.array([[-1, 3, 1, -1, 2]]), np.array([[9.0, 1.0, 1.0, 0.0, 2.0]]))
    assert break_ties(ranking, np.array([0, 2, 1, 0])).positions.tolist() == [[2, 3, 1, -1, -1]]
    assert break_ties(ranking, np.array([0, 1, 1, 2]), 2).positions.tolist() == [[2, 1]]


def test_ties_are_ordered_and_the_last_group_is_found():
    scores = np.array([[5, 4, 4, 3, 2], [1, 1, 1, 1, 1], [5, 4, 3, 2, 1]], dtype=np.float32)
    positions = np.array([[7, 9, 2, 1, 0], [4, 3, 2, 1, 0], [4, 3, 2, 1, 0]])
    assert order_ties(scores, positions, np.zeros(3, np.float32)).tolist() == [4, 0, 4]
    assert positions.tolist() == [[7, 2, 9, 1, 0], [0, 1, 2, 3, 4], [4, 3, 2, 1, 0]]
    near = np.array([[5, 4.5, 4.2, 3, 2.9]], dtype=np.float32)
    tolerance = np.full(1, 0.4, np.float32)
    own = near.copy()
    assert order_ties(own, np.arange(5)[None, ::-1].copy(), tolerance).tolist() == [3]
    assert own.tolist() == near[:, [0, 2, 1, 4, 3]].tolist()  # each document keeps its score
    assert order_ties(near, np.arange(5)[None, ::-1].copy(), tolerance, level=True).tolist() == [3]
    assert near.tolist() == [[5, 4.5, 4.5, 3, 3]]  # equals have one score


def test_unfilled_places_are_equals_of_one_another_and_stay_last():
    scores = np.array([[2, 1, -np.inf, -np.inf]], dtype=np.float32)
    positions = np.array([[3, 0, -1, -1]])
    assert order_ties(scores, positions, np.zeros(1), level=True).tolist() == [3]
    assert positions.tolist() == [[3, 0, -1, -1]]


def test_the_best_come_first_and_the_earlier_of_equals_stays():
    found = best_first(Ranking(np.array([[7, 3, 5]]), np.array([[0.5, 0.9, 0.9]])), 2)
    assert found.positions.tolist() == [[3, 5]]
    assert found.scores.tolist() == [[0.9, 0.9]]


def test_rounding_bounds_what_the_order_of_addition_changes():
    """Sums of 384 products one by one differ from the exact ones by less, and not by far less."""
    generator = np.random.default_rng(0)
    queries = 3 * generator.normal(size=(200, 384)).astype(np.float32)
    documents = generator.normal(size=(50, 384)).astype(np.float32)
    products = queries[:, None] * documents[None]
    forwards = np.add.accumulate(products, axis=2, dtype=np.float32)[..., -1]
    exact = queries.astype(np.float64) @ documents.T.astype(np.float64)
    error = np.abs(forwards - exact).max(axis=1)
    bound = rounding(queries, longest_length(documents))
    assert (error < bound).all()
    assert error.max() > bound.max() / 100


def test_a_query_s_own_document_is_left_out_and_the_next_ones_move_up():
    ranking = Ranking(
        np.array([[4, 2, 7], [4, 2, 7], [4, 2, 7], [4, 2, -1]]),
        np.array([[3.0, 2.0, 1.0]] * 4, dtype=np.float32),
    )
    found = exclude_self(ranking, [2, 9, -1, 4], 2)
    assert found.positions.tolist() == [[4, 7], [4, 2], [4, 2], [2, -1]]
    assert found.scores[:3].tolist() == [[3, 1], [3, 2], [3, 2]]
    assert found.scores.dtype == np.float32
    assert exclude_self(ranking, [-1] * 4, 2).positions.tolist() == [[4, 2]] * 4
    assert exclude_self(ranking, [2, 9, -1, 4], 3).positions.tolist() == [
        [4, 7, -1],
        [4, 2, 7],
        [4, 2, 7],
        [2, -1, -1],
    ]
