"""The recipe that the words of a command line name."""

from __future__ import annotations

from collections.abc import Sequence

from leafkit.cli.shorthand import expand
from leafkit.config.load import load_recipe
from leafkit.config.recipe import Recipe
from leafkit.core.errors import UsageError


def read_recipe(
    words: Sequence[str], *, may_run_dry: bool = False, has_short_keys: bool = False
) -> Recipe:
    """The recipe of ``recipe=NAME key=value ...``.

    Args:
        words: of the command line.
        may_run_dry: the command can run on tiny stand-ins, where the words say dry_run=true.
        has_short_keys: the command takes short keys, and a pair of models instead of a recipe.

    Raises:
        UsageError: no recipe or several are named, a key or value is wrong, or dry_run=true is not
            for this command.
    """
    if has_short_keys:
        words = expand(words)
    names = [w.removeprefix("recipe=") for w in words if w.startswith("recipe=")]
    if len(names) != 1:
        raise UsageError("name one recipe with recipe=NAME", "leafkit recipes lists them")
    recipe = load_recipe(names[0], [w for w in words if not w.startswith("recipe=")])
    if not recipe.dry_run:
        return recipe
    if not may_run_dry:
        raise UsageError(
            "dry_run=true is for the commands that train: teach and mine", "leave dry_run out"
        )
    from leafkit.pipeline.teacher.dry_run import plan_dry_run

    return plan_dry_run(recipe)
