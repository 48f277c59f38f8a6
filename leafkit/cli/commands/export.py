"""``leafkit export``: the student for other tools."""

from __future__ import annotations

from collections.abc import Sequence

from leafkit.cli.recipe_words import read_recipe
from leafkit.core.console import log


def run(words: Sequence[str]) -> int:
    """Write the graphs and say where they are."""
    recipe = read_recipe("export", words)
    from leafkit.exporters.snippet import graph_snippet
    from leafkit.pipeline.export import run_export
    from leafkit.pipeline.run import open_run

    with open_run(recipe) as run:
        folder = run_export(run)
        log(f"graphs: {folder}; a query's vector without leafkit:\n\n{graph_snippet(folder)}\n")
    return 0
