"""A finished run's report: as JSON, as a page, and in short on the console."""

from __future__ import annotations

from pathlib import Path

from leafkit.core.artifact import publish
from leafkit.core.checkpoint_layout import CARD_FILE, STUDENT, TABLES_OF_REPORT, tables_folder
from leafkit.core.console import console, log
from leafkit.core.own_files import check_own, write_own
from leafkit.core.watch import watch_tree
from leafkit.report.console import print_summary
from leafkit.report.files import table_files
from leafkit.report.page import render_report
from leafkit.results import RunReport


def check_places(folder: Path, stem: str, *, has_card: bool = False) -> None:
    """Before the work: see that the report, and the cards, will replace nothing of the user's.

    Raises:
        LeafkitError: they would; the message names the file.
    """
    cards = [folder / CARD_FILE, folder / STUDENT / CARD_FILE] if has_card else []
    check_own([folder / f"{stem}.html", *cards])
    check_own([folder / f"{stem}.json"], RunReport.is_untouched)


def write_report(folder: Path, stem: str, report: RunReport) -> None:
    """Write STEM.json, STEM.html and the tables in STEM.tables/ into ``folder``, and print the
    summary.

    Raises:
        LeafkitError: files of the user's stand there, or they cannot be written.
    """
    check_places(folder, stem)
    write_own(folder / f"{stem}.html", render_report(report))
    report.save(folder / f"{stem}.json")
    tables = folder / tables_folder(stem)
    with publish(tables, TABLES_OF_REPORT, {}, {}) as draft:
        for name, text in table_files(report).items():
            (draft / name).write_text(text, encoding="utf-8")
    watch_tree(tables)
    print_summary(report, console)
    log(f"report: {folder / f'{stem}.html'}; its tables as Markdown, CSV and LaTeX: {tables}")
