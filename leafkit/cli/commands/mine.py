"""``leafkit mine``: hard negatives of the recipe's stages."""

from __future__ import annotations

from collections.abc import Sequence

from leafkit.cli.recipe_words import read_recipe
from leafkit.core.checkpoint_layout import MINED_ROWS_FILE
from leafkit.core.console import log


def run(words: Sequence[str]) -> int:
    """Mine what the recipe's stages ask for and say where the rows are."""
    recipe = read_recipe("mine", words, may_run_dry=True)
    from leafkit.pipeline.run import open_run
    from leafkit.pipeline.teacher.teach import run_mine

    with open_run(recipe) as run:
        for folder in run_mine(run):
            log(f"mined rows: {folder / MINED_ROWS_FILE}")
    return 0
