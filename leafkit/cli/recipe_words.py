"""The recipe that the words of a command line name, and which of its words count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from leafkit.cli.needs import check_needs
from leafkit.cli.shorthand import expand
from leafkit.config.effects import (
    OF_A_RUN,
    find_useless,
    has_effect,
    key_of,
    refuse,
    refuse_of_graphs,
    refuse_useless,
)
from leafkit.config.load import load_recipe
from leafkit.config.recipe import Recipe
from leafkit.config.teacher_recipe import load_teacher_recipe
from leafkit.core.console import log
from leafkit.core.errors import UsageError
from leafkit.pipeline.check_settings import say_idle


def read_recipe(
    command: str,
    words: Sequence[str],
    *,
    may_run_dry: bool = False,
    has_short_keys: bool = False,
    writes_folders: bool = False,
) -> Recipe:
    """The recipe of ``recipe=NAME key=value ...``.

    Args:
        command: whose words they are.
        words: of the command line.
        may_run_dry: the command can run on tiny stand-ins, where the words say dry_run=true.
        has_short_keys: the command takes short keys, and a pair of models instead of a recipe.
        writes_folders: of export, it writes folders for other tools, for which no text is read.

    Raises:
        UsageError: no recipe or several are named, a key or value is wrong or changes nothing in
            this command, or dry_run=true is not for it.
    """
    if has_short_keys:
        words = expand(words)
    names = [w.removeprefix("recipe=") for w in words if w.startswith("recipe=")]
    if len(names) != 1:
        raise UsageError("name one recipe with recipe=NAME", "leafkit recipes lists them")
    settings = [w for w in words if not w.startswith("recipe=")]
    runs_dry = [w for w in settings if key_of(w) == "dry_run"]  # has an answer of its own below
    recipe = _load(command, names[0], [w for w in settings if w not in runs_dry])
    recipe = load_recipe(names[0], settings) if runs_dry else recipe
    if writes_folders:
        refuse_of_graphs(settings)
    else:
        check_needs(command, recipe)
    if command in ("distill", "rescue"):
        say_idle(command, recipe, [key_of(word) for word in settings])
    if not recipe.dry_run:
        return recipe
    if not may_run_dry:
        raise UsageError(
            "dry_run=true is for the commands that train: distill, teach and mine",
            "leave dry_run out",
        )
    if command == "distill":
        from leafkit.pipeline.student.dry_run import plan_dry_distill

        return plan_dry_distill(recipe)
    from leafkit.pipeline.teacher.dry_run import plan_dry_run

    return plan_dry_run(recipe)


def _load(command: str, name: str, settings: Sequence[str]) -> Recipe:
    """The recipe with the settings that are its own; those of its teacher's recipe go there, where
    the command trains it.
    """
    trains_teacher = command in {"distill", "show"}
    stages = [word for word in settings if trains_teacher and word.startswith("stages.")]
    recipe = load_recipe(name, [word for word in settings if word not in stages])
    if recipe.teacher.source.startswith("recipe:") and trains_teacher:
        return _with_teacher(command, recipe, settings)
    if stages:
        recipe = load_recipe(name, settings)
    refuse_useless(command, recipe, settings)
    return recipe


def _with_teacher(command: str, recipe: Recipe, settings: Sequence[str]) -> Recipe:
    """The recipe with the command line's settings of its teacher's training among the teacher's
    overrides.
    """
    shared = [word for word in settings if key_of(word) not in OF_A_RUN]
    forwarded = [word for word in shared if has_effect("teach", key_of(word))]
    overrides = [*recipe.teacher.overrides, *forwarded]
    recipe = replace(recipe, teacher=replace(recipe.teacher, overrides=overrides))
    try:
        teacher = load_teacher_recipe(recipe)
    except UsageError as err:
        raise UsageError(
            f"{err} (what the command line sets holds for {recipe.teacher.source}, too)",
            "leafkit distill recipe=own-data is for your own documents; a teacher that is "
            "finished is named by its folder: teacher.source=model:FOLDER",
        ) from err
    useless = dict(find_useless("teach", teacher, [key_of(word) for word in forwarded]))
    counting = [word for word in forwarded if key_of(word) not in useless]
    refuse(
        command,
        [
            (key, useless.get(key, why) if key.startswith("stages.") else why)
            for key, why in find_useless(command, recipe, [key_of(word) for word in shared])
            if key not in {key_of(word) for word in counting}
        ],
    )
    if counting and command == "distill":
        log(f"{recipe.teacher.source} is trained with {', '.join(counting)}", style="dim")
    overrides = [*overrides[: len(overrides) - len(forwarded)], *counting]
    return replace(recipe, teacher=replace(recipe.teacher, overrides=overrides))
