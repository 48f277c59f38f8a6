"""How the processes of a launch wait for each other: by looking at the launch's key-value store,
not inside a collective.

A collective has a time limit, after which it ends the process, and cannot be interrupted; a wait
here may last as long as another one works, answers signals and ends when a process is lost. The
store is looked at again and again: its own way of waiting writes a warning each time that its limit
is over.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from leafkit.core.errors import LeafkitError

_LOOK_EVERY_S = (0.002, 0.25)  # at the store: at first, and in the end
_GIVE_UP_S = 20.0  # on a store that nobody answers for


class KeyValueStore(Protocol):
    """What is used of torch's ``Store``."""

    def set(self, key: str, value: str, /) -> Any: ...
    def get(self, key: str, /) -> bytes: ...
    def check(self, keys: list[str], /) -> bool: ...


class Meeting:
    """The processes of a launch, as they wait for each other. All of them must ask for the same
    things in the same order.

    Args:
        store: that all processes reach, under keys of this meeting's own.
        rank: of this process.
        size: processes.
        look: called while others are waited for; raises where one of them is lost.
    """

    def __init__(
        self, store: KeyValueStore, rank: int, size: int, look: Callable[[], None]
    ) -> None:
        self._store, self._rank, self._size, self._look = store, rank, size, look
        self._count = 0

    def look(self) -> None:
        """Raise where a process is lost."""
        self._look()

    def follow_first(self) -> None:
        """Wait until the first process has called this too.

        Raises:
            LeafkitError: a process is lost.
        """
        key = self._next_key("first")
        if self._rank == 0:
            self._ask(lambda: self._store.set(key, "1"))
            self._look()
        else:
            self._wait_for(key)

    def barrier(self) -> None:
        """Wait until all processes have called this.

        Raises:
            LeafkitError: a process is lost.
        """
        self._wait_for(*self._tell("barrier", 0))

    def total(self, number: int) -> int:
        """Sum of the numbers that all processes give; nobody goes on before the last one has given
        its own.

        Raises:
            LeafkitError: a process is lost.
        """
        keys = self._tell("total", number)
        self._wait_for(*keys)
        return sum(int(self._ask(partial(self._store.get, key))) for key in keys)

    def leave(self) -> None:
        """``barrier``, after which no process asks the store any more: the first one, which may
        hold it, waits until all others have passed.

        Raises:
            LeafkitError: a process is lost.
        """
        self.barrier()
        keys = self._tell("left", 0)
        if self._rank == 0:
            self._wait_for(*keys)

    def _tell(self, what: str, number: int) -> list[str]:
        """Leave a number for all, under a key of this process's own: what is set again, because no
        answer came, is the same. Returns the keys of all.
        """
        key = self._next_key(what)
        self._ask(lambda: self._store.set(f"{key}.{self._rank}", str(number)))
        return [f"{key}.{rank}" for rank in range(self._size)]

    def _next_key(self, what: str) -> str:
        self._count += 1
        return f"{self._count}.{what}"

    def _wait_for(self, *keys: str) -> None:
        pause_s = _LOOK_EVERY_S[0]
        while not self._ask(lambda: self._store.check(list(keys))):
            self._look()
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LOOK_EVERY_S[1])

    def _ask(self, question: Callable[[], Any]) -> Any:
        """The store's answer; one that does not come is that of a lost process, as a rule, and who
        watches them tells which.
        """
        started_s = time.monotonic()
        while True:
            try:
                return question()
            except RuntimeError as err:  # torch's errors of a store are such
                self._look()
                if time.monotonic() - started_s > _GIVE_UP_S:
                    reason = str(err).splitlines()[0] if str(err) else type(err).__name__
                    raise LeafkitError(
                        f"process {self._rank} of {self._size} does not reach the others any "
                        f"more: {reason[:200]}",
                        "see the output of the other processes; finished steps and shards are kept",
                    ) from err
                time.sleep(0.2)
