"""The recipe of a recipe's teacher."""

from __future__ import annotations

from leafkit.config.load import load_recipe
from leafkit.config.recipe import Recipe


def load_teacher_recipe(recipe: Recipe) -> Recipe:
    """The recipe that trains a recipe's teacher, ``teacher.source=recipe:NAME``, with its
    overrides.

    Raises:
        UsageError: there is none, or it has mistakes.
    """
    return load_recipe(recipe.teacher.source.partition(":")[2], recipe.teacher.overrides)
