"""The machine and this process: what ran, and how much memory it took."""

from __future__ import annotations

import importlib
import os
import platform
import resource
import time
from types import TracebackType

from leafkit.core.system import cpu_name


def peak_mib() -> float:
    """Most memory this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def describe(
    *packages: str, num_threads: int | None = None, hardware: str = "", python: bool = False
) -> str:
    """Hardware, threads and versions in words.

    Args:
        packages: modules whose versions are named.
        num_threads: of the measured work; None says how many cores there are.
        hardware: what was measured; the processor unless said.
        python: whether Python's version is named.
    """
    size = f"{num_cores()} cores" if num_threads is None else f"{num_threads} thread(s)"
    versions = [
        f"{name.replace('_', '-')} {importlib.import_module(name).__version__}" for name in packages
    ]
    if python:
        versions.append(f"Python {platform.python_version()}")
    return ", ".join([hardware or cpu_name(), size, *versions])


class Cost:
    """What a block of code costs this process.

    Attributes:
        seconds: of the clock.
        cpu_s: of all threads.
        before_mib: peak memory of the process when the block began.
        peak_mib: when it ended.
    """

    seconds = cpu_s = before_mib = peak_mib = 0.0

    def __enter__(self) -> Cost:
        self.before_mib = peak_mib()
        self._started = time.perf_counter(), time.process_time()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.seconds = time.perf_counter() - self._started[0]
        self.cpu_s = time.process_time() - self._started[1]
        self.peak_mib = peak_mib()

    def figures(self) -> dict[str, float]:
        """The attributes, for JSON."""
        return {
            "seconds": self.seconds,
            "cpu_s": self.cpu_s,
            "before_mib": self.before_mib,
            "peak_mib": self.peak_mib,
        }
