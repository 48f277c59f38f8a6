"""This machine: what it is called, how much memory it has, and giving freed memory back."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import sys
from pathlib import Path


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
        kind: "RssAnon" is what it holds itself, "RssFile" pages of mapped files, which the system takes back at will,
            "VmHWM" the most of both together so far.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{kind}:"))


def release_memory() -> None:
    """Collect garbage and give freed memory back to the system; glibc keeps it otherwise, and peaks of stages add up."""
    gc.collect()
    if sys.platform == "linux":
        try:
            ctypes.CDLL("libc.so.6").malloc_trim(0)
        except (OSError, AttributeError):
            return  # another libc: nothing to give back
