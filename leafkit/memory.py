"""Memory between stages: what one stage is done with must not count against the next."""

from __future__ import annotations

import ctypes
import gc
import sys


def release_memory() -> None:
    """Collect garbage and give freed memory back to the system; glibc keeps it otherwise, and peaks add up."""
    gc.collect()
    if sys.platform == "linux":
        try:
            ctypes.CDLL("libc.so.6").malloc_trim(0)
        except (OSError, AttributeError):
            return  # another libc: nothing to give back
