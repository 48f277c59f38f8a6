"""How workers are started: what they are told, what the parent keeps, and when it gives up."""

from __future__ import annotations

import gc
import io
import json
import socket
import subprocess
import sys
import time
import weakref
from pathlib import Path

import pytest
from served import make_pair

from leafkit.core.errors import LeafkitError
from leafkit.server import workers
from leafkit.server.listen import take_port
from leafkit.server.serve import serve
from leafkit.server.settings import ServerSettings
from leafkit.server.workers import GAVE_UP, READY, WorkerProcesses


@pytest.fixture
def taken():
    with take_port("127.0.0.1", 0) as taken:
        yield taken


def make(taken: socket.socket, num_workers: int = 2) -> WorkerProcesses:
    return WorkerProcesses(Path(), ServerSettings(workers=num_workers), taken, space="abc")


class Input(io.StringIO):
    """A worker's standard input, which is read after it was closed."""

    told = ""

    def close(self):
        self.told = self.getvalue()


@pytest.mark.parametrize(
    ("cores", "num_workers", "omp", "graph"), [(16, 2, 8, 4), (6, 2, 3, 3), (3, 4, 1, 1)]
)
def test_a_worker_computes_on_its_share_of_the_cores(
    taken, monkeypatch, cores, num_workers, omp, graph
):
    started = []

    class Popen:
        def __init__(self, command, **options):
            started.append(self)
            self.env, self.stdin, self.stdout = options["env"], Input(), io.StringIO()

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(cores)), raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    monkeypatch.setattr(subprocess, "Popen", Popen)
    make(taken, num_workers)._spawn(0)
    assert started[0].env["OMP_NUM_THREADS"] == str(omp)
    assert json.loads(started[0].stdin.getvalue())["threads"] == graph


def as_workers(monkeypatch, tmp_path, code: str) -> None:
    """Have every worker run some code instead."""
    path = tmp_path / "worker"
    path.write_text(f"#!{sys.executable}\n{code}\n")
    path.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(path))


def test_a_worker_that_never_answers_ends_the_start(taken, monkeypatch, tmp_path):
    as_workers(monkeypatch, tmp_path, "import time; time.sleep(300)")
    monkeypatch.setattr(workers, "_STARTS_WITHIN_S", 0.3)
    started_s = time.monotonic()
    with pytest.raises(LeafkitError, match="end before they answer, the last one with status -9"):
        make(taken).start()
    assert time.monotonic() - started_s < 60


def test_it_is_told_once_that_all_answer(taken, monkeypatch, tmp_path):
    go_on = tmp_path / "go on"
    code = f"""
import json, pathlib, sys, time
about = json.loads(sys.stdin.readline())
while about["worker"] and not pathlib.Path({str(go_on)!r}).exists():
    time.sleep(0.01)
print({READY!r}, flush=True)
sys.stdin.read()
"""
    as_workers(monkeypatch, tmp_path, code)
    server = make(taken)
    told = []

    def on_ready():
        told.append([worker.is_ready for worker in server._workers])
        server.stop()

    look_after = server._look_after
    seen = []

    def look(on_ready):
        # the second worker waits until one tick has passed with the first one ready
        if any(worker.is_ready for worker in server._workers) and not go_on.exists():
            look_after(on_ready)
            seen.append(list(told))
            go_on.touch()
        look_after(on_ready)

    monkeypatch.setattr(server, "_look_after", look)
    server.run(on_ready)
    assert seen == [[]]
    assert told == [[True, True]]


@pytest.mark.parametrize(("status", "expected"), [(0, True), (GAVE_UP, False)])
def test_a_worker_tells_whether_it_gave_a_request_up(
    taken, monkeypatch, tmp_path, status, expected
):
    code = f"""
import signal, sys
signal.signal(signal.SIGTERM, lambda *a: sys.exit({status}))
print({READY!r}, flush=True)
while True:
    signal.pause()
"""
    as_workers(monkeypatch, tmp_path, code)
    server = make(taken)
    server.run(server.stop)
    assert server.has_answered_all is expected


def test_the_port_is_closed_before_the_workers_have_ended(taken, monkeypatch):
    server = make(taken)
    seen = []
    monkeypatch.setattr(server, "_spawn", lambda number: server.stop())
    monkeypatch.setattr(server, "_drain", lambda: seen.append(taken.fileno()))
    server.run()
    assert seen == [-1]


def test_the_parent_of_workers_keeps_no_model(tmp_path, monkeypatch):
    def open_teacher():
        raise AssertionError("the parent loads the teacher")

    kept, made = [], []

    def load_pair(folder, **others):
        pair = make_pair(open_teacher)
        kept.append(weakref.ref(pair))
        return pair

    class Workers:
        def __init__(self, folder, settings, taken, *, space, student):
            self.taken = taken
            made.append(space)

        def start(self):
            self.taken.close()
            gc.collect()
            made.append(kept[0]())

    monkeypatch.setattr("leafkit.server.serve.load_pair", load_pair)
    monkeypatch.setattr("leafkit.server.serve.WorkerProcesses", Workers)
    serve(tmp_path, port=0, block=False, workers=2, teacher="eager")
    assert made[0]
    assert made[1] is None
