"""The processes of a launch know of each other's end: when one is lost, the others end within half
a minute, with a message that names it.

Each one holds a connection to the first. The system closes it when a process ends, however it does
and whatever the process was busy with, and the network's own probes find a machine that is gone.
The first process tells all others. Beats that a thread would send are no sign of life: one long
call that holds Python's lock would pass for a death.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import selectors
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from leafkit.core.errors import LeafkitError

_INTERRUPT_AFTER_S = 3.0  # most are waiting for others, and learn it there
_END_AFTER_S = 12.0  # whatever a process is busy with; finding a lost machine takes 17 before
# after one that was stopped by a signal: others may be saving a state meanwhile
_END_AFTER_STOP_S = 300.0
_MEET_WITHIN_S, _CONNECT_WITHIN_S = 60.0, 5.0
_TOKEN_BYTES, _MAX_LINE = 16, 4096
# the network asks a silent connection after so many seconds, again after so many, so many times
_PROBES = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 4, "TCP_KEEPCNT": 3}
_HINT = "see its own output; finished steps and shards are kept, the same command goes on"
DONE, FAILED, STOPPED = "done", "failed", "stopped"  # how a process leaves

_open: set[socket.socket] = set()


def _close_in_child() -> None:
    """A forked process would keep its parent's connection alive."""
    for one in _open:
        with contextlib.suppress(OSError):
            one.close()
    _open.clear()


os.register_at_fork(after_in_child=_close_in_child)


class PeerLost(LeafkitError):
    """Another process of the launch is lost."""

    @classmethod
    def of(cls, peers: Peers) -> PeerLost:
        """That says which."""
        return cls(peers.lost, _HINT)

    @classmethod
    def first_failed(cls, what: str) -> PeerLost:
        """That the first process failed at what all wait for, as it told them itself."""
        return cls(f"process 0 failed: {what}", _HINT)


class Peers:
    """This process among those of the launch; closed with how it leaves.

    Args:
        rank: of this process.
        size: processes.

    Attributes:
        lost: which process was lost and how; "" while none is.
    """

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size, self.lost = rank, size, ""
        self._connections: dict[int, socket.socket] = {}  # to the first; of the first to all
        self._hosts: dict[int, str] = {}
        self._lock = threading.Lock()
        self._is_known = self._is_closed = False  # to the main thread
        self._main = threading.main_thread()
        self._watch: threading.Thread | None = None
        self._before: Any = None

    def listen(self, publish: Callable[[str], Any], address: str) -> None:
        """As the first process: let the others connect.

        Args:
            publish: tells them where.
            address: of this process, where they have met already.
        """
        server = _make_server(self.size)
        _open.add(server)
        token = secrets.token_hex(_TOKEN_BYTES)
        own = socket.gethostname()
        places = [address, own, *_addresses(own)]
        port = server.getsockname()[1]
        told = {"places": list(dict.fromkeys(places)), "port": port, "token": token}
        publish(json.dumps(told | {"host": _here()}))
        deadline_s = time.monotonic() + _MEET_WITHIN_S
        while len(self._connections) < self.size - 1:
            server.settimeout(max(0.1, deadline_s - time.monotonic()))
            try:
                connection, _ = server.accept()
            except TimeoutError:
                missing = set(range(1, self.size)) - self._connections.keys()
                raise LeafkitError(
                    f"process(es) {', '.join(map(str, sorted(missing)))} did not connect to "
                    f"process 0 on {own} within {_MEET_WITHIN_S:.0f} seconds",
                    "all processes must be able to reach the first one, at any port",
                ) from None
            self._welcome(connection, token)
        _open.discard(server)
        server.close()
        self._start(self._watch_all)

    def _welcome(self, connection: socket.socket, token: str) -> None:
        connection.settimeout(_CONNECT_WITHIN_S)
        try:
            hello = json.loads(_read_line(connection))
            rank, host = int(hello["rank"]), str(hello["host"])[:200]
            is_ours = secrets.compare_digest(str(hello["token"]), token)
        except (OSError, ValueError, KeyError, TypeError):
            is_ours = False
        if not is_ours or not 0 < rank < self.size or rank in self._connections:
            connection.close()  # somebody else
            return
        self._add(rank, host, connection)

    def connect(self, told: str) -> None:
        """As another process: connect to the first.

        Args:
            told: what it published.

        Raises:
            LeafkitError: it cannot be reached.
        """
        found = json.loads(told)
        reasons = []
        for place in found["places"]:
            try:
                connection = socket.create_connection((place, found["port"]), _CONNECT_WITHIN_S)
            except OSError as err:
                reasons.append(f"{place}: {err.strerror or err}")
                continue
            hello = {"token": found["token"], "rank": self.rank, "host": _here()}
            connection.sendall(f"{json.dumps(hello)}\n".encode())
            self._add(0, str(found["host"]), connection)
            self._start(self._watch_first)
            return
        raise LeafkitError(
            f"process {self.rank} of {self.size} cannot reach process 0 at port {found['port']} "
            f"({'; '.join(reasons)[:300]})",
            "all processes must be able to reach the first one, at any port",
        )

    def look(self) -> None:
        """Raise where a process is lost.

        Raises:
            PeerLost: one is; the message names it.
        """
        if self.lost:
            self._is_known = True
            raise PeerLost.of(self)

    def explains(self, err: BaseException) -> bool:
        """Whether an error may come of a process that is lost: the news may take a moment."""
        if not isinstance(err, Exception) or isinstance(err, LeafkitError):
            return False
        deadline_s = time.monotonic() + 2.0
        while not self.lost and time.monotonic() < deadline_s:
            time.sleep(0.05)
        self._is_known = self._is_known or bool(self.lost)
        return bool(self.lost)

    def close(self, how: str, what: str = "") -> None:
        """Tell the others how this process leaves, and watch no more.

        Args:
            how: ``DONE``, ``FAILED`` or ``STOPPED``.
            what: the reason.
        """
        self._is_closed = True
        for connection in self._connections.values():
            _send(connection, {"how": how, "what": what[: _MAX_LINE // 8]})
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        if self._watch is not None and self._watch is not threading.current_thread():
            self._watch.join(_CONNECT_WITHIN_S)  # it may only begin to look at the connections
        for connection in self._connections.values():
            _open.discard(connection)
            connection.close()
        if self._before is not None:
            signal.signal(signal.SIGUSR2, self._before)

    def _add(self, rank: int, host: str, connection: socket.socket) -> None:
        connection.settimeout(None)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _PROBES.items():
            if hasattr(socket, name):  # other systems name them otherwise
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        _open.add(connection)
        self._connections[rank], self._hosts[rank] = connection, host

    def _start(self, watch: Callable[[], None]) -> None:
        is_main = threading.current_thread() is self._main
        if is_main and signal.getsignal(signal.SIGUSR2) is signal.SIG_DFL:
            self._before = signal.signal(signal.SIGUSR2, lambda *_: self._interrupt())
        self._watch = threading.Thread(target=watch, name="peers", daemon=True)
        self._watch.start()

    def _watch_all(self) -> None:
        with selectors.DefaultSelector() as selector:
            for rank, connection in self._connections.items():
                selector.register(connection, selectors.EVENT_READ, rank)
            while selector.get_map() and not self._is_closed:
                for key, _ in selector.select(timeout=1.0):
                    word = _receive(key.fileobj)  # type: ignore[arg-type]  # it was registered
                    selector.unregister(key.fileobj)
                    self._note(int(key.data), word)

    def _watch_first(self) -> None:
        while not self._is_closed:
            word = _receive(self._connections[0])
            if word is not None and "lost" in word:
                self._lose(str(word["lost"]), is_urgent=bool(word.get("is_urgent")))
                continue
            self._note(0, word)
            return

    def _note(self, rank: int, word: Mapping[str, object] | None) -> None:
        """A process has said its last word, or none."""
        how, what = (None, "") if word is None else (word.get("how"), str(word.get("what")))
        if how == DONE or self._is_closed:
            return
        told = {
            FAILED: f"failed: {what}",
            STOPPED: "was stopped by a signal",
        }.get(str(how), "ended without a word: it was killed, or its machine is gone")
        message = f"process {rank} of {self.size} (on {self._hosts[rank]}) {told}"
        self._lose(message, is_urgent=how != STOPPED)

    def _lose(self, message: str, *, is_urgent: bool) -> None:
        """Remember it, tell the others, and see that this process ends."""
        with self._lock:
            if self.lost or self._is_closed:
                return
            self.lost = message
        if self.rank == 0:
            for connection in self._connections.values():
                _send(connection, {"lost": message, "is_urgent": is_urgent})
        end = self._see_the_end if is_urgent else self._see_a_late_end
        threading.Thread(target=end, name="peers-end", daemon=True).start()

    def _see_a_late_end(self) -> None:
        time.sleep(_END_AFTER_STOP_S)
        self._end()

    def _see_the_end(self) -> None:
        time.sleep(_INTERRUPT_AFTER_S)
        if not self._is_known and not self._is_closed and self._before is not None:
            signal.pthread_kill(self._main.ident or 0, signal.SIGUSR2)
        time.sleep(_END_AFTER_S - _INTERRUPT_AFTER_S)
        self._end()

    def _end(self) -> None:
        if not self._is_closed:
            sys.stderr.write(f"error: {self.lost}\nhint: {_HINT}\n")
            sys.stderr.flush()
            os._exit(1)

    def _interrupt(self) -> None:
        if not self._is_known and not self._is_closed:
            self.look()


def _make_server(backlog: int) -> socket.socket:
    """At any free port, for both versions of IP where the system has both."""
    if socket.has_dualstack_ipv6():
        with contextlib.suppress(OSError):  # it may be switched off all the same
            return socket.create_server(
                ("", 0), family=socket.AF_INET6, backlog=backlog, dualstack_ipv6=True
            )
    return socket.create_server(("", 0), backlog=backlog)


def _here() -> str:
    return f"{socket.gethostname()} as process {os.getpid()}"


def _addresses(host: str) -> Sequence[str]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return [str(entry[4][0]) for entry in found]


def _send(connection: socket.socket, word: Mapping[str, object]) -> None:
    with contextlib.suppress(OSError):
        connection.sendall(f"{json.dumps(word, ensure_ascii=False)}\n".encode("utf-8", "replace"))


def _receive(connection: socket.socket) -> Mapping[str, object] | None:
    """One word of another process; None where it has gone without one."""
    try:
        word = json.loads(_read_line(connection))
    except (OSError, ValueError):
        return None
    return word if isinstance(word, dict) else None


def _read_line(connection: socket.socket) -> str:
    """A line, byte by byte: what follows it is another word."""
    line = b""
    while not line.endswith(b"\n"):
        byte = connection.recv(1)
        if not byte or len(line) > _MAX_LINE:
            raise ValueError("no line")
        line += byte
    return line.decode("utf-8", "replace")
