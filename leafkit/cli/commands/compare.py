"""``leafkit compare``: several runs in one report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from leafkit.core.console import log
from leafkit.core.errors import UsageError


def run(words: Sequence[str]) -> int:
    """Write the page and say where it is."""
    options = dict(w.split("=", 1) for w in words if w.startswith("out="))
    folders = [Path(w) for w in words if not w.startswith("out=")]
    if len(folders) < 2:
        raise UsageError(
            "compare takes two runs or more",
            "leafkit compare checkpoints/A checkpoints/B [out=comparison.html]",
        )
    from leafkit.core.own_files import check_own, write_own
    from leafkit.report.compare import read_reports, render_comparison

    target = Path(options.get("out") or "comparison.html")
    check_own([target])
    write_own(target, render_comparison(read_reports(folders)))
    log(f"comparison: {target}")
    return 0
