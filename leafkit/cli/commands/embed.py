"""``leafkit embed``: the corpus as an index of teacher vectors, here and in a store."""

from __future__ import annotations

from collections.abc import Sequence

from leafkit.cli.recipe_words import read_recipe
from leafkit.core.console import log

_SHORT_KEYS = ("to", "to_precision")  # of the section embed


def run(words: Sequence[str]) -> int:
    """Embed the documents and say where the index is; with ``to=`` send them to a store."""
    full = [f"embed.{word}" if word.partition("=")[0] in _SHORT_KEYS else word for word in words]
    recipe = read_recipe("embed", full)
    from leafkit.pipeline.document_index import run_embed
    from leafkit.pipeline.run import open_run
    from leafkit.pipeline.stores.send import check_store, send_index

    # many may be at work on one store, or each on its own
    with open_run(recipe, trains=False, is_alone=False) as run:
        if recipe.embed.to:
            check_store(run)
        folder = run_embed(run)
        log(f"index: {folder}")
        if recipe.embed.to:
            log(send_index(run, folder))
    return 0
