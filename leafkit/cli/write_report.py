"""A finished run's report: as JSON, as a page, and in short on the console."""

from __future__ import annotations

from pathlib import Path

from leafkit.core.artifact import publish
from leafkit.core.checkpoint_layout import TABLES_OF_REPORT, tables_folder
from leafkit.core.console import console, log
from leafkit.core.errors import explain_write_errors
from leafkit.core.watch import watch_tree
from leafkit.report.console import print_summary
from leafkit.report.files import table_files
from leafkit.report.page import render_report
from leafkit.results import RunReport


def write_report(folder: Path, stem: str, report: RunReport) -> None:
    """Write STEM.json, STEM.html and the tables in STEM.tables/ into ``folder``, and print the
    summary.
    """
    write_text(folder / f"{stem}.html", render_report(report))
    with explain_write_errors(folder):
        report.save(folder / f"{stem}.json")
    tables = folder / tables_folder(stem)
    with publish(tables, TABLES_OF_REPORT, {}, {}) as draft:
        for name, text in table_files(report).items():
            (draft / name).write_text(text, encoding="utf-8")
    watch_tree(tables)
    print_summary(report, console)
    log(f"report: {folder / f'{stem}.html'}; its tables as Markdown, CSV and LaTeX: {tables}")


def write_text(path: Path, content: str) -> None:
    """Write a file, and its folder where there is none.

    Raises:
        LeafkitError: it cannot be written, with what to do.
    """
    with explain_write_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
