"""One of several processes that answer: ``python -m leafkit.server.worker``, started by
``leafkit.server.workers`` and told through its standard input what to do.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np

from leafkit.core.console import set_verbosity
from leafkit.core.errors import LeafkitError
from leafkit.pipeline.ladder.router import open_router
from leafkit.pipeline.load_pair import load_pair
from leafkit.pipeline.space_guard import check_space
from leafkit.server.metrics import Metrics, share_rows
from leafkit.server.process import HttpServer
from leafkit.server.service import Service
from leafkit.server.settings import ServerSettings
from leafkit.server.workers import GAVE_UP, READY


def main() -> int:
    """Answer until told to stop.

    The parent, a supervisor that signals the whole group and the end of the parent may each say so:
    none is a reason to drop what is open. The parent kills a worker that takes too long.
    """
    about = json.loads(sys.stdin.readline())
    set_verbosity("warning")
    # Ctrl-C reaches the parent too, which lets open requests finish
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        server = _make(about)
        signal.signal(signal.SIGTERM, lambda number, frame: server.drain())
        threading.Thread(target=_watch_parent, args=(server,), daemon=True).start()
        server.start()
    except LeafkitError as err:
        print(f"worker {about['worker']}: {err}; {err.hint}", file=sys.stderr)  # noqa: T201
        return err.exit_status
    with contextlib.suppress(BrokenPipeError):  # the parent is gone, which is seen there
        sys.stdout.write(READY + "\n")
        sys.stdout.flush()
    server.join()
    return 0 if server.has_answered_all else GAVE_UP


def _make(about: dict[str, Any]) -> HttpServer:
    settings = ServerSettings(**about["settings"])
    taken = socket.socket(fileno=about["files"][0])
    counters = os.fdopen(about["files"][1], "r+b")
    student = None
    if about["student_shape"] is not None:
        stream = os.fdopen(about["files"][2], "r+b")
        student = np.memmap(stream, dtype=np.float16, mode="r", shape=tuple(about["student_shape"]))
    threads = about["threads"]
    pair = load_pair(
        about["folder"],
        index=settings.index or "flat",
        query_threads=threads,
        allow_hosts=tuple(settings.allow_hosts),
    )
    check_space(about["folder"], pair.space.teacher, about["space"])
    router = None
    if settings.promise is not None:
        router = open_router(
            Path(about["folder"]), pair, settings.promise, is_unverified=settings.unverified
        )
    rows = share_rows(counters, settings.workers)
    service = Service(pair, settings, Metrics(rows, about["worker"]), student, router=router)
    service.prepare()
    return HttpServer(service, taken)


def _watch_parent(server: HttpServer) -> None:
    """Drain once the parent is gone: then nobody would end this process."""
    sys.stdin.read()
    server.drain()


if __name__ == "__main__":
    sys.exit(main())
