"""``leafkit distill``: everything, from texts to a reported pair."""

from __future__ import annotations

from collections.abc import Sequence

from leafkit.cli.recipe_words import read_recipe
from leafkit.core.checkpoint_layout import (
    CARD_FILE,
    REPORT,
    REPORT_FILE,
    REPORT_PAGE_FILE,
    STUDENT,
)
from leafkit.core.console import log
from leafkit.core.watch import watch_folders


def run(words: Sequence[str]) -> int:
    """Distill the recipe's student and measure the pair; the report is in the recipe's folder."""
    recipe = read_recipe("distill", words, may_run_dry=True)
    from leafkit.cli.unchanged import SEARCH_HINT, show_unchanged

    if show_unchanged(recipe):
        return 0
    from leafkit.cli.write_report import check_places, write_report
    from leafkit.core.own_files import write_own
    from leafkit.pipeline.collect import collect_report
    from leafkit.pipeline.distill import run_distill
    from leafkit.pipeline.finished import record_finished
    from leafkit.pipeline.run import open_run
    from leafkit.report.card import render_card

    with open_run(recipe) as run:
        run.on_main(lambda: check_places(run.folder, REPORT, has_card=True))
        run_distill(run)
        # every process takes part: it opens corpora
        report = collect_report(run, " ".join(["leafkit distill", *words]))
        if run.is_main:
            # beside the report, and where the hub looks for it
            cards = [run.folder / CARD_FILE, run.folder / STUDENT / CARD_FILE]
            for card in cards:
                write_own(card, render_card(report))
            watch_folders(run.folder / STUDENT)
            write_report(run.folder, REPORT, report)
            written = [run.folder / name for name in (REPORT_FILE, REPORT_PAGE_FILE)]
            record_finished(run, [*cards, *written])
            log(SEARCH_HINT.format(folder=run.folder))
    return 0
