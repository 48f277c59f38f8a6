"""Ways of doing the same thing, each in a process of its own, taking turns so that a machine's
moods hit all alike.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any


def take_turns(
    script: str, ways: Mapping[str, Sequence[str]], turns: int
) -> dict[str, list[dict[str, Any]]]:
    """Figures of each way, a dict per turn.

    Args:
        script: prints its figures as JSON on the last line of its output.
        ways: words of the command line by name.
        turns: how often each way runs.
    """
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in ways}
    for turn in range(turns):
        for name, words in ways.items():
            found[name].append(measure(script, words))
            print(f"turn {turn + 1}, {name}: {found[name][-1]}", flush=True)
    return found


def measure(script: str, words: Sequence[str]) -> dict[str, Any]:
    """Figures that one run of a script prints on its last line."""
    done = subprocess.run(
        [sys.executable, script, *words], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} failed: {done.stderr[-2000:]}")
    try:
        figures: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
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
