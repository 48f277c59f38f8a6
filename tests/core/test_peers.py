"""Processes of a launch that learn of each other's end, and wait for each other without a
collective.
"""

from __future__ import annotations

import contextlib
import json
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import tiny
import torch

from leafkit.core.errors import LeafkitError
from leafkit.core.process import meeting, peers
from leafkit.core.process.meeting import Meeting
from leafkit.core.process.peers import PeerLost, Peers
from leafkit.train import launch
from leafkit.train.world import World

# rank, size, the file in which the first one says where it is, and what to do
CHILD = """
import os, sys, time
from pathlib import Path
from leafkit.core.process import peers
from leafkit.core.process.peers import Peers
rank, size, told, does = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
peers._INTERRUPT_AFTER_S, peers._END_AFTER_S = 0.2, 2.0
here = Peers(rank, size)
def publish(text):
    told.with_suffix(".new").write_text(text)
    told.with_suffix(".new").rename(told)
if rank == 0:
    here.listen(publish, "127.0.0.1")
else:
    while not told.exists():
        time.sleep(0.01)
    here.connect(told.read_text())
print("met", flush=True)
if does == "orphan" and os.fork() == 0:  # a worker that outlives it
    os.close(1), os.close(2)
    time.sleep(20)
    os._exit(0)
if does in ("die", "orphan"):
    os.kill(os.getpid(), 9)
if does in ("fail", "done", "stop"):
    here.close({"fail": "failed", "done": "done", "stop": "stopped"}[does], "a text of 9 words")
    sys.exit()
if does == "deaf":  # as in a library that never comes back to Python
    import signal
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
try:
    while True:
        sum(range(100_000))
        if does == "look":
            here.look()
except Exception as err:
    print(type(err).__name__, err, flush=True)
    here.close("failed", str(err))
"""


class Launch:
    """Processes that do something each; the first ones wait to be told of an end."""

    def __init__(self, folder, *does):
        told = folder / "told.json"
        self.children = [
            subprocess.Popen(
                [sys.executable, "-c", CHILD, str(rank), str(len(does)), str(told), what],
                env=tiny.environment(),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for rank, what in enumerate(does)
        ]
        self.said = [self._read(child) for child in self.children]

    @staticmethod
    def _read(child):
        try:
            return child.communicate(timeout=60)[0]
        finally:
            child.kill()


@pytest.mark.parametrize("waits", ["look", "compute", "deaf"])
@pytest.mark.parametrize(
    ("does", "expected"),
    [
        ("die", "ended without a word: it was killed, or its machine is gone"),
        ("fail", "failed: a text of 9 words"),
    ],
)
def test_who_is_lost_is_named_to_all_and_ends_them(tmp_path, waits, does, expected):
    launch = Launch(tmp_path, waits, does, waits)
    who = f"process 1 of 3 (on {socket.gethostname()} as process {launch.children[1].pid})"
    for number in (0, 2):
        assert launch.said[number].count(f"{who} {expected}") == 1, launch.said
        assert ("PeerLost" in launch.said[number]) == (waits != "deaf")
    assert launch.children[1].returncode == (-signal.SIGKILL if does == "die" else 0)
    assert launch.children[0].returncode == (1 if waits == "deaf" else 0)


def test_the_first_one_is_named_too(tmp_path):
    launch = Launch(tmp_path, "die", "look", "compute")
    for number in (1, 2):
        assert "PeerLost process 0 of 3 (on " in launch.said[number]


def test_who_leaves_in_order_disturbs_nobody(tmp_path):
    launch = Launch(tmp_path, "done", "done", "done")
    assert launch.said == ["met\n"] * 3


def connected():
    """Two processes in one."""
    ranks = [Peers(rank, 2) for rank in range(2)]
    told, is_told = [], threading.Event()

    def publish(text):
        told.append(text)
        is_told.set()

    with ThreadPoolExecutor(1) as pool:
        listening = pool.submit(ranks[0].listen, publish, "127.0.0.1")
        assert is_told.wait(10)
        where = json.loads(told[0])
        with socket.create_connection(("127.0.0.1", where["port"])) as stranger:
            stranger.sendall(b'{"token": "guessed", "rank": 1, "host": "elsewhere"}\n')
        ranks[1].connect(told[0])
        listening.result(10)
    return ranks


@pytest.fixture
def two():
    """Two processes in one, connected."""
    ranks = connected()
    yield ranks
    for one in ranks:
        one.close("done")


def test_who_leaves_at_once_waits_for_its_own_watch_to_begin(monkeypatch):
    """On a busy machine the thread may only get to its first line after the end."""
    said = []
    monkeypatch.setattr(threading, "excepthook", said.append)
    seen = []

    class Late(selectors.DefaultSelector):
        def register(self, *args):
            time.sleep(0.3)
            seen.append(super().register(*args))

    monkeypatch.setattr(selectors, "DefaultSelector", Late)
    for one in connected():
        one.close("done")
    assert len(seen) == 1  # before the connection was closed
    assert not said


def wait_until(is_so):
    deadline_s = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def test_a_stop_is_learnt_where_others_wait_and_interrupts_nobody(two, monkeypatch):
    """They may be saving a state."""
    monkeypatch.setattr(Peers, "_see_the_end", lambda self: pytest.fail("it is no failure"))
    two[1].close("stopped")
    wait_until(lambda: two[0].lost)
    with pytest.raises(PeerLost, match=r"process 1 of 2 \(on .*\) was stopped by a signal"):
        two[0].look()


def test_an_error_of_a_collective_is_told_by_who_was_lost(two, monkeypatch):
    monkeypatch.setattr(Peers, "_see_the_end", lambda self: None)
    assert not two[0].explains(LeafkitError("its own"))
    assert not two[0].explains(KeyboardInterrupt())
    two[1].close("failed", "no memory")  # the news may not be there yet
    assert two[0].explains(RuntimeError("Connection closed by peer"))
    assert two[0].lost.endswith("failed: no memory")


def test_a_forked_process_does_not_keep_the_connection(tmp_path):
    started_s = time.monotonic()
    launch = Launch(tmp_path, "look", "orphan")
    assert "PeerLost process 1 of 2" in launch.said[0]
    assert time.monotonic() - started_s < 15


def test_an_address_of_either_version_of_ip_is_reached():
    if not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    with peers._make_server(2) as server:
        for address in ("127.0.0.1", "::1"):
            try:
                socket.create_connection((address, server.getsockname()[1]), 5).close()
            except OSError as err:
                assert address == "::1"
                pytest.skip(f"this machine has no address ::1: {err}")


def test_who_cannot_be_reached_is_told(monkeypatch):
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        port = place.getsockname()[1]
    told = {"places": ["127.0.0.1"], "port": port, "token": "", "host": "x"}
    with pytest.raises(LeafkitError, match="process 1 of 2 cannot reach process 0 at port"):
        Peers(1, 2).connect(json.dumps(told))
    monkeypatch.setattr(peers, "_MEET_WITHIN_S", 0.2)
    with pytest.raises(LeafkitError, match=r"process\(es\) 1, 2 did not connect to process 0"):
        Peers(0, 3).listen(lambda _: None, "127.0.0.1")


class Store:
    """A key-value store in memory, that may fail."""

    def __init__(self):
        self.values, self.is_gone = {}, False

    def _ask(self):
        if self.is_gone:
            raise RuntimeError("Broken pipe")

    def set(self, key, value):
        self._ask()
        self.values[key] = value

    def get(self, key):
        self._ask()
        return self.values[key].encode()

    def check(self, keys):
        self._ask()
        return all(key in self.values for key in keys)


def test_nobody_goes_on_before_the_last_has_come():
    store, came = Store(), []

    def work(rank):
        meeting_of_rank = Meeting(store, rank, 3, lambda: None)
        sums = []
        for turn in range(20):
            time.sleep(0.01 * ((rank + turn) % 3))
            came.append(turn)
            sums.append(meeting_of_rank.total(10**rank + turn))
            assert came.count(turn) == 3
            if rank == 0:
                came.append("first")
            num_before = came.count("first")
            meeting_of_rank.follow_first()
            assert num_before <= came.count("first")
            assert came.count("first") >= turn + 1
        return sums

    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(work, range(3)))
    assert results == [[111 + 3 * turn for turn in range(20)]] * 3


def test_a_number_that_is_told_twice_counts_once():
    class Forgetful(Store):
        """Does what it is told, and loses the first answer."""

        num_asked = 0

        def set(self, key, value):
            super().set(key, value)
            self.num_asked += 1
            if self.num_asked == 1:
                raise RuntimeError("Connection reset by peer")

    assert Meeting(Forgetful(), 0, 1, lambda: None).total(7) == 7


def test_the_first_one_leaves_last():
    store, left = Store(), []

    def leave(rank):
        time.sleep(0.1 * rank)
        Meeting(store, rank, 3, lambda: None).leave()
        left.append(rank)
        return {key for key in store.values if ".left" in key}

    with ThreadPoolExecutor(3) as pool:
        seen = list(pool.map(leave, range(3)))
    assert seen[0] == {"2.left.0", "2.left.1", "2.left.2"}


@pytest.mark.parametrize(
    ("error", "how"),
    [
        (PeerLost.first_failed("the disk is full"), "done"),
        (KeyError("a fault of its own"), "failed"),
        (KeyboardInterrupt(), "stopped"),
    ],
)
def test_only_who_fails_by_itself_says_so(monkeypatch, error, how):
    closed = []

    class Alone(Peers):
        def listen(self, publish, address):
            pass

        def explains(self, err):
            return False

        def close(self, how, what=""):
            closed.append(how)

    monkeypatch.setattr(launch, "Peers", Alone)
    monkeypatch.setattr(torch.distributed.distributed_c10d, "_get_default_store", Store)
    monkeypatch.setattr(torch.distributed, "PrefixStore", lambda prefix, store: store)
    monkeypatch.setattr(launch, "meeting_place", lambda world: ("here", 1))
    with pytest.raises(type(error)) as found, launch.meet(World(0, 2, 2, 0, 0)):
        raise error
    assert found.value is error
    assert closed == [how]


def test_the_first_one_does_not_wait_for_those_who_follow():
    store = Store()
    Meeting(store, 0, 2, lambda: None).follow_first()
    assert list(store.values) == ["1.first"]  # by which the others go on


def test_a_wait_ends_with_a_lost_process_and_with_a_store_that_is_gone(monkeypatch):
    lost = []

    def look():
        if lost:
            raise PeerLost("process 0 of 2 died")

    threading.Timer(0.3, lost.append, ("process 0",)).start()
    with pytest.raises(PeerLost):
        Meeting(Store(), 1, 2, look).follow_first()
    store = Store()
    store.is_gone = True
    monkeypatch.setattr(meeting, "_GIVE_UP_S", 0.3)
    with pytest.raises(LeafkitError, match=r"does not reach the others any more: Broken pipe"):
        Meeting(store, 1, 2, lambda: None).barrier()
    threading.Timer(0.1, setattr, (store, "is_gone", False)).start()
    with contextlib.suppress(TimeoutError), ThreadPoolExecutor(1) as pool:
        monkeypatch.setattr(meeting, "_GIVE_UP_S", 20.0)
        waiting = pool.submit(Meeting(store, 0, 1, lambda: None).total, 5)
        assert waiting.result(10) == 5
