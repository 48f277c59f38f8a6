"""``leafkit teach``: the recipe's teacher alone."""

from __future__ import annotations

from collections.abc import Sequence

from leafkit.cli.recipe_words import read_recipe
from leafkit.core.console import log


def run(words: Sequence[str]) -> int:
    """Train the recipe's stages and say where the teacher is."""
    recipe = read_recipe("teach", words, may_run_dry=True)
    from leafkit.pipeline.run import open_run
    from leafkit.pipeline.teacher.teach import run_teach

    with open_run(recipe) as run:
        log(f"teacher: {run_teach(run)}")
    return 0
