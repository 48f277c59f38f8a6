"""``leafkit show``: a resolved recipe, or what its keys mean."""

from __future__ import annotations

from collections.abc import Sequence

from leafkit.cli.recipe_words import read_recipe
from leafkit.config.reference import Key, annotated_yaml, find_keys, value_at
from leafkit.core.console import console


def run(words: Sequence[str]) -> int:
    """Print the recipe as YAML with what each key means; words without '=' ask for the keys of
    sections instead.
    """
    sections = [word for word in words if "=" not in word]
    recipe = read_recipe("show", [word for word in words if "=" in word])
    if not sections:
        console.print(annotated_yaml(recipe), markup=False, end="")
        return 0
    for section in sections:
        for key in find_keys(recipe, section):
            console.print(_describe(key, value_at(recipe, key.name)), markup=False)
    return 0


def _describe(key: Key, value: object) -> str:
    """A key, its value and what it may be on one line, what it means on the next."""
    rules = ", ".join(part for part in (key.kind, key.unit, key.allowed) if part)
    return f"{key.name}: {value!r}  ({rules})\n    {key.doc}"
