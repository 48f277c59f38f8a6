"""What glibc is told: fewer faults for large blocks, whose memory goes back when it is asked for,
and users' choices stand.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys

import pytest

from leafkit.cli.main import main
from leafkit.core.system import keep_freed_memory, release_memory

BLOCKS = """
import resource, sys
from leafkit.core.system import keep_freed_memory, release_memory, resident_mib
if "keep" in sys.argv: print(keep_freed_memory())
import numpy as np
np.ones(2**24, dtype=np.float32)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20): np.ones(2**24, dtype=np.float32)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
kept = resident_mib()
release_memory()
print(kept, resident_mib())
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="glibc's settings, Linux only")


def run(*words, **environment):
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MALLOC_", "GLIBC_", "LD_PRELOAD"))
    }
    done = subprocess.run(
        [sys.executable, "-c", BLOCKS, *words],
        capture_output=True,
        text=True,
        env=clean | environment,
        check=True,
    )
    return done.stdout.split()


def test_large_blocks_are_taken_again_without_faults_and_given_back():
    without = int(run()[0])
    did, with_it, kept, released = run("keep")
    assert did == "True"
    assert int(with_it) < 0.2 * without
    assert float(kept) - float(released) > 32  # MiB of the 64 that a block has


@pytest.mark.parametrize("setting", ["GLIBC_TUNABLES", "MALLOC_MMAP_THRESHOLD_"])
def test_who_has_chosen_settings_keeps_them(setting):
    value = "glibc.malloc.mmap_threshold=131072" if setting == "GLIBC_TUNABLES" else "131072"
    assert run("keep", **{setting: value})[0] == "False"


def test_other_systems_are_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.delenv("THP_MEM_ALLOC_ENABLE", raising=False)
    assert keep_freed_memory() is False
    assert "THP_MEM_ALLOC_ENABLE" not in os.environ


def test_a_command_looks_for_garbage_seldom_and_a_release_looks_at_once():
    before = gc.get_threshold()
    try:
        assert main(["--version"]) == 0
        assert gc.get_threshold()[0] >= 10_000
        loop: list[object] = []
        loop.append(loop)
        number = id(loop)
        assert any(id(found) == number for found in gc.get_objects())
        del loop
        release_memory()
        assert not any(id(found) == number for found in gc.get_objects())
    finally:
        gc.set_threshold(*before)
