"""SIGTERM, SIGUSR1 and Ctrl-C end a command wherever they reach it, and the status says so.

A handler that raises is not enough. Python prints and forgets what is raised inside a callback
that has no caller (a finaliser, what runs before and after a fork), so that the signal is lost;
and a library's cleanup may fail on the way out and replace the exception by its own.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

_AGAIN_AFTER_S = 0.05  # a lost signal is sent again, when the callback that lost it is over
# SLURM sends the last one, where it is asked to, before a job's time is up
NUMBERS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class Terminated(BaseException):
    """SIGTERM or SIGUSR1 arrived."""


class PendingStop:
    """A stop that waits for a good moment.

    Attributes:
        number: of the signal; 0 while none has come.
    """

    def __init__(self) -> None:
        self.number = 0

    @staticmethod
    def cause(number: int) -> BaseException:
        """What a signal raises."""
        return KeyboardInterrupt() if number == signal.SIGINT else Terminated()


class StopSignals:
    """What has been received while a command runs, and the handler that raises it."""

    def __init__(self) -> None:
        self._received: list[int] = []
        self._pending: PendingStop | None = None

    @property
    def has_come(self) -> bool:
        """Whether a signal was received."""
        return bool(self._received)

    @property
    def wants_requeue(self) -> bool:
        """Whether the time of a job is nearly up."""
        return signal.SIGUSR1 in self._received

    def handle(self, number: int, frame: Any) -> None:
        """Raise ``Terminated`` or ``KeyboardInterrupt`` in the main thread, or leave the first
        signal to who waits for it; a second one waits for nobody.
        """
        self._received.append(number)
        if self._pending is not None and not self._pending.number:
            self._pending.number = number
            return
        raise PendingStop.cause(number)

    @contextlib.contextmanager
    def pending(self) -> Iterator[PendingStop]:
        """Within it the first signal is noted and raises nothing. Whoever asks for this raises it
        where it suits; at the end it is raised here.
        """
        self._pending = waiting = PendingStop()
        try:
            yield waiting
        finally:
            self._pending = None
        if waiting.number:
            raise PendingStop.cause(waiting.number)

    def cause_of(self, err: BaseException) -> BaseException:
        """The stop that an error comes of, else the error itself."""
        if not self._received or isinstance(err, KeyboardInterrupt | Terminated):
            return err
        return PendingStop.cause(self._received[0])

    def send_again(self, unraisable: Any) -> bool:
        """Where a callback has lost a stop, send its signal once more; whether it was one."""
        if not issubclass(unraisable.exc_type, KeyboardInterrupt | Terminated):
            return False
        is_int = issubclass(unraisable.exc_type, KeyboardInterrupt)
        number = signal.SIGINT if is_int else signal.SIGTERM
        timer = threading.Timer(_AGAIN_AFTER_S, os.kill, (os.getpid(), number))
        timer.daemon = True
        timer.start()
        return True


@contextlib.contextmanager
def stop_signals() -> Iterator[StopSignals]:
    """Let these signals raise in the main thread; what handled them before does so afterwards.

    A process that was started with Ctrl-C ignored (a shell's background job) goes on ignoring it.
    """
    stops = StopSignals()
    if threading.current_thread() is not threading.main_thread():
        yield stops
        return
    hook = sys.unraisablehook

    def tell(unraisable: Any) -> None:
        # what was stopped in the middle may complain of that when it is cleaned up
        if not stops.send_again(unraisable) and not stops.has_come:
            hook(unraisable)

    before = {number: signal.getsignal(number) for number in NUMBERS}
    sys.unraisablehook = tell
    for number in NUMBERS:
        if before[number] is not signal.SIG_IGN:
            signal.signal(number, stops.handle)
    try:
        yield stops
    finally:
        ignore_stops()  # a second one has nothing left to stop
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def ignore_stops() -> None:
    """Let nothing stop what is said of a stop."""
    if threading.current_thread() is threading.main_thread():
        for number in NUMBERS:
            signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def wait_with_stops() -> Iterator[PendingStop | None]:
    """Within it the command's own handler notes the first signal and raises nothing; None where the
    process handles signals in another way, which stays.
    """
    owners = [getattr(signal.getsignal(number), "__self__", None) for number in NUMBERS]
    ours = [owner for owner in owners if isinstance(owner, StopSignals)]
    if not ours or threading.current_thread() is not threading.main_thread():
        yield None
        return
    with ours[0].pending() as waiting:
        yield waiting


@contextlib.contextmanager
def cancel_on_stop() -> Iterator[None]:
    """Let the signals cancel the current task, and call the process's own handlers afterwards.

    An event loop logs and forgets what a handler raises while one of the loop's own callbacks runs.
    asyncio itself does this for SIGINT alone, and there alone where nobody handles it.
    """
    import asyncio  # where a loop runs it is there; a command that is used wrongly needs none

    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    if task is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    own: dict[signal.Signals, Callable[[int, FrameType | None], Any]] = {}
    for number in NUMBERS:
        handler = signal.getsignal(number)
        if callable(handler) and (number == signal.SIGTERM or _is_ours(handler)):
            own[number] = handler
    received: list[signal.Signals] = []

    def cancel(number: signal.Signals) -> None:
        received.append(number)
        task.cancel()

    for number in own:
        loop.add_signal_handler(number, cancel, number)
    try:
        yield
    finally:
        for number, handler in own.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)
        if received:
            own[received[0]](received[0], None)


def _is_ours(handler: Any) -> bool:
    return isinstance(getattr(handler, "__self__", None), StopSignals)
