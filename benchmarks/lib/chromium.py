"""A page in Chromium whose processes share one core, and the server of its files."""

from __future__ import annotations

import contextlib
import functools
import re
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from lib.clients import HOST

sys.path.append(str(Path(__file__).parents[2] / "tests" / "support"))
from browser import find_chromium


@dataclass
class Files:
    """A server of the page's files.

    Attributes:
        url: of the page.
        num_bytes: of all answers so far, without their heads.
        num_files: answered so far.
    """

    url: str = ""
    num_bytes: int = 0
    num_files: int = 0


@contextlib.contextmanager
def files_served(folder: Path) -> Iterator[Files]:
    """The folder as `python -m http.server` serves it, on this machine alone."""
    files = Files()
    lock = threading.Lock()

    class Counting(SimpleHTTPRequestHandler):
        def copyfile(self, source: Any, outputfile: Any) -> None:
            begun = source.tell()
            super().copyfile(source, outputfile)
            with lock:
                files.num_files += 1
                files.num_bytes += source.tell() - begun

        def log_message(self, *words: object) -> None:
            """Nothing beside the figures."""

    handler = functools.partial(Counting, directory=str(folder))
    with ThreadingHTTPServer((HOST, 0), handler) as server:
        files.url = f"http://{HOST}:{server.server_port}/"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield files
        finally:
            server.shutdown()
            thread.join()


def write_starter(core: int, folder: Path) -> Path:
    """A script that starts Chromium, with all its processes on one core."""
    path = folder / "chromium-on-one-core"
    words = ["exec", "taskset", "-c", str(core), find_chromium()]
    path.write_text(f'#!/bin/sh\n{shlex.join(words)} "$@"\n', encoding="utf-8")
    path.chmod(0o755)
    return path


def chromium_version() -> str:
    """What Chromium says of itself: a name and a number, "Google Chrome 156.0.1.2"."""
    done = subprocess.run(
        [find_chromium(), "--version"], capture_output=True, text=True, check=True, timeout=60
    )
    found = re.match(r"\D*[\d.]+", done.stdout)
    return found[0] if found else done.stdout.strip()


def processes_on(core: int) -> list[psutil.Process]:
    """Chromium's processes: those under this one that are kept on the core."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it has ended meanwhile
            if process.cpu_affinity() == [core]:
                found.append(process)
    return found


class Watch:
    """Who used the core while the block ran.

    Attributes:
        others: share of the time that the core worked for other programs.
    """

    others = 0.0

    def __init__(self, core: int) -> None:
        self._core = core

    def __enter__(self) -> Watch:
        self._before = self._times()
        return self

    def __exit__(self, *error: object) -> None:
        elapsed, busy, own = np.subtract(self._times(), self._before)
        self.others = max(0.0, float((busy - own) / elapsed))

    def _times(self) -> tuple[float, float, float]:
        """Seconds of the clock, of the core's work, and of that for the browser."""
        at = psutil.cpu_times(percpu=True)[self._core]
        each = [one.cpu_times() for one in processes_on(self._core)]
        own = sum(one.user + one.system for one in each)
        return time.perf_counter(), sum(at) - at.idle - at.iowait - at.guest - at.guest_nice, own
