"""One process at a time; nothing that it starts keeps the lock, or outlives it."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from leafkit.core.errors import LeafkitError
from leafkit.core.process.lock import exclusive, in_turn

HOLD = """
from pathlib import Path
from leafkit.core.process.lock import exclusive
with exclusive(Path("held")):
    print("held", flush=True)
    input()
print("released", flush=True)
"""


@pytest.fixture
def holder(run_python: Callable[[str], subprocess.Popen[str]]) -> Any:
    """Another process that holds the folder ``held``."""
    process = run_python(HOLD)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_process_is_refused_and_told_who_holds_the_folder(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    told = rf"held is in use by process {holder.pid} on "
    with pytest.raises(LeafkitError, match=told) as caught, exclusive(tmp_path / "held"):
        pass
    assert "wait for it to end" in caught.value.hint
    # the refused one wrote nothing
    assert f"process {holder.pid}" in (tmp_path / "held" / ".lock").read_text()


def test_the_lock_ends_with_its_block(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    out, _ = holder.communicate("\n")
    assert out == "released\n"
    with exclusive(tmp_path / "held"):
        pass


def test_the_lock_ends_with_a_killed_process(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    holder.send_signal(signal.SIGKILL)
    assert holder.wait() == -signal.SIGKILL
    with exclusive(tmp_path / "held"):
        assert f"process {os.getpid()} on " in (tmp_path / "held" / ".lock").read_text()


def test_the_lock_ends_with_an_exception(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), exclusive(tmp_path):
        raise RuntimeError
    with exclusive(tmp_path):
        pass


def test_who_waits_for_a_turn_gets_it_when_the_other_is_done(
    tmp_path: Path,
    holder: subprocess.Popen[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: Any,
) -> None:
    caplog.set_level("INFO", "leafkit")
    monkeypatch.setattr(logging.getLogger("leafkit"), "propagate", True)
    got = threading.Event()

    def wait() -> None:
        with in_turn(tmp_path / "held" / ".lock", "the thing"):
            got.set()

    waiting = threading.Thread(target=wait)
    waiting.start()
    assert not got.wait(0.3)
    assert f"waiting for the thing, which process {holder.pid} on " in caplog.text
    holder.communicate("\n")
    assert got.wait(5)
    waiting.join()
    with in_turn(tmp_path / "held" / ".lock", "the thing"):
        pass


# --- what a holder starts

# each prints the ids of the processes that it started and then waits for ever
STARTED = {
    "fork": """
child = os.fork()
if not child:
    time.sleep(30)
    os._exit(0)
print(child, flush=True)
""",
    "command": """
child = subprocess.Popen(["sleep", "30"])
print(child.pid, flush=True)
""",
    "fork within the lock of a fork": """
first, second = os.pipe()
child = os.fork()
if not child:
    grandchild = os.fork()
    if not grandchild:
        time.sleep(30)
        os._exit(0)
    os.write(second, str(grandchild).encode())
    time.sleep(30)
    os._exit(0)
print(child, int(os.read(first, 20)), flush=True)
""",
    "pool": """
pool = concurrent.futures.ProcessPoolExecutor(2, initializer=pydocs._start_worker,
                                              initargs=(os.getpid(),))
print(*{pool.submit(slowly).result() for _ in range(4)}, flush=True)
""",
}
HOLD_AND_START = """
import concurrent.futures, os, subprocess, time
from pathlib import Path
from leafkit.core.process.lock import exclusive
from leafkit.data import pydocs
def slowly():
    time.sleep(.05)
    return os.getpid()
with exclusive(Path("held")):
    {start}
    time.sleep(30)
"""


@pytest.mark.parametrize("way", STARTED)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_that_a_killed_holder_started_keeps_the_lock(
    tmp_path: Path,
    run_python: Callable[[str], subprocess.Popen[str]],
    way: str,
    number: signal.Signals,
) -> None:
    holder = run_python(HOLD_AND_START.format(start=STARTED[way].replace("\n", "\n    ")))
    assert holder.stdout is not None
    started = [int(word) for word in holder.stdout.readline().split()]
    try:
        with pytest.raises(LeafkitError, match="in use by"), exclusive(tmp_path / "held"):
            pass
        holder.send_signal(number)
        assert holder.wait() == -number
        wait_until_free(tmp_path / "held")
        if way == "pool":
            wait_until_gone(started)
    finally:
        end(started)
        holder.kill()
        holder.communicate()


def test_a_fork_of_the_holder_leaves_the_holders_lock_alone(tmp_path: Path) -> None:
    with exclusive(tmp_path):
        child = os.fork()
        if not child:
            os._exit(0)
        os.waitpid(child, 0)
        other = os.fork()
        if not other:
            try:
                with exclusive(tmp_path):
                    os._exit(1)
            except LeafkitError:
                os._exit(0)
        assert os.waitpid(other, 0)[1] == 0
    with exclusive(tmp_path):
        pass


def wait_until_free(folder: Path) -> None:
    """Wait a moment for a lock: a fork that was just made has yet to let go."""
    deadline = time.monotonic() + 2
    while True:
        try:
            with exclusive(folder):
                return
        except LeafkitError:
            assert time.monotonic() < deadline, f"{folder} stays locked"
        time.sleep(0.02)


def wait_until_gone(processes: list[int]) -> None:
    """Wait a few seconds for processes to end."""
    deadline = time.monotonic() + 5
    while any(is_running(process) for process in processes):
        assert time.monotonic() < deadline, f"still running: {processes}"
        time.sleep(0.05)


def is_running(process: int) -> bool:
    """Whether a process is there and more than an entry that nobody has read yet."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def end(processes: list[int]) -> None:
    """Kill what is left of the processes that a test started."""
    for process in filter(is_running, processes):
        os.kill(process, signal.SIGKILL)
