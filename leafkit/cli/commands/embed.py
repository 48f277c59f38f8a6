"""``leafkit embed``: the corpus as an index of teacher vectors."""

from __future__ import annotations

from collections.abc import Sequence

from leafkit.cli.recipe_words import read_recipe
from leafkit.core.console import log


def run(words: Sequence[str]) -> int:
    """Embed the documents and say where the index is."""
    recipe = read_recipe("embed", words)
    from leafkit.pipeline.document_index import run_embed
    from leafkit.pipeline.run import open_run

    # many may be at work on one store, or each on its own
    with open_run(recipe, trains=False, is_alone=False) as run:
        log(f"index: {run_embed(run)}")
    return 0
