"""Jobs on all cores: each once, modes of the caller, failures and signals end all of them."""

from __future__ import annotations

import signal
import threading
import time

import pytest
import torch

from leafkit.core.process.core_threads import run_on_cores


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_every_job_is_done_once_and_two_are_at_work_together():
    meeting, done = threading.Barrier(2, timeout=30), []

    def run(job: int) -> None:
        if job < 2:
            meeting.wait()  # breaks unless both are at work
        done.append((job, torch.get_num_threads()))

    run_on_cores(range(7), run)
    assert sorted(done) == [(job, 1) for job in range(7)]
    assert torch.get_num_threads() == 2


def test_one_job_keeps_all_threads():
    seen = []
    run_on_cores(
        [0], lambda job: seen.append((torch.get_num_threads(), threading.current_thread()))
    )
    assert seen == [(2, threading.main_thread())]


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_jobs_have_the_callers_modes(mode):
    seen = set()
    with mode():
        expected = torch.is_inference_mode_enabled(), torch.is_grad_enabled()
        run_on_cores(
            range(4),
            lambda job: seen.add((torch.is_inference_mode_enabled(), torch.is_grad_enabled())),
        )
    assert seen == {expected}


def test_a_failing_job_ends_the_others():
    done = []

    def run(job: int) -> None:
        if job == 1:
            raise ValueError("job 1")
        time.sleep(0.05)
        done.append(job)

    with pytest.raises(ValueError, match="job 1"):
        run_on_cores(range(1000), run)
    assert len(done) < 100
    assert not _at_work()


def test_a_signal_ends_jobs_amid_their_work():
    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, stop)
    finished = []

    def run(job: int) -> None:
        for _ in range(6000):
            time.sleep(0.01)
        finished.append(job)

    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(KeyboardInterrupt):
            run_on_cores(range(4), run)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert not finished
    assert not _at_work()


def _at_work() -> list[threading.Thread]:
    return [
        thread
        for thread in threading.enumerate()
        if thread.name.startswith("core-") and thread.is_alive()
    ]
