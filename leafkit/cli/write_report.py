"""A finished run's report: as JSON, as a page, and in short on the console."""

from __future__ import annotations

from pathlib import Path

from leafkit.core.console import console, log
from leafkit.core.errors import explain_write_errors
from leafkit.report.console import print_summary
from leafkit.report.page import render_report
from leafkit.results import RunReport


def write_report(folder: Path, stem: str, report: RunReport) -> None:
    """Write STEM.json and STEM.html into ``folder``, and print the summary."""
    write_text(folder / f"{stem}.html", render_report(report))
    with explain_write_errors(folder):
        report.save(folder / f"{stem}.json")
    print_summary(report, console)
    log(f"report: {folder / f'{stem}.html'}")


def write_text(path: Path, content: str) -> None:
    """Write a file, and its folder where there is none.

    Raises:
        LeafkitError: it cannot be written, with what to do.
    """
    with explain_write_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
