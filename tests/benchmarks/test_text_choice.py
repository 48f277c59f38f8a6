"""``benchmarks/text_choice.py``: orders of texts by hand and by brute force, and what is said."""

from __future__ import annotations

import doctest
import math
import random
import sys
from argparse import Namespace
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import text_choice
from text_choice_parts import heads, orders, words
from text_choice_parts.heads import Learned, Lesson
from text_choice_parts.orders import Pool
from text_choice_parts.words import order_by_words


def make_pool(states: list[list[float]], tokens: list[int] | None = None) -> Pool:
    return Pool(
        [f"text {i}" for i in range(len(states))],
        np.array(states, dtype=np.float32),
        np.array(tokens or [10] * len(states)),
    )


@pytest.fixture
def drawn() -> Pool:
    chooser = np.random.default_rng(3)
    states = chooser.normal(size=(30, 5)) * np.array([3, 2, 1, 1, 0.1])
    return make_pool(states.tolist(), chooser.integers(3, 40, 30).tolist())


def test_doctests():
    for module in (heads, words):
        results = doctest.testmod(module)
        assert (results.failed, results.attempted) == (0, 1)


@pytest.mark.parametrize("name", text_choice.ORDERS)
def test_an_order_has_each_text_once_and_begins_alike_whatever_its_length(drawn, name):
    whole, again = (text_choice.ORDERS[name](drawn, 30) for _ in range(2))
    assert sorted(whole.tolist()) == list(range(30))
    assert whole.tolist() == again.tolist()
    if "variance" not in name:  # which prepares for a number of texts
        assert text_choice.ORDERS[name](drawn, 7).tolist() == whole[:7].tolist()


def test_the_farthest_comes_next():
    # directions about the mean, which is the origin: right, right, up, left
    pool = make_pool([[3, 0], [2, -0.1], [0, 2.1], [-5, -2]])
    assert orders.farthest_first(pool, 3).tolist() == [0, 3, 2]


def test_clusters_are_those_of_the_directions(monkeypatch):
    unit = np.array([[1, 0], [0, 1], [0.999, 0.01], [0.01, 0.999]], dtype=np.float32)
    for seed in range(6):  # whichever two it begins with
        monkeypatch.setattr(orders, "SEED", seed)
        found = orders._cluster(unit, 2)
        assert found[0] == found[2] != found[1] == found[3]


def test_small_clusters_have_their_turn(monkeypatch):
    pool = make_pool([[float(i)] for i in range(10)])
    monkeypatch.setattr(orders, "_cluster", lambda unit, count: np.array([0] * 9 + [1]))
    assert orders.balanced(pool, 10).tolist().index(9) < 2
    # by the size of its cluster each text has the same chance: it comes first with one of ten
    places = []
    for seed in range(20):
        monkeypatch.setattr(orders, "SEED", seed)
        places.append(orders.balanced(pool, 10, power=1.0).tolist().index(9))
    assert max(places) > 2


@pytest.mark.parametrize("is_per_token", [False, True])
def test_variance_is_that_of_the_matrices(drawn, is_per_token):
    count, x = 8, drawn.centered.astype(np.float64)
    penalty = orders._penalty(drawn, count) * np.eye(5)
    cost = drawn.tokens if is_per_token else np.ones(30)

    def variance(rows: list[int]) -> float:
        inverse = np.linalg.inv(penalty + x[rows].T @ x[rows])
        return float(np.einsum("nh,hk,nk->", x, inverse, x))

    expected: list[int] = []
    for _ in range(count):
        rest = [i for i in range(30) if i not in expected]
        gains = [(variance(expected) - variance([*expected, i])) / cost[i] for i in rest]
        expected.append(rest[int(np.argmax(gains))])
    assert orders.by_variance(drawn, count, is_per_token=is_per_token).tolist() == expected


def test_a_word_is_worth_less_each_time_and_one_of_all_texts_nothing():
    # idf: the 0, cat and sat log 2, dog and on log 4; words and 2: 4, 5, 6, 3
    texts = ["the cat", "the cat sat", "the dog sat on", "The!"]
    # gains in logs of 2: 1/4, 2/5, 5/6, 0; then sat is worth .41: 1/4, 1.41/5
    assert order_by_words(texts, 9) == [2, 1, 0, 3]
    # what one text alone says is worth most, and the long one says no more than the short one
    assert order_by_words(["alpha beta", "alpha beta " * 9, "gamma"], 3) == [2, 0, 1]


def test_the_lazy_choice_is_the_greedy_one():
    chooser = random.Random(5)
    weights = [1 / (i + 1) for i in range(40)]
    bags = [
        chooser.choices([f"w{i}" for i in range(40)], weights, k=chooser.randint(1, 12))
        for _ in range(60)
    ]
    texts_with = Counter(word for bag in bags for word in set(bag))
    had: Counter[str] = Counter()

    def gain(i: int) -> float:
        new = (
            math.log(60 / texts_with[w]) * (math.sqrt(had[w] + 1) - math.sqrt(had[w]))
            for w in set(bags[i])
        )
        return sum(new) / (len(bags[i]) + 2)

    order = order_by_words([" ".join(bag) for bag in bags], 60)
    assert sorted(order) == list(range(60))
    for place, chosen in enumerate(order):
        assert gain(chosen) == pytest.approx(max(gain(i) for i in order[place:]), rel=1e-9)
        had.update(set(bags[chosen]))


def test_a_head_learns_a_linear_teacher_from_enough_texts():
    chooser = np.random.default_rng(0)
    states, head = chooser.normal(size=(200, 6)), chooser.normal(size=(6, 4))
    raw = states @ head
    unit = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    judged = Namespace(
        collection=Namespace(name="a"),
        queries=unit[:20],
        ndcg=lambda vectors: (vectors * unit[:20]).sum(axis=1) > 0.9,
    )
    lesson = Lesson(
        states=states[50:].astype(np.float32),
        vectors=unit[50:],
        tokens=np.full(150, 7),
        held_states=states[20:50],
        held_vectors=unit[20:50],
        asked=[(states[:20], judged)],
    )
    few, many = (lesson.learn(np.arange(n)) for n in (4, 150))
    assert (few.tokens, many.tokens) == (28, 1050)
    assert few.held_out < 0.9 < 0.99 < many.held_out
    assert few.cosine["a"].mean() < 0.9 < 0.98 < many.cosine["a"].mean()
    assert few.ndcg["a"].mean() < many.ndcg["a"].mean()


def make_learned(share: float, teacher: np.ndarray, tokens: int = 100) -> Learned:
    values = {"a": share * teacher}
    return Learned(tokens, 0.1, 0.5, {"a": np.full(len(teacher), share)}, values)


@pytest.fixture
def found() -> text_choice.Found:
    teacher = np.random.default_rng(1).beta(2, 1, 40)
    judged = Namespace(collection=Namespace(name="a"), queries=None, ndcg=lambda vectors: teacher)
    found = text_choice.Found(Namespace(away=[judged]))
    for budget in ("texts", "tokens"):
        found.lots[50, budget] = [make_learned(share, teacher) for share in (0.58, 0.6, 0.62)]
    found.chosen["words", 50, "texts"] = make_learned(0.7, teacher), 50
    found.chosen["words", 50, "tokens"] = make_learned(0.61, teacher, 99), 44
    return found


def test_a_difference_inside_what_lots_are_apart_says_nothing(found):
    better, _ = found.chosen["words", 50, "texts"]
    within, _ = found.chosen["words", 50, "tokens"]
    assert found.of(found.lots[50, "texts"], "cosine") == pytest.approx(0.6)
    assert found.against_lots(better, (50, "texts"), "ndcg") == ("+10.0 [+10.0, +10.0]", "better")
    # the interval leaves out zero, for all queries gain alike
    assert found.against_lots(within, (50, "tokens"), "cosine") == (
        "+1.0 [+1.0, +1.0]",
        "no difference",
    )


def test_the_report_has_both_budgets(found, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["text_choice.py"])
    found.seconds["words"] = 2.0
    options = Namespace(threads=1, seeds=3, out=tmp_path, name="text_choice")
    about = {"teacher": "mpnet", "start": "minilm", "precision": "bfloat16", "limits": [0, 256]}
    about |= {"collections": [["a", 100, 40]], "texts": [["pool documents", 4]]}
    pool = make_pool([[0.0]] * 4)
    path = text_choice.write_report(options, about, pool, found, kinds={"questions": 4})
    told = path.read_text(encoding="utf-8")
    assert "| 50 | by lot | 50 | 100 | 0.5000 | 0.6000 ± 0.0200 | 60.0 ± 2.0 | - | - | - |" in told
    assert "| 50 | words | 50 | 100 | 0.5000 | 0.7000 | 70.0 | +10.0 [+10.0, +10.0] |" in told
    assert "| 50 | words | 44 | 99 | 0.5000 | 0.6100 | 61.0 | +1.0 [+1.0, +1.0] |" in told
    assert "better, better" in told
    assert "words 2.0 s" in told
