"""Tiny commands that are stopped, and what a stop leaves behind that it should not."""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib.forked import BEFORE, MOMENTS, STARTING, Aim, Child

# a command's status by how it was stopped; 0 where it was faster, the plain signal where it did not
# listen yet
STATUSES = {
    signal.SIGKILL: {-signal.SIGKILL, 0},
    signal.SIGTERM: {143, -signal.SIGTERM, 0},
    signal.SIGINT: {130, -signal.SIGINT, 0},
    signal.SIGUSR1: {143, -signal.SIGUSR1, 0},
}
LOST = 1  # status of a process that has lost another
EMBEDDING = "reading and embedding"  # what a command that trains nothing does most of the time
_SUPPORT = Path(__file__).parents[2] / "tests" / "support"
_GONE_WITHIN_S, _ENDS_WITHIN_S = 5.0, 300.0
_OTHERS_END_WITHIN_S, _LAUNCHER_ENDS_AFTER_S = 30.0, 1.0
_OUT_FILE = "out-{}.txt"  # of a rank


@dataclass(frozen=True, slots=True)
class Stage:
    """A command that is stopped.

    Attributes:
        words: of the command line.
        trains: a model, and may go on with another number of processes.
    """

    words: tuple[str, ...]
    trains: bool


@dataclass(frozen=True, slots=True)
class Whole:
    """An undisturbed run: where it lies, how long it took, how many files it changed."""

    folder: Path
    seconds: float
    num_changes: int


def write_inputs(folder: Path) -> None:
    """Models, texts and recipes of the stages."""
    sys.path.append(str(_SUPPORT))
    import tiny

    home = tiny.make_home(folder / "home")
    tiny.write_documents(home / "documents.jsonl", 400)
    plain = tiny.tiny_recipe(home, folder / "unused")
    stages = {"tune": tiny.tiny_stage(home, num_steps=16)}
    tiny.write_recipe(folder / "tiny.yaml", plain)
    tiny.write_recipe(folder / "teaching.yaml", plain | {"stages": stages})


def stages_of(folder: Path) -> dict[str, Stage]:
    """The commands by name, on what ``write_inputs`` wrote; trainings save their state at about
    every step.
    """
    often = "trainer.checkpoint_minutes=0.0005"
    distill = ("distill", f"recipe={folder / 'tiny.yaml'}", often)
    embed = ("embed", f"recipe={folder / 'tiny.yaml'}")
    documents = f"data.corpus=jsonl:{folder / 'home' / 'documents.jsonl'}"
    return {
        "teach": Stage(("teach", f"recipe={folder / 'teaching.yaml'}", often), True),
        "distill": Stage((*distill, "student.num_epochs=6"), True),
        "static": Stage((*distill, "student.kind=static"), True),
        "embed": Stage((*embed, documents), False),
        "corpus": Stage((*embed, "data.corpus=builtin:pydocs", 'data.packages=["click"]'), False),
    }


def start(
    stage: Stage,
    root: Path,
    folder: Path,
    *,
    processes: int = 1,
    aim: Aim | None = None,
    victim: int = 0,
) -> list[Child]:
    """A command as one process, or as several that meet.

    Args:
        stage: the command.
        root: folder of its artifacts.
        folder: for what its processes print.
        processes: of the launch.
        aim: when the process of rank ``victim`` is stopped; None lets all end.
        victim: see ``aim``.
    """
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": _free_port()}
    size, children = str(processes), []
    for rank in range(processes):
        place = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        place |= {"WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
        children.append(
            Child(
                stage.words,
                root,
                folder / _OUT_FILE.format(rank),
                aim=aim if rank == victim else None,
                environment=place | meeting if processes > 1 else None,
            )
        )
    return children


def _free_port() -> str:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return str(place.getsockname()[1])


def run_whole(stage: Stage, root: Path, folder: Path, processes: int = 1) -> tuple[Whole, str]:
    """Run a command to its end; with what went wrong in words, "" where nothing did."""
    children = start(stage, root, folder, processes=processes)
    statuses = [child.wait(_ENDS_WITHIN_S) for child in children]
    whole = Whole(root, children[0].seconds, children[0].board.num_changes)
    if any(status != 0 for status in statuses):
        told = (folder / _OUT_FILE.format(0)).read_text(errors="replace")[-1500:]
        return whole, f"it does not end well, statuses {statuses}: {told}"
    return whole, ""


def stop_once(
    stage: Stage, root: Path, folder: Path, aim: Aim, *, processes: int = 1, victim: int = 0
) -> dict[str, Any]:
    """Start a command and stop it.

    Returns:
        For JSON: the signal, the moment, the status and, under "faults", what was wrong, in words.
    """
    children = start(stage, root, folder, processes=processes, aim=aim, victim=victim)
    aimed = children[victim]
    aimed.stop()
    status = aimed.wait(_ENDS_WITHIN_S)
    faults, moment = [], aimed.board.moment
    if status not in STATUSES[aim.number]:
        faults.append("it does not end" if status is None else f"status {status}")
    have_met = moment != MOMENTS[STARTING]
    for child in [child for child in children if child is not aimed]:
        # who has met nobody waits for minutes; a launcher would end it
        other = child.wait(_OTHERS_END_WITHIN_S if have_met else _LAUNCHER_ENDS_AFTER_S)
        if other is None and have_met:
            faults.append(f"the other process lives on after {_OTHERS_END_WITHIN_S:.0f} s")
        elif other is not None and other not in STATUSES[aim.number] | {LOST}:
            faults.append(f"status {other} of the other process")
    return {
        "signal": aim.number.name,
        "at": "a change" if aim.change else "a time",
        "moment": moment if stage.trains or moment != MOMENTS[BEFORE] else EMBEDDING,
        "status": status,
        "processes": processes,
        "faults": faults + _left_behind(children, root, folder),
    }


def _left_behind(children: Sequence[Child], root: Path, folder: Path) -> list[str]:
    """Processes, tracebacks and a lock, in words."""
    from leafkit.core.checkpoint_layout import LOCK_FILE
    from leafkit.core.errors import LeafkitError
    from leafkit.core.process.lock import exclusive

    faults = []
    for rank, child in enumerate(children):
        left = child.end_others(_GONE_WITHIN_S)
        if left:
            faults.append(f"{left} processes live on")
        told = (folder / _OUT_FILE.format(rank)).read_text(errors="replace")
        if "Traceback" in told:
            faults.append(f"a traceback: {told[max(0, told.index('Traceback') - 300) :][:3000]}")
    for lock in root.rglob(LOCK_FILE):
        try:
            with exclusive(lock.parent):
                pass
        except LeafkitError as err:
            faults.append(f"a stale lock: {err}")
    return faults
