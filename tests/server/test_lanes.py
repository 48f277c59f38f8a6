"""Lanes: order, bounds, budgets, and that one item's fault is its own."""

from __future__ import annotations

import asyncio
import threading

import pytest

from leafkit.core.errors import LeafkitError
from leafkit.server.lanes import Busy, Lane


class Gate:
    """Work that waits to be let through, and remembers what it was given."""

    def __init__(self):
        self.seen: list[list] = []
        self.began, self.open = threading.Event(), threading.Event()

    def __call__(self, items):
        self.began.set()
        assert self.open.wait(20)
        self.seen.append(list(items))
        return [item * 10 for item in items]


def held(lane, gate, item):
    """Put an item and wait until it is at work."""
    answer = lane.put(item)
    assert gate.began.wait(20)
    return answer


def test_one_by_one_in_order():
    gate = Gate()
    lane = Lane("x", gate, limit=10)
    first = held(lane, gate, 1)
    others = [lane.put(i) for i in (2, 3)]
    assert len(lane) == 3
    gate.open.set()
    assert [a.result(20) for a in (first, *others)] == [10, 20, 30]
    assert gate.seen == [[1], [2], [3]]


def test_what_waits_is_taken_together_up_to_the_budget():
    gate = Gate()
    lane = Lane("x", gate, limit=10, weigh=lambda item: item, budget=10)
    answers = [held(lane, gate, 50), *(lane.put(i) for i in (4, 6, 1, 30, 2))]
    gate.open.set()
    assert [a.result(20) for a in answers] == [500, 40, 60, 10, 300, 20]
    assert gate.seen == [[50], [4, 6], [1], [30], [2]]


def test_a_full_lane_refuses_and_takes_again():
    gate = Gate()
    lane = Lane("x", gate, limit=2)
    answers = [held(lane, gate, 1), lane.put(2)]
    with pytest.raises(Busy):
        lane.put(3)
    gate.open.set()
    assert [a.result(20) for a in answers] == [10, 20]
    assert lane.put(3).result(20) == 30


def test_an_items_fault_is_its_own():
    def work(items):
        if 3 in items:
            raise ZeroDivisionError
        return [ValueError(item) if item == 2 else item for item in items]

    gate = threading.Event()
    lane = Lane("x", lambda items: gate.wait(20) and work(items), limit=9, weigh=len_1, budget=9)
    answers = [lane.put(i) for i in range(6)]
    gate.set()
    assert [a.result(20) for a in (answers[0], answers[1], answers[4], answers[5])] == [0, 1, 4, 5]
    with pytest.raises(ValueError, match="2"):
        answers[2].result(20)
    with pytest.raises(ZeroDivisionError):
        answers[3].result(20)


def len_1(item):
    if item == 4:
        raise RuntimeError("cannot be weighed")
    return 1


def test_who_no_longer_waits_is_left_out():
    gate = Gate()
    lane = Lane("x", gate, limit=9)

    async def ask():
        waiting = asyncio.ensure_future(lane.ask(2))
        await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        gate.open.set()
        return await lane.ask(3)

    held(lane, gate, 1)
    assert asyncio.run(ask()) == 30
    assert gate.seen == [[1], [3]]


def test_a_closed_lane_ends_what_it_has():
    gate = Gate()
    lane = Lane("x", gate, limit=9)
    answers = [held(lane, gate, 1), lane.put(2)]
    lane.close()
    with pytest.raises(Busy):
        lane.put(3)
    gate.open.set()
    assert [a.result(20) for a in answers] == [10, 20]
    lane._thread.join(20)
    assert not lane._thread.is_alive()


class Panic(BaseException):
    """As pyo3's PanicException, which tokenizers raises and which is none of Exception's kind."""


@pytest.mark.parametrize("where", ["work", "weigh"])
def test_a_panic_is_its_items_own_and_the_lane_goes_on(where):
    gate = threading.Event()

    def work(items):
        assert gate.wait(20)
        if "bad" in items:
            raise Panic("secret")
        return list(items)

    def weigh(item):
        if where == "weigh" and item == "bad":
            raise Panic("secret")
        return 1

    lane = Lane("x", work, limit=9, weigh=weigh, budget=9)
    answers = {item: lane.put(item) for item in ("held", "a", "bad", "b")}
    gate.set()
    assert [answers[item].result(20) for item in ("held", "a", "b")] == ["held", "a", "b"]
    with pytest.raises(LeafkitError, match="x: failed with Panic") as told:
        answers["bad"].result(20)
    assert "secret" not in str(told.value)
    assert lane.put("later").result(20) == "later"
    assert len(lane) == 0


def test_too_few_results_are_an_error_and_the_lane_goes_on():
    lane = Lane("x", lambda items: [] if items == [1] else items, limit=9)
    with pytest.raises(LeafkitError, match="0 results for 1 items"):
        lane.put(1).result(20)
    assert lane.put(2).result(20) == 2


def test_without_a_thread_an_item_is_refused_and_the_next_one_tries_again(monkeypatch):
    lane = Lane("x", lambda items: items, limit=1)

    def fail(thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fail)
        for _ in range(2):  # a limit of one: what was refused does not wait
            with pytest.raises(LeafkitError, match="no thread can be started"):
                lane.put(1)
    assert lane.put(2).result(20) == 2


def test_a_dead_thread_is_replaced():
    lane = Lane("x", lambda items: items, limit=9)
    lane._thread = threading.Thread(target=int)
    lane._thread.start()
    lane._thread.join(20)
    assert lane.put(1).result(20) == 1


def test_who_has_an_answer_finds_the_place_free():
    gate = Gate()
    lane = Lane("x", gate, limit=1)
    answer, lengths = held(lane, gate, 1), []
    # called in the lane's thread, before anyone else sees the answer
    answer.add_done_callback(lambda answer: lengths.append(len(lane)))
    gate.open.set()
    assert answer.result(20) == 10
    lane.close()
    lane._thread.join(20)
    assert lengths == [0]
