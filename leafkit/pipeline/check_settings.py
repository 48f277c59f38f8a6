"""Settings that come from Python instead of a recipe, held to the same rules; and those that a kind
of student has no use for.
"""

from __future__ import annotations

from collections.abc import Collection

from leafkit.config import Recipe
from leafkit.config.effects import find_idle
from leafkit.config.validate import find_problems
from leafkit.core.console import log
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


def say_idle(command: str, recipe: Recipe, given: Collection[str] = ()) -> None:
    """Say in one line which settings change nothing for the student that is asked for: a recipe's
    file, and a ``StudentConfig``, may serve several kinds. What somebody writes on the command line
    is refused instead; see ``leafkit.config.effects``.

    Args:
        command: distill or rescue.
        recipe: resolved.
        given: keys of the command line, which were looked at there.
    """
    idle = [word for key, word in find_idle(command, recipe).items() if key not in given]
    if idle:
        kind = recipe.student.kind
        article = "an" if kind == "instant" else "a"
        log(
            f"{article} {kind} student as it is set has no use for {', '.join(idle)} "
            f"(leafkit {command} ... KEY=VALUE says what each needs)",
            style="dim",
        )
