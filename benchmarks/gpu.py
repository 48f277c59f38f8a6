"""Everything of leafkit that needs a GPU, in ten minutes on one card.

    python benchmarks/gpu.py [--only training kalm-v2 ...] [--minutes 9.5] [--out FOLDER]
    python benchmarks/gpu.py --tiny          # on the processor: shows that the script works
    python benchmarks/gpu.py --report-only   # the report again, from the rows that are there

Every part runs in a process of its own under a limit of its own: one that hangs, crashes or runs
out of memory costs the others nothing. What is measured is written at once, a line of JSON each,
to FOLDER/DATE-gpu.jsonl; at the end a dated report stands beside it. A part that misses its bar of
MFU (model FLOPs utilisation; the formula is in gpu_parts/arithmetic.py) keeps a profile.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from gpu_parts.card import CARD
from gpu_parts.contrastive import CONTRASTIVE
from gpu_parts.encoding import MPNET, QWEN2
from gpu_parts.equality import EQUALITY
from gpu_parts.indexes import INDEXES
from gpu_parts.part import PROFILE, SKIPPED, Part, Row, Setting, Verdict, append, read_rows
from gpu_parts.scores import SCORES
from gpu_parts.training import TRAINING
from gpu_parts.whole import WHOLE
from lib.arguments import make_parser
from lib.report import REPORTS, command, save, table, title, today

PARTS = {
    part.name: part
    for part in (
        CARD,
        EQUALITY,
        TRAINING,
        QWEN2,
        MPNET,
        SCORES,
        CONTRASTIVE,
        INDEXES,
        WHOLE,
    )
}
_MINUTES = 9.5  # ten with the imports of this process
_TINY_PATIENCE = 4  # a processor at work for others may take as many times the limit
_LEAST_S = 10.0  # below which a part is not begun
_REPORT_S = 5.0  # kept for the report
_LAST_WORDS = 400  # characters of what a failed process said
ENDED, SECONDS = "ended", "seconds"  # of the row that closes a part
DONE = "done"


def run_part(part: Part, options: argparse.Namespace, rows: Path, left_s: float) -> str:
    """Measure a part in a process of its own; how it ended, in words.

    Args:
        part: to measure.
        options: of this call.
        rows: file that the process adds its rows to.
        left_s: seconds left of the whole run.
    """
    limit_s = min(limit_of(part, options.tiny), left_s)
    if limit_s < _LEAST_S:
        return "not begun: the time of the whole run was up"
    words = [__file__, "--child", part.name, "--rows", str(rows), "--device", options.device]
    words += ["--tiny"] * options.tiny
    if options.peak_tflops:
        words += ["--peak-tflops", str(options.peak_tflops)]
    with tempfile.TemporaryDirectory() as folder, open(Path(folder) / "log", "w+b") as said:
        child = subprocess.Popen(
            [sys.executable, *words, "--folder", folder],
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that its own children end with it
        )
        try:
            status = child.wait(limit_s)
        except subprocess.TimeoutExpired:
            return f"ended at its limit of {limit_s:.0f} s"
        finally:
            _end(child)
        if status == 0:
            return DONE
        said.seek(0)
        lines = said.read().decode(errors="replace").strip().splitlines()
    last = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
    how = f"signal {-status}" if status < 0 else f"status {status}"
    return f"failed ({how}): {last[:_LAST_WORDS]}"


def limit_of(part: Part, is_tiny: bool) -> float:
    """Seconds that a part may take at most."""
    return part.limit_s * (_TINY_PATIENCE if is_tiny else 1)


def _end(child: subprocess.Popen[bytes]) -> None:
    """End a process with all that it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def measure(options: argparse.Namespace, rows: Path) -> None:
    """All parts that were asked for, in their order, within the time."""
    rows.parent.mkdir(parents=True, exist_ok=True)
    rows.unlink(missing_ok=True)
    append(rows, {"about": command(), "date": today(), "tiny": options.tiny})
    began_s = time.monotonic()
    for name in options.only:
        started_s = time.monotonic()
        left_s = 60 * options.minutes - _REPORT_S - (started_s - began_s)
        print(f"{name} ...", flush=True)
        ended = run_part(PARTS[name], options, rows, left_s)
        seconds = time.monotonic() - started_s
        append(rows, {"part": name, ENDED: ended, SECONDS: round(seconds, 1)})
        print(f"  {ended}, {seconds:.0f} s", flush=True)


def run_child(options: argparse.Namespace) -> None:
    """Measure one part here, adding its rows to the file."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    setting = Setting(options.device, options.tiny, options.peak_tflops, options.folder)
    PARTS[options.child].run(
        setting, lambda row: append(options.rows, {"part": options.child} | row)
    )


def make_report(found: Sequence[Row]) -> list[str]:
    """The rows as Markdown: bars first, then every part."""
    about = next((row for row in found if "about" in row), {"about": "unknown", "date": "unknown"})
    of_part = {
        name: [row for row in found if row.get("part") == name]
        for name in PARTS
        if any(row.get("part") == name for row in found)
    }
    machine = next((row["machine"] for row in of_part.get("card", []) if "machine" in row), "")
    lines = [
        *title("GPU"),
        f"{about['about']}, measured {about['date']}"
        f"{', ' + machine if machine else '; nothing is known of the machine'}.",
    ]
    if about.get("tiny"):
        lines += ["**Tiny mode: models of no size. No figure here means anything.**"]
    bars = [
        [v.what, v.bar, v.found, {None: "", True: "reached", False: "**missed**"}[v.is_reached]]
        for name, rows in of_part.items()
        for v in verdicts(name, rows)
    ]
    lines += ["", "## Bars", "", *table(["what", "bar", "found", ""], bars)]
    for name, rows in of_part.items():
        lines += report_part(PARTS[name], rows, bool(about.get("tiny")))
    return lines


def verdicts(name: str, rows: Sequence[Row]) -> list[Verdict]:
    """The bars of a part over its lines alone."""
    return PARTS[name].judge([row for row in rows if "way" in row])


def report_part(part: Part, rows: Sequence[Row], is_tiny: bool) -> list[str]:
    """A part's section: how it ended, its table, what was skipped, its profiles."""
    end = next((row for row in rows if ENDED in row), None)
    ended = "Cut short with the whole run." if end is None else ""
    if end is not None:
        took = f"{end[SECONDS]:.0f} s of at most {limit_of(part, is_tiny):.0f}"
        ended = f"Took {took}." if end[ENDED] == DONE else f"**{end[ENDED]}** ({took})."
    lines = [f"## {part.title}", "", part.about, ended, ""]
    measured = [row for row in rows if "way" in row]
    if measured:
        shown = {k: v for k, v in part.columns.items() if any(k in row for row in measured)}
        cells = [
            [_cell(row.get(key), form) for key, (_, form) in shown.items()] for row in measured
        ]
        lines += table([head for head, _ in shown.values()], cells)
    lines += [line for row in rows if SKIPPED in row for line in (f"Skipped: {row[SKIPPED]}.", "")]
    for row in rows:
        if PROFILE in row:
            profiled = row[PROFILE].rstrip().splitlines()
            lines += [f"Where the time goes, {row['what']}:", "", "```", *profiled, "```", ""]
    return lines


def _cell(value: object, form: str) -> str:
    if value is None:
        return ""
    return f"{value:{form}}".replace("|", "/")


def main() -> int:
    """Measure and write the report; with --child, one part here."""
    parser = make_parser(__doc__)
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--tiny", action="store_true", help="models of no size, on the processor")
    parser.add_argument(
        "--minutes",
        type=float,
        default=0.0,
        help=f"of measuring; {_MINUTES} unless said, {_TINY_PATIENCE} times that if --tiny",
    )
    parser.add_argument("--device", default="", help="cuda unless --tiny")
    parser.add_argument(
        "--peak-tflops", type=float, help="dense bf16 peak of a card that the table lacks"
    )
    parser.add_argument("--out", type=Path, default=REPORTS, help="of rows and report")
    parser.add_argument("--report-only", action="store_true", help="measure nothing")
    for name, kind in (("--child", str), ("--rows", Path), ("--folder", Path)):
        parser.add_argument(name, type=kind, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.device = options.device or ("cpu" if options.tiny else "cuda")
    options.minutes = options.minutes or _MINUTES * (_TINY_PATIENCE if options.tiny else 1)
    if options.child:
        run_child(options)
        return 0
    # as Ctrl-C does: the part under way ends too, and the rows stay
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    rows = options.out / f"{today()}-gpu{'-tiny' * options.tiny}.jsonl"
    if not options.report_only:
        measure(options, rows)
    found = read_rows(rows)
    path = save(make_report(found), f"gpu{'-tiny' * options.tiny}", options.out)
    print(f"{rows}\n{path}")
    unfinished = [row for row in found if row.get(ENDED, DONE) != DONE]
    return 1 if unfinished else 0


if __name__ == "__main__":
    sys.exit(main())
