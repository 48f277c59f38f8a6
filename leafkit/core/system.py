"""This machine: what it is called, how much memory it has, keeping freed memory, giving it back."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import resource
import sys
from pathlib import Path

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)
_KEPT_BYTES = 2**30
_STATUS = Path("/proc/self/status")  # of this process, on Linux
_SET_BY_USER = (
    "LD_PRELOAD",
    "GLIBC_TUNABLES",
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_TRIM_THRESHOLD_",
    "MALLOC_TOP_PAD_",
)


def cpu_name() -> str:
    """Model name of the processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or "unknown")


def memory_gib() -> float:
    """Physical memory in GiB."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def resident_mib(kind: str = "RssAnon") -> float:
    """Memory of this process in MiB, on Linux.

    Args:
        kind: "RssAnon" is what it holds itself, "RssFile" pages of mapped files, which the system
            takes back at will, "VmHWM" the most of both together so far.
    """
    lines = _STATUS.read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{kind}:"))


def peak_memory_gib() -> float:
    """The most memory that this process has held so far, in GiB, without what it was before it
    became leafkit: ``ru_maxrss`` starts at what the process that called it held.
    """
    if _STATUS.is_file():
        return resident_mib("VmHWM") / 2**10
    # in bytes on macOS, in KiB elsewhere
    unit = 1 if platform.system() == "Darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def keep_freed_memory() -> bool:
    """Let this process take large blocks of memory again without asking the system, in huge pages;
    before torch takes any.

    glibc maps every block above 32 MiB anew, and each of its pages is a fault at first touch, in
    every training step. What is kept is given back by ``release_memory``. Linux with glibc only;
    a user's own choice of an allocator or its settings (``LD_PRELOAD``, ``GLIBC_TUNABLES``,
    ``MALLOC_*``) stands.

    Returns:
        Whether it was done.
    """
    if sys.platform != "linux" or any(os.environ.get(name) for name in _SET_BY_USER):
        return False
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch asks for huge pages
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)) and bool(
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
    )


def tune_gc() -> None:
    """Raise the thresholds of Python's cyclic garbage collector, so that it runs less often.

    A full collection visits every object, a million of them after the imports, and finds hardly
    any to free. ``release_memory`` collects between steps.
    """
    gc.set_threshold(50_000, 20, 20)


def release_memory() -> None:
    """Collect what is unreachable and give freed memory back to the system; glibc keeps it
    otherwise, and the peaks of the steps add up.
    """
    gc.collect()
    if sys.platform == "linux":
        try:
            ctypes.CDLL("libc.so.6").malloc_trim(0)
        except (OSError, AttributeError):
            return  # another libc: nothing to give back
