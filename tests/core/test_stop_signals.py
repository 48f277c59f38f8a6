"""A stop arrives wherever it lands: in a callback that forgets it, in a library that replaces it,
in an event loop.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from leafkit.cli import main as cli
from leafkit.core.process.stop_signals import (
    NUMBERS,
    StopSignals,
    Terminated,
    cancel_on_stop,
    stop_signals,
)

WAIT_S = 20.0


def send(number: int) -> None:
    """Send this process a signal and give the interpreter a moment to run its handler."""
    os.kill(os.getpid(), number)
    for _ in range(1000):
        time.sleep(0.001)


class Forgets:
    """Its finaliser receives a signal; Python prints what it raises and goes on."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        send(self.number)


def forget(number: int) -> None:
    """Lose a signal in a finaliser, then work on until it comes again."""
    thing = Forgets(number)
    del thing
    time.sleep(WAIT_S)


def replace(number: int) -> None:
    """Fail while the stop is on its way out, as omegaconf does."""
    try:
        send(number)
    finally:
        try:
            raise AttributeError("half built")
        except AttributeError as err:
            raise err.with_traceback(None) from None


def exit_with_one(number: int) -> None:
    """End as Lightning does on Ctrl-C."""
    try:
        send(number)
    except BaseException:
        raise SystemExit(1) from None


class Complains:
    """Stopped in the middle, as a zip file that is being written."""

    def __del__(self) -> None:
        raise ValueError("there is an open writing handle on it")


def complain(number: int) -> None:
    """Leave something behind in a frame that the exception holds."""
    thing = Complains()
    send(number)
    del thing


def lose_around_a_fork(number: int) -> None:
    """Receive the signal in what runs before a fork, where Python forgets what is raised."""
    waiting = [number]

    def receive() -> None:
        if waiting:
            send(waiting.pop())

    os.register_at_fork(before=receive)
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    time.sleep(WAIT_S)


def wait_in_a_loop(number: int) -> None:
    """Receive the signal in a callback of an event loop, which logs and forgets what it raises."""

    async def work() -> None:
        with cancel_on_stop():
            asyncio.get_running_loop().call_soon(os.kill, os.getpid(), number)
            await asyncio.sleep(WAIT_S)

    asyncio.run(work())


@pytest.mark.parametrize("code", [0, 1])
def test_sigusr1_queues_the_job_again(code, tmp_path, monkeypatch, capfd):
    """A scontrol that notes what it is told."""
    tool = tmp_path / "scontrol"
    tool.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/told\necho no such job >&2\nexit {code}\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    monkeypatch.setattr(cli, "_run", lambda words: send(signal.SIGUSR1))
    assert cli.main([]) == 143
    assert (tmp_path / "told").read_text() == "requeue 4711\n"
    said = capfd.readouterr()
    told = "is not queued again: no such job" if code else "4711 is queued again"
    assert told in said.out + said.err
    # one process of a job asks for it, and none where no scheduler is
    for name, value in (("SLURM_PROCID", "1"), ("SLURM_JOB_ID", "")):
        monkeypatch.setenv(name, value)
        assert cli.main([]) == 143
    assert (tmp_path / "told").read_text() == "requeue 4711\n"


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize(
    "lose", [send, forget, replace, exit_with_one, complain, lose_around_a_fork, wait_in_a_loop]
)
def test_status_and_words_are_the_stops_own(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    lose: Callable[[int], None],
    number: signal.Signals,
) -> None:
    def run(words: Sequence[str]) -> int:
        lose(number)
        return 0

    monkeypatch.setattr(cli, "_run", run)
    before = [signal.getsignal(n) for n in NUMBERS], sys.unraisablehook
    started_s = time.monotonic()
    assert cli.main([]) == (130 if number == signal.SIGINT else 143)
    assert time.monotonic() - started_s < WAIT_S
    assert ([signal.getsignal(n) for n in NUMBERS], sys.unraisablehook) == before
    told = "".join(capfd.readouterr())
    assert "Traceback" not in told
    assert "finished steps and shards are kept" in told


def test_other_errors_stay_what_they_are() -> None:
    stops = StopSignals()
    error = ValueError("not stopped")
    assert stops.cause_of(error) is error
    with pytest.raises(Terminated):
        stops.handle(signal.SIGTERM, None)
    assert isinstance(stops.cause_of(error), Terminated)


def test_what_finalisers_raise_is_told_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)

    class Fails:
        def __del__(self) -> None:
            raise ValueError("in a finaliser")

    with stop_signals():
        thing = Fails()
        del thing
    assert [u.exc_type for u in told] == [ValueError]


def test_ignored_ctrl_c_stays_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stop_signals():
            send(signal.SIGINT)
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_another_thread_leaves_the_signals_alone() -> None:
    found = []

    def look() -> None:
        before = signal.getsignal(signal.SIGTERM)
        with stop_signals():
            found.append(signal.getsignal(signal.SIGTERM) is before)

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [True]
