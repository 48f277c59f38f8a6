"""Work on the CPU's cores side by side: one thread per core, each computing on its own core.

One matrix product shared by all cores leaves them idle between products; whole batches side by
side do not. torch releases Python's lock inside its operations, so that threads suffice and share
the weights.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

Job = TypeVar("Job")


class _Stopped(BaseException):
    """Raised inside a thread whose result nobody waits for any more."""


def run_on_cores(jobs: Sequence[Job], run: Callable[[Job], None]) -> None:
    """Run every job once, in order of their start, as many at a time as torch has threads.

    Args:
        jobs: the longest first, so that the last ones end together.
        run: called in some thread, with the caller's inference and gradient mode, where torch
            computes on one core. One job, or one thread: it is called here.

    Raises:
        BaseException: what the first failing job raised, or what a signal raised here; no job is at
            work then any more.
    """
    num_threads = torch.get_num_threads()
    if min(num_threads, len(jobs)) < 2:
        for job in jobs:
            run(job)
        return
    waiting, lock = iter(jobs), threading.Lock()
    failures: list[BaseException] = []
    modes = torch.is_inference_mode_enabled(), torch.is_grad_enabled()

    def work() -> None:
        torch.set_num_threads(1)
        try:
            with torch.inference_mode(modes[0]), torch.set_grad_enabled(modes[1]):
                while not failures:
                    with lock:
                        job = next(waiting, None)
                    if job is None:
                        return
                    run(job)
        except BaseException as err:
            failures.append(err)

    threads = [
        threading.Thread(target=work, name=f"core-{number}", daemon=True)
        for number in range(min(num_threads, len(jobs)))
    ]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    except BaseException:
        _stop(threads)
        raise
    finally:
        # threads that begin from now on take what was set last, in whichever thread
        torch.set_num_threads(num_threads)
    if failures:
        raise failures[0]


def _stop(threads: Sequence[threading.Thread]) -> None:
    """End threads after the operation that they are at, which a batch has many of."""
    for thread in threads:
        while thread.is_alive():
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(thread.ident or 0), ctypes.py_object(_Stopped)
            )
            # asked again: a clause that catches everything may have swallowed it
            thread.join(timeout=10)
