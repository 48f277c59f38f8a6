"""``leafkit recipes``: the recipes that can be named, and a copy of one to change."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from leafkit.config.load import describe_recipe, find_recipe, list_recipes, load_recipe
from leafkit.core.console import console, log
from leafkit.core.errors import UsageError, explain_write_errors

_COPY = "leafkit recipes copy own-data mine.yaml"


def run(words: Sequence[str]) -> int:
    """Print every recipe's name, first line and file; or copy one.

    Raises:
        UsageError: the words are neither, or the file is there already.
    """
    if not words:
        for name, path in list_recipes().items():
            console.print(f"{name}: {describe_recipe(path)} ({path})", markup=False)
        return 0
    if words[0] != "copy":
        raise UsageError(f"recipes takes no words but copy, not {words[0]!r}", _COPY)
    if len(words) != 3:
        raise UsageError("recipes copy takes a recipe and a file", _COPY)
    _copy(words[1].removeprefix("recipe="), Path(words[2]))
    return 0


def _copy(name: str, target: Path) -> None:
    """Write a recipe as it is, comments included, to a file of its own."""
    source = find_recipe(name)
    if target.is_dir():
        target = target / source.name
    if target.suffix not in {".yaml", ".yml"}:
        target = target.with_name(f"{target.name}.yaml")
    if target.exists() or target.is_symlink():
        raise UsageError(f"{target} exists", "name another file, or move it away")
    with explain_write_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("x", encoding="utf-8") as stream:
            stream.write(source.read_text(encoding="utf-8"))
    command = (
        "distill" if load_recipe(str(target)).teacher.source or name == "own-data" else "teach"
    )
    log(f"{target}: change it, then leafkit {command} recipe={target}")
