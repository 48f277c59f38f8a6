"""``leafkit explain``: what a key means, what it may be, where it counts and who sets it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from leafkit.config.effects import EFFECTS, has_effect
from leafkit.config.load import list_recipes, load_recipe
from leafkit.config.reference import ANY_NAME, Key, find_general_keys, find_keys, value_at
from leafkit.core.console import console
from leafkit.core.errors import UsageError


def run(words: Sequence[str]) -> int:
    """Print one paragraph for each key, or each key of a section.

    Raises:
        UsageError: no key is named, or there is none of that name; the hint has the nearest.
    """
    if not words:
        raise UsageError("explain takes a key or a section", "leafkit explain student.num_epochs")
    for word in words:
        for key in find_general_keys(word.partition("=")[0]):
            for line in _describe(key):
                console.print(line, markup=False)
    return 0


def _describe(key: Key) -> Iterator[str]:
    rules = ", ".join(part for part in (key.kind, key.unit, key.allowed) if part)
    yield f"{key.name}  ({rules})"
    yield f"    {key.doc}"
    yield f"    default: {key.default!r}"
    commands = [name for name in EFFECTS if name != "show" and has_effect(name, key.name)]
    yield f"    counts in: leafkit {', '.join(commands)}"
    for name, path in list_recipes().items():
        recipe = load_recipe(str(path))
        values = dict.fromkeys(
            repr(value_at(recipe, found.name))
            for found in (find_keys(recipe, key.name) if ANY_NAME not in key.name else ())
        )
        if values and values != {repr(key.default): None}:
            yield f"    recipe {name}: {', '.join(values)}"
