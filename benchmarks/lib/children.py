"""Measurements in processes of their own: peak memory is one way's alone, and ways that take turns
share a machine's moods.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

Figures = dict[str, Any]


def take_turns(
    script: str, ways: Mapping[str, Sequence[str]], turns: int, *, is_alternating: bool = False
) -> dict[str, list[Figures]]:
    """Figures of each way, one for each turn.

    Args:
        script: prints its figures as JSON on the last line of its output.
        ways: words of the command line by name.
        turns: how often each way runs.
        is_alternating: every other turn goes through the ways backwards.
    """
    found: dict[str, list[Figures]] = {name: [] for name in ways}
    for turn in range(turns):
        names = list(ways)[::-1] if is_alternating and turn % 2 else list(ways)
        for name in names:
            found[name].append(measure(script, ways[name]))
            print(f"turn {turn + 1}, {name}: {found[name][-1]}", flush=True)
    return found


def measure(
    script: str, words: Sequence[str], environment: Mapping[str, str] | None = None
) -> Figures:
    """Figures that one run of a script prints on its last line.

    Args:
        script: its path.
        words: its command line.
        environment: variables set beside those of this process.

    Raises:
        SystemExit: it failed, or printed no figures; with the end of what it said.
    """
    done = subprocess.run(
        [sys.executable, script, *words],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | dict(environment or {}),
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} failed: {done.stderr[-3000:]}")
    try:
        figures: Figures = json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError) as err:
        raise SystemExit(
            f"{' '.join(words)} printed no figures: {done.stdout[-500:]!r} {done.stderr[-1500:]}"
        ) from err
    return figures


def median(found: Sequence[Mapping[str, Any]], key: str) -> float:
    """Median over the turns."""
    return statistics.median(float(f[key]) for f in found)


def ratios(
    ours: Sequence[Mapping[str, Any]], theirs: Sequence[Mapping[str, Any]], key: str
) -> tuple[float, float, float]:
    """Ours / theirs in the same turn: median, smallest and largest over the turns."""
    each = [float(a[key]) / float(b[key]) for a, b in zip(ours, theirs, strict=True)]
    return statistics.median(each), min(each), max(each)


def ratio(ours: Sequence[Mapping[str, Any]], theirs: Sequence[Mapping[str, Any]], key: str) -> str:
    """``ratios`` as text."""
    return "{:.2f} [{:.2f}, {:.2f}]".format(*ratios(ours, theirs, key))
