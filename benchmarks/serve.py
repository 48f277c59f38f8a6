"""Speed and memory of ``leafkit serve``: what the server adds to a query, beside others in the same
run.

    python benchmarks/serve.py --pair checkpoints/kalm-to-23m [--turns 3] [--seconds 10]
        [--requests 100000] [--sizes 10000 100000 1000000] [--peer-python PATH] [--vllm-python PATH]

The bare query path is the student as `leafkit search` asks it (the int8 graph where `leafkit
export recipe=NAME` has written one), without a server. Clients and servers share the cores, which
are the first --threads that this process may use, and talk over 127.0.0.1 alone; every loop is
bounded in requests and in seconds. --peer-python: an interpreter with fastapi, uvicorn and
sentence-transformers; --vllm-python: one with vLLM's build for processors. --tiny measures a pair
of no size, to show that the script works. Writes a dated report.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from lib.arguments import make_parser
from lib.children import Figures, median
from lib.clients import ask, ask_each
from lib.machine import describe, num_cores
from lib.pinned import thread_variables
from lib.report import command, publish, table, title
from lib.servers import free_port, started
from serve_parts.bare import measure_bare
from serve_parts.made import make_pair_folder, make_tiny_pair
from serve_parts.memory import memory_lines, watch_memory
from serve_parts.search import search_lines
from serve_parts.ways import Way, questions_of, ways_of

NUM_CLIENTS = 16
P50_BAR, RATE_BAR = 1.6, 0.7
WARM = 40


def start_bare(options: argparse.Namespace, processes: int) -> list[Figures]:
    """The bare path in so many processes of one machine at once; they begin together."""
    threads = max(1, options.threads // processes)
    words = [sys.executable, __file__, "--child", "bare", "--pair", str(options.pair)]
    words += ["--threads", str(threads), "--seconds", str(options.seconds)]
    children = [
        subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | thread_variables(threads),
        )
        for _ in range(processes)
    ]
    found = []
    try:
        for child in children:
            assert child.stdout is not None
            if child.stdout.readline().strip() != "ready":
                raise SystemExit("the bare query path did not start; see above")
        for child in children:
            assert child.stdin is not None
            child.stdin.write("go\n")
            child.stdin.flush()
        for child in children:
            found.append(json.loads(child.communicate()[0].strip().splitlines()[-1]))
    finally:
        for child in children:
            child.kill()
            child.wait()
    return found


def measure_way(way: Way, options: argparse.Namespace, texts: Sequence[str]) -> Figures:
    """One client, then many, against a server that was started for it."""
    port = free_port()
    with started(
        way.words(port),
        port,
        ready=way.ready,
        environment=way.environment(options.threads),
        within_s=way.starts_within_s,
    ) as server:
        requests = [way.request(text) for text in texts]
        ask(port, requests, num_clients=2, seconds=120, most=WARM)
        bounds = {"seconds": options.seconds, "most": 1_000_000}
        alone = ask(port, requests, num_clients=1, **bounds)
        many = ask(port, requests, num_clients=NUM_CLIENTS, **bounds)
        for load in (alone, many):
            load.check(f"{way.name}: queries")
        answered = ask_each(port, requests)
        return {
            "alone": alone.figures(),
            "many": many.figures(),
            "resident_mib": server.resident_mib(),
            "starts_s": server.started_s,
            "smallest_cosine": way.smallest_cosine(answered),
        }


def take_turns(
    ways: Sequence[Way], options: argparse.Namespace, texts: Sequence[str]
) -> tuple[dict[str, list[Figures]], dict[str, list[Figures]]]:
    """Figures of the bare path and of every way, one for each turn; every other turn goes through
    the ways backwards.
    """
    bare: dict[str, list[Figures]] = {"1": [], "2": []}
    found: dict[str, list[Figures]] = {way.name: [] for way in ways}
    for turn in range(options.turns):
        for processes in (1, 2):
            figures = start_bare(options, processes)
            whole = {"p50_ms": median(figures, "p50_ms"), "rate": sum(f["rate"] for f in figures)}
            bare[str(processes)].append(figures[0] | whole)
            print(f"turn {turn + 1}, bare path, {processes} process(es): {whole}", flush=True)
        for way in ways[:: -1 if turn % 2 else 1]:
            found[way.name].append(measure_way(way, options, texts))
            print(f"turn {turn + 1}, {way.name}: {found[way.name][-1]}", flush=True)
    return bare, found


def ratio_cell(
    found: Sequence[Figures], key: tuple[str, str], bare: Sequence[Figures], bar: float | None
) -> str:
    """A figure over the bare path's in the same turn: median, smallest and largest, and whether a
    bar is reached (at most ``bar`` for times, at least for rates).
    """
    part, what = key
    each = [f[part][what] / b[what] for f, b in zip(found, bare, strict=True)]
    cell = f"{np.median(each):.2f} [{min(each):.2f}, {max(each):.2f}]"
    if bar is None:
        return cell
    is_reached = np.median(each) <= bar if what == "p50_ms" else np.median(each) >= bar
    sign = "<=" if what == "p50_ms" else ">="
    return f"{cell}; bar {sign} {bar:g} {'reached' if is_reached else '**missed**'}"


def speed_lines(
    bare: dict[str, list[Figures]], found: dict[str, list[Figures]], ways: Sequence[Way]
) -> list[str]:
    """The table of queries: each way's median over the turns, and ratios to the bare path."""
    one, two = bare["1"], bare["2"]
    rows = [
        [
            "bare query path, one process",
            f"{median(one, 'p50_ms'):.2f}",
            "",
            f"{median(one, 'rate'):,.0f}",
            "",
            f"{median(one, 'resident_mib'):,.0f}",
            "",
        ],
        ["bare query path, two processes", "", "", f"{median(two, 'rate'):,.0f}", "", "", ""],
    ]
    for way in ways:
        turns = found[way.name]
        base = two if way.workers > 1 else one
        is_ours = way.name.startswith("leafkit")
        p50_bar = P50_BAR if is_ours and way.workers == 1 else None
        rows.append(
            [
                way.name,
                f"{median([t['alone'] for t in turns], 'p50_ms'):.2f}",
                ratio_cell(turns, ("alone", "p50_ms"), one, p50_bar),
                f"{median([t['many'] for t in turns], 'rate'):,.0f}",
                ratio_cell(turns, ("many", "rate"), base, RATE_BAR if is_ours else None),
                f"{median(turns, 'resident_mib'):,.0f}",
                f"{min(t['smallest_cosine'] for t in turns):.6f}",
            ]
        )
    header = [
        "way",
        "one client, p50 ms",
        "over the bare path",
        f"{NUM_CLIENTS} clients, queries/s",
        "of the bare path's",
        "memory, MiB",
        "smallest cosine to the model",
    ]
    tails = ", ".join(
        f"{way.name} {median([t['alone'] for t in found[way.name]], 'p99_ms'):.1f} and "
        f"{median([t['many'] for t in found[way.name]], 'p99_ms'):.1f} ms"
        for way in ways
    )
    return [*table(header, rows), f"p99 with one and with {NUM_CLIENTS} clients: {tails}.", ""]


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = make_parser(__doc__, turns=3, can_print=True)
    parser.add_argument("--pair", type=Path, help="folder of a finished recipe")
    parser.add_argument("--threads", type=int, default=2, help="cores that all share")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--requests", type=int, default=100_000, help="while memory is watched")
    parser.add_argument("--memory-minutes", type=float, default=60.0, help="at most for it")
    parser.add_argument(
        "--sizes", type=int, nargs="*", default=[10_000, 100_000, 1_000_000], help="documents"
    )
    parser.add_argument(
        "--hnsw-sizes", type=int, nargs="*", help="those with an HNSW index too; all unless said"
    )
    parser.add_argument("--search-clients", type=int, default=4)
    parser.add_argument(
        "--work", type=Path, help="keeps made pairs; a temporary folder unless said"
    )
    parser.add_argument("--peer-python", default="", help="runs sentence-transformers and FastAPI")
    parser.add_argument("--vllm-python", default="", help="runs vLLM")
    parser.add_argument(
        "--tiny", action="store_true", help="a pair of no size; figures mean nothing"
    )
    parser.add_argument("--child", choices=("bare",), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.tiny:
        options.turns, options.seconds, options.requests = 1, 0.5, 300
        options.sizes, options.hnsw_sizes = [300], None
    elif options.pair is None:
        parser.error("--pair FOLDER, or --tiny")
    return options


def write_report(options: argparse.Namespace, work: Path) -> list[str]:
    """Measure everything; lines of Markdown."""
    if options.tiny:
        options.pair = make_tiny_pair(work / "tiny")
    texts, expected, words = questions_of(options.pair)
    ways, missing = ways_of(options, expected)
    bare, found = take_turns(ways, options, texts)
    speed = speed_lines(bare, found, ways)
    asked = [ways[0].request(text) for text in texts]
    environment = thread_variables(options.threads)
    memory = watch_memory(options, asked, environment)
    folders = {size: make_pair_folder(options.pair, work, size) for size in options.sizes}
    hnsw = options.sizes if options.hnsw_sizes is None else options.hnsw_sizes
    searches = search_lines(folders, hnsw, texts, options, environment=environment)
    machine = describe("uvicorn", "starlette", num_threads=options.threads, python=True)
    tiny = " **Tiny: the figures mean nothing.**" if options.tiny else ""
    return [
        *title("The server"),
        f"{command()}, {machine}, {num_cores()} cores for servers and clients together. Load "
        f"average at the end: {os.getloadavg()[0]:.1f}.{tiny}",
        "",
        f"{words} Servers on 127.0.0.1; medians of {options.turns} turns in changing order, ratios "
        "to the bare path of the same turn [smallest, largest].",
        "",
        "## Queries",
        "",
        *speed,
        *[f"Not measured: {reason}.\n" for reason in missing],
        "## Memory",
        "",
        *memory_lines(memory, options),
        "## Searches under load",
        "",
        *searches,
    ]


def main() -> None:
    """Measure and write the report; with --child, one measurement as JSON."""
    options = read_options()
    if options.child:
        measure_bare(options.pair, options.threads, options.seconds)
        return
    os.environ["HF_HUB_OFFLINE"] = "1"
    # whoever ends this process ends the server that it has started, too
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        lines = write_report(options, work)
    publish(lines, "serve", print_only=options.print_only)


if __name__ == "__main__":
    main()
