"""A command that has nothing to do says so, and shows the report that is there."""

from __future__ import annotations

import datetime
from pathlib import Path

from leafkit.config import Recipe
from leafkit.core.checkpoint_layout import REPORT_FILE, REPORT_PAGE_FILE
from leafkit.core.console import console, log
from leafkit.pipeline.finished import is_finished

SEARCH_HINT = 'try it: leafkit search {folder} "how do I invert a sparse matrix"'


def show_unchanged(recipe: Recipe) -> bool:
    """Whether a finished run of this recipe is there and nothing has changed since; then its
    summary is printed. Nothing heavy is imported.
    """
    if not is_finished(recipe):
        return False
    from leafkit.report.console import print_summary
    from leafkit.results import RunReport

    folder = Path(recipe.checkpoints) / recipe.name
    report = RunReport.load(folder / REPORT_FILE)
    at = datetime.datetime.fromtimestamp((folder / REPORT_FILE).stat().st_mtime)
    log(f"{recipe.name}: up to date; nothing has changed since {at:%Y-%m-%d %H:%M} ({folder})")
    print_summary(report, console)
    log(f"report: {folder / REPORT_PAGE_FILE}; force=true runs every step again")
    log(SEARCH_HINT.format(folder=folder))
    return True
