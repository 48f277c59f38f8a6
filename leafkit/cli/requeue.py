"""A SLURM job whose time is up is queued again, where SIGUSR1 asks for that."""

from __future__ import annotations

import os
import shutil
import subprocess

from leafkit.core.console import log, warn

_TIMEOUT_S = 20


def requeue_job() -> None:
    """Put this process's SLURM job into the queue again; the first process alone does so. Nothing
    outside of SLURM.
    """
    job = os.environ.get("SLURM_JOB_ID", "")
    if not job.isdecimal() or os.environ.get("SLURM_PROCID", "0") != "0":
        return
    command = shutil.which("scontrol")
    if command is None:
        warn(f"job {job} is not queued again: there is no scontrol here")
        return
    try:
        done = subprocess.run(
            [command, "requeue", job],
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired) as err:
        warn(f"job {job} is not queued again: {err}")
        return
    if done.returncode:
        warn(f"job {job} is not queued again: {done.stderr.strip()[:200]}")
    else:
        log(f"job {job} is queued again and goes on from here")
