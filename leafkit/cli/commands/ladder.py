"""``leafkit ladder``: cheap rungs below a finished recipe's student, and the router over them."""

from __future__ import annotations

from collections.abc import Sequence

from leafkit.cli.recipe_words import read_recipe
from leafkit.core.checkpoint_layout import LADDER, LADDER_PAGE_FILE, ROUTER_FOLDER
from leafkit.core.console import console, log


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
            held = [one for one in found.promises if one.is_held]
            if held:
                log(f"serve it: leafkit serve {opened.folder} promise={held[-1].promise:g}")
            else:
                log("no promise is held by less than the teacher alone", style="yellow")
    return 0
