"""Kill runs at random moments, by every signal, and look at what is left: no process, no lock, and
the same command finishes with the same result.

    python tests/support/kills.py FOLDER --kills 200 --seed 0 --corpus default

Children are forked from a process that has imported everything, so that a kill costs no imports.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import random
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import tiny

from leafkit.cli import main
from leafkit.core.errors import LeafkitError
from leafkit.core.process.lock import exclusive

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
# a command's status by how it was stopped; 0 where it was faster, the plain signal where it had
# not yet begun to listen
STATUSES = {
    signal.SIGKILL: {-signal.SIGKILL, 0},
    signal.SIGTERM: {143, -signal.SIGTERM, 0},
    signal.SIGINT: {130, 1, -signal.SIGINT, 0},
}
# files that hold times: manifests, how long vectors took, the card
_WITH_TIMES = {"manifest.json", ".verified.json", "made.json", "README.md"}
KILLS_PER_RUN = 4  # that a run suffers before it may finish
GONE_WITHIN_S = 5.0
_USED = (
    "faiss",
    "ir_measures",
    "leafkit.cli.write_report",
    "leafkit.pipeline.collect",
    "leafkit.pipeline.distill",
    "leafkit.pipeline.finished",
    "leafkit.report.card",
    "lightning",
)
CORPORA = {"small": ["rich", "click"], "default": None}  # packages of the built-in corpus


@dataclass(slots=True)
class Tally:
    """What was tried, and what was wrong."""

    kills: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    runs: int = 0
    faults: list[str] = field(default_factory=list)


def import_all() -> None:
    """Import what the commands use, once for all children."""
    # a child that is forked after the tokenizers' threads have run waits for them for ever
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    for name in _USED:
        importlib.import_module(name)


def fork_command(words: Sequence[str], out: Path) -> int:
    """Start a command in a forked process and session of its own; its id."""
    child = os.fork()
    if child:
        return child
    status = 99
    try:
        os.setsid()
        with out.open("wb") as stream:
            os.dup2(stream.fileno(), 1)
            os.dup2(stream.fileno(), 2)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
        sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
        status = main.main(list(words))
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def wait_for(child: int) -> int:
    """The status that a process ended with, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def members_of(session: int) -> list[int]:
    """Processes of a session that still run."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def run_whole(words: Sequence[str], checkpoints: Path, out: Path) -> float:
    """Run a command to its end; seconds.

    Raises:
        AssertionError: it fails.
    """
    started_s = time.perf_counter()
    child = fork_command([*words, f"checkpoints={checkpoints}"], out)
    assert wait_for(child) == 0, out.read_text(errors="replace")[-2000:]
    return time.perf_counter() - started_s


def kill_once(
    words: Sequence[str], checkpoints: Path, out: Path, *, moment_s: float, number: signal.Signals
) -> tuple[int, list[str]]:
    """Start a command, kill it at a moment, and say what it leaves that it should not.

    Returns:
        Its status, and faults in words.
    """
    child = fork_command([*words, f"checkpoints={checkpoints}"], out)
    time.sleep(moment_s)
    try:
        # as a terminal does for Ctrl-C, and a scheduler for the other two
        (os.killpg if number == signal.SIGINT else os.kill)(child, number)
    except ProcessLookupError:  # it has no session of its own yet
        os.kill(child, number)
    status = wait_for(child)
    faults = []
    if status not in STATUSES[number]:
        faults.append(f"status {status}")
    told = out.read_text(errors="replace")
    if "Traceback" in told:
        faults.append(f"a traceback: {told[max(0, told.index('Traceback') - 300) :][:3000]}")
    try:
        with exclusive(checkpoints):
            pass
    except LeafkitError as err:
        faults.append(f"a stale lock: {err}")
    deadline_s = time.monotonic() + GONE_WITHIN_S
    while (left := members_of(child)) and time.monotonic() < deadline_s:
        time.sleep(0.02)
    if left:
        faults.append(f"{len(left)} processes that live on")
        for process in left:
            os.kill(process, signal.SIGKILL)
    return status, faults


def outputs(checkpoints: Path) -> dict[str, str]:
    """sha256 of what a command made, by file; no times and no reports."""
    return {
        path.relative_to(checkpoints).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in _files(checkpoints)
    }


def _files(checkpoints: Path) -> Iterator[Path]:
    patterns = ("vectors/*/*", "corpora/*/*.jsonl", "*/index/*", "*/student/**/*", "*/tune/**/*")
    for pattern in patterns:
        for path in sorted(checkpoints.glob(pattern)):
            if path.is_file() and path.name not in _WITH_TIMES:
                yield path


def differences(first: Path, second: Path) -> list[str]:
    """Names of files that two folders do not have alike, to the bit."""
    here, there = outputs(first), outputs(second)
    return [
        name for name in sorted(here.keys() | there.keys()) if here.get(name) != there.get(name)
    ]


def scenarios(folder: Path, corpus: str) -> dict[str, list[str]]:
    """Commands by name: distillations of either kind and a teacher's stage, whose states are saved
    again and again, and the reading of the built-in corpus.
    """
    home = tiny.make_home(folder / "home")
    plain = tiny.tiny_recipe(home, folder / "unused")
    recipe = tiny.write_recipe(folder / "tiny.yaml", plain)
    stages = {"tune": tiny.tiny_stage(home, num_steps=30)}
    teaching = tiny.write_recipe(folder / "teaching.yaml", plain | {"stages": stages})
    packages = CORPORA[corpus]
    named = [] if packages is None else [f"data.packages={json.dumps(packages)}"]
    often = "trainer.checkpoint_minutes=0.001"
    return {
        "distill": ["distill", f"recipe={recipe}", "student.num_epochs=20", often],
        "corpus": ["embed", f"recipe={recipe}", "data.corpus=builtin:pydocs", *named],
        "teach": ["teach", f"recipe={teaching}", often],
        "static": ["distill", f"recipe={recipe}", "student.kind=static", often],
    }


def kill_runs(folder: Path, *, kills: int, seed: int, corpus: str) -> Tally:
    """Kill runs ``kills`` times, turn by turn of the scenarios, at moments drawn by ``seed``."""
    chooser, tally = random.Random(seed), Tally()
    import_all()
    out = folder / "out.txt"
    commands = scenarios(folder, corpus)
    length_s = {name: run_whole(w, folder / f"{name}-whole", out) for name, w in commands.items()}
    done = 0
    while done < kills:
        for name, words in commands.items():
            checkpoints = folder / f"{name}-{tally.runs}"
            for _ in range(min(KILLS_PER_RUN, kills - done)):
                # a run that goes on after a kill is shorter than the whole
                number = chooser.choice(SIGNALS)
                moment_s = length_s[name] * chooser.random() ** 1.5
                status, faults = kill_once(
                    words, checkpoints, out, moment_s=moment_s, number=number
                )
                tally.statuses[status] += 1
                tally.faults += [
                    f"{name}, {number.name} after {moment_s:.2f} s: {fault}" for fault in faults
                ]
                if status == 0:  # it was faster
                    break
                done += 1
                tally.kills[f"{name} {number.name}"] += 1
            try:
                run_whole(words, checkpoints, out)
                wrong = differences(folder / f"{name}-whole", checkpoints)
                tally.faults += [f"{name}: {len(wrong)} other files, {wrong[:3]}"] * bool(wrong)
            except AssertionError as err:
                tally.faults.append(f"{name}: does not finish: {err}")
            tally.runs += 1
    return tally


def main_() -> int:
    """Kill as the command line says and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--corpus", choices=CORPORA, default="default")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    tally = kill_runs(given.folder, kills=given.kills, seed=given.seed, corpus=given.corpus)
    lines = [
        f"kills: {dict(tally.kills)}",
        f"statuses: {dict(tally.statuses)}",
        f"runs that finished afterwards: {tally.runs}",
        f"faults: {len(tally.faults)}",
        *tally.faults,
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    return int(bool(tally.faults))


if __name__ == "__main__":
    raise SystemExit(main_())
