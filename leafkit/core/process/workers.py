"""Processes that do not outlive who started them, and which of them still run."""

from __future__ import annotations

import os
import threading
import time

_LOOK_EVERY_S = 0.2  # of a worker for its parent


def end_with_parent(ancestor: int) -> None:
    """End this worker as soon as the process ``ancestor`` has ended, however it did.

    A pool's workers wait for work that never comes where the process that wants it is killed.

    Args:
        ancestor: id of the process that made the pool. It is this one's parent, or that of a server
            between the two which forks the workers and ends with it.
    """
    parent = os.getppid()

    def watch() -> None:
        # where the parent was dead before it could be asked for, the second tells
        while os.getppid() == parent and is_running(ancestor):
            time.sleep(_LOOK_EVERY_S)
        os._exit(1)

    threading.Thread(target=watch, name="end-with-parent", daemon=True).start()


def is_running(process: int) -> bool:
    """Whether there is a process of this id on this machine."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True
