"""Settings that come from Python instead of a recipe, held to the same rules."""

from __future__ import annotations

from leafkit.config import Recipe
from leafkit.config.validate import find_problems
from leafkit.core.errors import UsageError


def check_settings(recipe: Recipe, *sections: str) -> None:
    """Refuse values that no recipe may have.

    Args:
        recipe: holds the sections that were given, and defaults beside them.
        sections: that were given.

    Raises:
        UsageError: naming every wrong value.
    """
    problems = [
        f"{key}: {what}" for key, what in find_problems(recipe) if key.partition(".")[0] in sections
    ]
    if problems:
        raise UsageError(
            "; ".join(problems), "leafkit show recipe=measure prints every key with its default"
        )
