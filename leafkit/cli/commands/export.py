"""``leafkit export``: the student for other tools."""

from __future__ import annotations

from collections.abc import Sequence

from leafkit.cli.recipe_words import read_recipe
from leafkit.core.console import log


def run(words: Sequence[str]) -> int:
    """Write the graphs and say where they are."""
    recipe = read_recipe("export", words)
    from leafkit.pipeline.export import run_export
    from leafkit.pipeline.run import open_run

    with open_run(recipe) as run:
        log(f"graphs: {run_export(run)}")
    return 0
