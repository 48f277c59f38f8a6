"""``leafkit ladder``: cheap rungs below a finished recipe's student, and the router over them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from leafkit.cli.recipe_words import read_recipe
from leafkit.core.checkpoint_layout import LADDER, LADDER_PAGE_FILE, ROUTER_FOLDER
from leafkit.core.console import console, log

if TYPE_CHECKING:
    from leafkit.results import Ladder


def run(words: Sequence[str]) -> int:
    """Fit the rungs, calibrate and verify the router; print what each promise takes."""
    recipe = read_recipe("ladder", words)
    from leafkit.pipeline.ladder.build import run_ladder
    from leafkit.pipeline.run import open_run

    with open_run(recipe) as opened:
        found = run_ladder(opened)
        if opened.is_main:
            console.print(str(found), markup=False)
            log(f"page: {opened.folder / LADDER / ROUTER_FOLDER / LADDER_PAGE_FILE}")
            _say_next(found, opened.folder)
    return 0


def _say_next(found: Ladder, folder: Path) -> None:
    """How to serve the highest promise that may be, or why none may."""
    offered = [one for one in found.promises if found.is_servable(one)]
    if offered:
        log(f"serve it: leafkit serve {folder} promise={offered[-1].promise:g}")
    else:
        log(found.offers(), style="yellow")
