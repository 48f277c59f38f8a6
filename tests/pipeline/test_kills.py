"""Runs that are killed at random moments leave no process, no lock and no other result; many more
kills are a matter of ``python tests/support/kills.py``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny


@pytest.mark.slow
@pytest.mark.timeout(1300)
def test_killed_runs_leave_nothing_behind_and_finish_alike(tmp_path: Path) -> None:
    script = Path(__file__).parents[1] / "support" / "kills.py"
    words = [str(tmp_path), "--kills", "8", "--seed", "1", "--corpus", "small"]
    support = os.pathsep.join([str(script.parent), str(tiny.ROOT)])
    done = subprocess.run(
        [sys.executable, str(script), *words],
        env=tiny.environment(PYTHONPATH=support),
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "faults: 0" in done.stdout
