"""Several processes that answer on one port: they are started, replaced when one dies, and drained
together.

All listen on one socket, so that a connection which a dying worker had not accepted goes to
another. What they are told, the key among it, travels through a pipe: no argument and no
environment variable shows it. A worker whose parent is gone reads the pipe's end, and drains.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

import numpy as np

from leafkit.core.console import log, warn
from leafkit.core.errors import LeafkitError
from leafkit.embedders.onnx_graph import MOST_THREADS
from leafkit.server.metrics import WIDTH
from leafkit.server.process import DRAIN_S
from leafkit.server.settings import ServerSettings

READY = "ready"
GAVE_UP = 3  # status of a worker that stopped before a request had its answer
_MOST_FAILED_STARTS = 3  # one after another, before it is no accident
_POLL_S = 0.05
_STARTS_WITHIN_S = 600  # loading a teacher takes its time
_KILLED_AFTER_S = DRAIN_S + 5


@dataclass(slots=True)
class _Worker:
    process: subprocess.Popen[str]
    is_ready: bool = False
    started_s: float = field(default_factory=time.monotonic)


class WorkerProcesses:
    """The workers of one server.

    Args:
        folder: of the pair.
        settings: checked ones.
        taken: the socket that all listen on; closed here in the end.
        space: of the pair; a worker that finds another in the folder does not start.
        student: (N, D) float16 the student's vectors of the documents, where they are made.
    """

    def __init__(
        self,
        folder: Path,
        settings: ServerSettings,
        taken: socket.socket,
        *,
        space: str,
        student: np.ndarray | None = None,
    ) -> None:
        self._folder, self._settings, self._taken = folder, settings, taken
        self._space, self._student_shape = space, None if student is None else student.shape
        # files without a name: nothing is left behind, however this process ends
        self._files = contextlib.ExitStack()
        self._shared = [self._share(bytes(8 * WIDTH * settings.workers))]
        if student is not None:
            self._shared.append(self._share(np.ascontiguousarray(student).data))
        self._workers: list[_Worker] = []
        self._failed_starts = 0
        self._has_been_ready = False
        self._num_gave_up = 0
        self._stop_asked = threading.Event()
        self._is_forced = False
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    @property
    def is_alive(self) -> bool:
        """Whether its thread looks after the workers."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def has_answered_all(self) -> bool:
        """Whether no worker that was told to stop gave a request up."""
        return self._num_gave_up == 0

    def start(self) -> None:
        """Look after the workers in a thread; returns when all of them answer.

        Raises:
            LeafkitError: a worker does not start.
        """
        self._thread = threading.Thread(target=self._run_quietly, name="workers", daemon=True)
        self._thread.start()
        while not self._has_been_ready:
            if not self._thread.is_alive():
                raise self._failure or LeafkitError("the workers did not start", "see the log")
            time.sleep(_POLL_S)

    def _run_quietly(self) -> None:
        try:
            self.run()
        except BaseException as err:
            self._failure = err

    def run(self, on_ready: Callable[[], None] = lambda: None) -> None:
        """Keep as many workers as were asked for until ``stop``; then drain them all.

        Args:
            on_ready: called once all of them answer.

        Raises:
            LeafkitError: a worker ends before all answered once, or later several one after
                another before they answer.
        """
        try:
            for number in range(self._settings.workers):
                self._workers.append(self._spawn(number))
            while not self._stop_asked.wait(_POLL_S):
                self._look_after(on_ready)
        finally:
            # the port is closed when no process holds it; the workers' copies go as they drain
            self._taken.close()
            self._drain()
            self._files.close()

    def _look_after(self, on_ready: Callable[[], None]) -> None:
        for number, worker in enumerate(self._workers):
            if worker.process.poll() is not None:
                self._replace(number, worker)
            elif not worker.is_ready and time.monotonic() > worker.started_s + _STARTS_WITHIN_S:
                warn(f"worker {number} does not answer after {_STARTS_WITHIN_S} s: it is ended")
                worker.process.kill()
                worker.process.wait()
        if not self._has_been_ready and all(worker.is_ready for worker in self._workers):
            self._has_been_ready = True
            on_ready()

    def stop(self) -> None:
        """Drain the workers; a second call ends them."""
        self._is_forced = self._stop_asked.is_set()
        self._stop_asked.set()

    def join(self) -> None:
        """Wait for the thread to end."""
        if self._thread is not None:
            self._thread.join()

    def _share(self, content: bytes | memoryview) -> IO[bytes]:
        stream: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - run closes it
        self._files.enter_context(stream)
        stream.write(content)
        stream.flush()
        return stream

    def _spawn(self, number: int) -> _Worker:
        files = [self._taken.fileno(), *(stream.fileno() for stream in self._shared)]
        threads = max(1, _num_cores() // self._settings.workers)
        process = subprocess.Popen(
            [sys.executable, "-m", "leafkit.server.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=files,
            # each computes on its share of the cores
            env={"OMP_NUM_THREADS": str(threads)} | os.environ,
        )
        about = {
            "folder": str(self._folder.resolve()),
            "settings": asdict(self._settings),
            "space": self._space,
            "worker": number,
            "threads": min(MOST_THREADS, threads),
            "files": files,
            "student_shape": self._student_shape,
        }
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it is dead already, which is seen next
            process.stdin.write(json.dumps(about) + "\n")
            process.stdin.flush()
        worker = _Worker(process)
        threading.Thread(target=self._wait_ready, args=(worker,), daemon=True).start()
        return worker

    def _wait_ready(self, worker: _Worker) -> None:
        assert worker.process.stdout is not None
        for line in worker.process.stdout:
            if line.strip() == READY:
                worker.is_ready = True
                self._failed_starts = 0

    def _replace(self, number: int, worker: _Worker) -> None:
        status = worker.process.returncode
        if not worker.is_ready:
            self._failed_starts += 1
            # at the start the others would only fail in the same way
            if not self._has_been_ready or self._failed_starts >= _MOST_FAILED_STARTS:
                raise LeafkitError(
                    f"workers end before they answer, the last one with status {status}",
                    "what they said stands above; workers=1 serves from this process",
                )
        warn(f"worker {number} ended with status {status}: another one takes its place")
        _close(worker)
        self._workers[number] = self._spawn(number)

    def _drain(self) -> None:
        """End all workers: first politely, those that take too long at once."""
        for worker in self._workers:
            if worker.process.poll() is None:
                worker.process.terminate()
        ends_s = time.monotonic() + _KILLED_AFTER_S
        for worker in self._workers:
            while worker.process.poll() is None:
                if self._is_forced or time.monotonic() > ends_s:
                    worker.process.kill()
                time.sleep(_POLL_S)
            self._num_gave_up += worker.process.returncode in (GAVE_UP, -signal.SIGKILL)
            _close(worker)
        log(f"{len(self._workers)} workers have ended")


def _num_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _close(worker: _Worker) -> None:
    for stream in (worker.process.stdin, worker.process.stdout):
        if stream is not None:
            with contextlib.suppress(BrokenPipeError):
                stream.close()
