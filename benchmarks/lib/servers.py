"""Servers in processes of their own, on this machine alone: started, waited for, ended."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from lib.clients import HOST

_POLL_S = 0.1
_ENDS_WITHIN_S = 45


@dataclass(frozen=True)
class Server:
    """A server that answers.

    Attributes:
        port: on this machine.
        process: that was started.
        started_s: seconds until it answered.
    """

    port: int
    process: subprocess.Popen[bytes]
    started_s: float

    def resident_mib(self, kind: str = "VmRSS") -> float:
        """Memory of the process and its children, in MiB, on Linux.

        Args:
            kind: "VmRSS" is all that is in memory, "RssAnon" without pages of mapped files.
        """
        total = 0
        for pid in [self.process.pid, *_children(self.process.pid)]:
            try:
                lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            except OSError:
                continue  # it has ended meanwhile
            total += sum(int(line.split()[1]) for line in lines if line.startswith(f"{kind}:"))
        return total / 1024


def _children(pid: int) -> list[int]:
    """Children of a process and theirs."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found += [child, *_children(child)]
    return found


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        return int(taken.getsockname()[1])


@contextmanager
def started(
    words: Sequence[str],
    port: int,
    *,
    ready: str,
    environment: Mapping[str, str],
    within_s: float,
) -> Iterator[Server]:
    """A server while the block runs.

    Args:
        words: its command line.
        port: that it was told to listen on.
        ready: path that is answered with 200 once it takes requests.
        environment: variables beside those of this process.
        within_s: seconds until then.

    Raises:
        SystemExit: it ended, or did not answer in time; with the end of what it said.
    """
    began_s = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            list(words),
            stdout=said,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=os.environ | dict(environment),
            start_new_session=True,
        )
        try:
            while not _answers(port, ready):
                if process.poll() is not None or time.perf_counter() - began_s > within_s:
                    said.seek(0)
                    end = said.read().decode("utf-8", "replace")[-1500:]
                    raise SystemExit(f"{words[0]} does not serve: {end}")
                time.sleep(_POLL_S)
            yield Server(port, process, time.perf_counter() - began_s)
        finally:
            _end(process)


def _answers(port: int, path: str) -> bool:
    try:
        with urlopen(f"http://{HOST}:{port}{path}", timeout=5) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask it to end, and end what is left of its group."""
    process.terminate()
    try:
        process.wait(_ENDS_WITHIN_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
