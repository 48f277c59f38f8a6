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


def release_memory() -> None:
    """Collect garbage and give freed memory back to the system; glibc keeps it otherwise, and peaks of stages add up."""
    gc.collect()
    if sys.platform == "linux":
        try:
            ctypes.CDLL("libc.so.6").malloc_trim(0)
        except (OSError, AttributeError):
            return  # another libc: nothing to give back
