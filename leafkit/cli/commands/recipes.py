"""``leafkit recipes``: the recipes that can be named."""

from __future__ import annotations

from collections.abc import Sequence

from leafkit.cli.plain_words import refuse_words
from leafkit.config.load import describe_recipe, list_recipes
from leafkit.core.console import console


def run(words: Sequence[str]) -> int:
    """Print every recipe's name, first line and file."""
    refuse_words("recipes", words)
    for name, path in list_recipes().items():
        console.print(f"{name}: {describe_recipe(path)} ({path})", markup=False)
    return 0
