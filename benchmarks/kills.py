"""A thousand stops at any moment: does the same command end in the undisturbed run's bits?

    python benchmarks/kills.py --folder FOLDER [--stops 1000] [--seed 0] [--minutes N] [--resume]
    python benchmarks/kills.py --folder FOLDER --report-only

Teaching, distilling, static students, embedding and the reading of the built-in corpus, in tiny
recipes that save their state at about every step, get SIGKILL, SIGTERM, SIGINT or SIGUSR1: at a
random moment of the undisturbed run's time, or at a random one of the files that it changes (a
save, a commit, a publication). What was stopped is started again, possibly stopped again, until it
ends; then every weight, vector and loss must be the undisturbed run's, bit for bit. Some trainings
go on with another number of processes than they began with: these are compared as numbers.

A stop must leave no process, no lock, no traceback, and the status that is promised. What was tried
is written to FOLDER/stops.jsonl as it comes, a run a line; --resume goes on there. A run with a
fault keeps its folder. Writes a dated report.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lib.arguments import make_parser
from lib.forked import MOMENTS, SIGNALS, Aim, import_used, in_child
from lib.kept import differences, largest_differences
from lib.machine import describe
from lib.pinned import thread_variables
from lib.report import command, publish, table, title
from lib.stopping import (
    EMBEDDING,
    Stage,
    Whole,
    run_whole,
    stages_of,
    stop_once,
    write_inputs,
)

# read by libraries when they are imported; who forks may have no threads
ENVIRONMENT = thread_variables(1) | {"COLUMNS": "200"}
MOST_STOPS_PER_RUN = 4
SHARE_AT_CHANGES = 0.5  # of the stops; half of these come at the change itself
LATEST_AFTER_CHANGE_S = 0.01
EVERY_OTHER_PROCESSES = 12  # such a run goes on with another number of processes
BAR_APART = 1e-6  # of a loss, where the number of processes changes
STOPS_FILE = "stops.jsonl"
Row = dict[str, Any]


def draw_aim(chooser: random.Random, whole: Whole, turn: int = 0) -> Aim:
    """A signal, and a moment of an undisturbed run's time or of the files that it changes.

    Args:
        chooser: of everything.
        whole: the undisturbed run.
        turn: times that the run was stopped before: what is left of it is shorter.
    """
    number, share = chooser.choice(SIGNALS), chooser.random() ** (1 + turn)
    if chooser.random() >= SHARE_AT_CHANGES:
        return Aim(number, 0, share * whole.seconds)
    after_s = chooser.choice((0.0, chooser.uniform(0, LATEST_AFTER_CHANGE_S)))
    return Aim(number, 1 + int(share * whole.num_changes), after_s)


def stop_run(
    number: int, name: str, stage: Stage, whole: Whole, *, folder: Path, chooser: random.Random
) -> Row:
    """Stop one run again and again, let it end, and compare it with the undisturbed one.

    Args:
        number: of the run; some change their number of processes.
        name: of its stage.
        stage: its command.
        whole: the undisturbed run.
        folder: for its artifacts.
        chooser: of moments.
    """
    root, fault = folder / f"run-{number}", ""
    shutil.rmtree(root, ignore_errors=True)  # of a benchmark that was cut short
    num_stops = chooser.randint(1, MOST_STOPS_PER_RUN)
    processes = [1] * (num_stops + 1)
    has_change = stage.trains and number % EVERY_OTHER_PROCESSES == 0
    if has_change:
        first = chooser.choice((1, 2))
        processes = [first if turn % 2 == 0 else 3 - first for turn in range(num_stops + 1)]
    row: Row = {"run": number, "stage": name, "stops": [], "faults": []}
    for turn, size in enumerate(processes[:-1]):
        aim, victim = draw_aim(chooser, whole, turn), chooser.randrange(size)
        stop = stop_once(stage, root, folder, aim, processes=size, victim=victim)
        row["stops"].append(stop)
        row["faults"] += [f"{_describe(stop)}: {told}" for told in stop.pop("faults")]
        if stop["status"] == 0:  # it was faster
            break
    else:
        _, fault = run_whole(stage, root, folder, processes[-1])
    if fault:
        row["faults"].append(fault)
    elif has_change:
        row["apart"] = largest_differences(whole.folder, root)
        if row["apart"]["losses"] > BAR_APART:
            row["faults"].append(f"losses are {row['apart']['losses']:.1e} apart")
    else:
        row["faults"] += _told(differences(whole.folder, root))
    if not row["faults"]:
        shutil.rmtree(root)
    return row


def _describe(stop: Mapping[str, Any]) -> str:
    return f"{stop['signal']} {stop['moment']}, {stop['processes']} process(es)"


def _told(wrong: Sequence[str]) -> list[str]:
    return [f"{len(wrong)} differences: {', '.join(wrong[:5])}"] if wrong else []


def compare_fresh(name: str, stage: Stage, whole: Whole, folder: Path) -> Row:
    """The same command in a process that a shell starts: has it the forked one's bits?"""
    root = folder / f"{name}-fresh"
    shutil.rmtree(root, ignore_errors=True)
    done = subprocess.run(
        [sys.executable, "-m", "leafkit.cli", *stage.words, f"checkpoints={root}"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
    )
    if done.returncode:
        return {"fresh": name, "faults": [f"status {done.returncode}: {done.stderr[-1500:]}"]}
    return {"fresh": name, "faults": _told(differences(whole.folder, root))}


def prepare(folder: Path, names: Sequence[str]) -> tuple[dict[str, Stage], dict[str, Whole]]:
    """The stages with their undisturbed runs; what they import is then imported here.

    Raises:
        SystemExit: an undisturbed run fails.
    """
    import torch

    torch.set_num_threads(1)
    shutil.rmtree(folder / "home", ignore_errors=True)
    in_child(lambda: write_inputs(folder))
    stages = {name: stage for name, stage in stages_of(folder).items() if name in names}
    wholes = {}
    for name, stage in stages.items():
        import_used(lambda stage=stage: _run_here(stage, folder / "warm"))
        gc.freeze()  # pages that children share
        root = folder / f"{name}-whole"
        shutil.rmtree(root, ignore_errors=True)
        wholes[name], fault = run_whole(stage, root, folder)
        if fault:
            raise SystemExit(f"{name}, undisturbed: {fault}")
        print(
            f"{name}: {wholes[name].seconds:.1f} s, {wholes[name].num_changes} changes of files",
            flush=True,
        )
    return stages, wholes


def _run_here(stage: Stage, root: Path) -> None:
    from leafkit.cli import main

    shutil.rmtree(root, ignore_errors=True)
    with (root.parent / "warm.txt").open("w") as stream:
        os.dup2(stream.fileno(), 1)
    if main.main([*stage.words, f"checkpoints={root}"]):
        raise SystemExit(f"{stage.words[0]} fails")


def measure(folder: Path, options: argparse.Namespace) -> None:
    """Stop runs until there are enough stops, or the time is up."""
    began_s, rows = time.monotonic(), read_rows(folder)
    stages, wholes = prepare(folder, options.stages)
    for name in stages.keys() - {row.get("fresh") for row in rows}:
        add_row(folder, compare_fresh(name, stages[name], wholes[name], folder))
    number = 1 + max((row["run"] for row in rows if "run" in row), default=-1)
    num_stops = count_stops(rows)
    while num_stops < options.stops:
        if options.minutes and time.monotonic() - began_s > 60 * options.minutes:
            break
        # another stage in each turn through the numbers that change their processes
        name = list(stages)[(number + number // EVERY_OTHER_PROCESSES) % len(stages)]
        chooser = random.Random(f"{options.seed} {number}")
        row = stop_run(number, name, stages[name], wholes[name], folder=folder, chooser=chooser)
        add_row(folder, row)
        num_stops += count_stops([row])
        told = "; ".join(row["faults"]) or "as undisturbed"
        print(f"run {number}, {name}, {num_stops} of {options.stops} stops: {told}", flush=True)
        number += 1


def stops_of(rows: Sequence[Row]) -> list[Row]:
    """The stops that came before the command's end, with the stage that they hit."""
    return [
        stop | {"stage": row["stage"]}
        for row in rows
        for stop in row.get("stops", ())
        if stop["status"] != 0
    ]


def count_stops(rows: Sequence[Row]) -> int:
    """How many ``stops_of`` there are."""
    return len(stops_of(rows))


def add_row(folder: Path, row: Row) -> None:
    """Keep what was tried."""
    with (folder / STOPS_FILE).open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(row) + "\n")


def read_rows(folder: Path) -> list[Row]:
    """What was tried so far."""
    path = folder / STOPS_FILE
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def counts(stops: Sequence[Row], key: str, order: Sequence[str]) -> list[str]:
    """A table of numbers of stops, by a key and by signal."""
    found = Counter((stop[key], stop["signal"]) for stop in stops)
    signals = [number.name for number in SIGNALS]
    rows = []
    for value in [v for v in order if any(stop[key] == v for stop in stops)]:
        each = [found[value, name] for name in signals]
        rows.append([value, *map(str, each), str(sum(each))])
    totals = [sum(found[v, name] for v in order) for name in signals]
    return table(["", *signals, "all"], [*rows, ["all", *map(str, totals), str(sum(totals))]])


def make_report(rows: Sequence[Row]) -> list[str]:
    """Counts of stops, what the runs ended in, and every fault."""
    runs, stops = [row for row in rows if "run" in row], stops_of(rows)
    alike = [row for row in runs if "apart" not in row and not row["faults"]]
    apart = [row["apart"] for row in runs if "apart" in row and count_stops([row])]
    faults = [(row, told) for row in rows for told in row["faults"]]
    fresh = [row["fresh"] for row in rows if "fresh" in row and not row["faults"]]
    stages = list(dict.fromkeys(row["stage"] for row in runs))
    moments = [*MOMENTS[:2], EMBEDDING, *MOMENTS[2:]]
    lines = [
        *title("Stops at any moment"),
        f"{command()}, {describe('torch', 'lightning', num_threads=1, python=True)}. "
        f"**{len(stops):,} stops, {len(runs):,} runs, {len(faults):,} faults.** "
        f"{len(alike):,} runs ended in the undisturbed run's bits: every weight, vector, loss and "
        "figure by query, and no file more or less.",
        "",
        "Half of the stops come at a random moment of the undisturbed run's time, half at a random "
        f"one of the files that it changes or up to {1000 * LATEST_AFTER_CHANGE_S:.0f} ms later. "
        f"A run is stopped up to {MOST_STOPS_PER_RUN} times. Commands are forked from a process "
        f"that has imported everything; of {', '.join(fresh) or 'no stage'} a process that was "
        "started afresh gave the same bits.",
        "",
        "## By stage",
        "",
        *counts(stops, "stage", stages),
        "## By moment",
        "",
        *counts(stops, "moment", moments),
        "## With another number of processes",
        "",
    ]
    if apart:
        largest = {key: max(found[key] for found in apart) for key in apart[0]}
        lines += [
            f"{len(apart):,} trainings went on with two processes where they had one, or the other "
            f"way round, some several times. Largest difference from the undisturbed run of one "
            f"process: {largest['losses']:.1e} of a loss (bar: {BAR_APART:.0e}), "
            f"{largest['weights']:.1e} of a weight.",
            "",
        ]
    else:
        lines += ["No run changed it.", ""]
    told = [
        f"- {row.get('stage', row.get('fresh'))}, run {row.get('run', 'fresh')}: {what}"
        for row, what in faults
    ]
    return [*lines, "## Faults", "", *(told or ["None."]), ""]


def main() -> int:
    """Stop, compare and report; status 1 where there is a fault."""
    parser = make_parser(__doc__, can_print=True)
    parser.add_argument("--folder", type=Path, required=True, help="of runs and of what was tried")
    parser.add_argument("--stops", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=0, help="end after so many")
    names = list(stages_of(Path()))
    parser.add_argument("--stages", nargs="+", choices=names, default=names)
    parser.add_argument("--resume", action="store_true", help="go on with what FOLDER holds")
    parser.add_argument("--report-only", action="store_true", help="stop nothing")
    options = parser.parse_args()
    folder: Path = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if not options.report_only:
        if os.environ != os.environ | ENVIRONMENT:
            os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | ENVIRONMENT)
        if (folder / STOPS_FILE).exists() and not options.resume:
            raise SystemExit(f"{folder} holds stops already: --resume, or another --folder")
        measure(folder, options)
    rows = read_rows(folder)
    publish(make_report(rows), "kills", print_only=options.print_only)
    return int(any(row["faults"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
